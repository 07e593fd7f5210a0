"""What a source leaves out: `ignore` of its configuration, `.rondelignore` at its root."""

import pytest

from controller.errors import StalledError, UsageError
from controller.model.settings import DirectorySource, GitSource
from controller.model.workflow import Input
from controller.source import ignoring
from tests.source_places import Repository, directory, following, git_source, put


class Place:
    """A folder, or a repository with the same files."""

    def __init__(self, tmp_path, kind: str) -> None:
        self.kind, self._tmp = kind, tmp_path
        self.root = tmp_path / "place"
        self._repository = Repository(self.root) if kind == "Git" else None
        self.root.mkdir(exist_ok=True)

    def open(self, *ignore: str):
        if self.kind == "Git":
            return git_source(self.root.as_uri(), self._tmp / "state", ignore=ignore)
        return directory(self.root, ignore=ignore)

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            put(self.root / name, text)
        if self._repository:
            self._repository.commit()

    def remove(self, name: str) -> None:
        (self.root / name).unlink()
        if self._repository:
            self._repository.commit()


@pytest.fixture(params=["Git", "Directory"])
def place(request, tmp_path):
    return Place(tmp_path, request.param)


FILES = {
    "a.yaml": "1",
    "drafts/b.yaml": "1",
    "drafts/deep/c.yaml": "1",
    "x.tmp": "1",
    "keep.tmp": "1",
}


async def test_ignored_files_are_no_part_of_the_snapshot_nor_of_inputs(place, tmp_path):
    place.write(FILES)
    async with following(place.open("drafts/", "*.tmp", "!keep.tmp")) as source:
        first = await source.snapshot()
        assert set(first.entries) == {"a.yaml", "keep.tmp"}
        await source.source.materialise(first.revision, Input(name="i", path=""), tmp_path / "i")
        with pytest.raises(StalledError, match="nothing at drafts"):
            await source.source.materialise(
                first.revision, Input(name="d", path="drafts"), tmp_path / "d"
            )
    assert {one.name for one in (tmp_path / "i").iterdir()} == {"a.yaml", "keep.tmp"}


async def test_the_place_says_itself_what_is_no_part_of_it(place):
    place.write({**FILES, ".rondelignore": "# ours\ndrafts/\n*.tmp\n"})
    async with following(place.open()) as source:
        assert set((await source.snapshot()).entries) == {"a.yaml"}
        place.write({".rondelignore": "drafts/deep\n"})
        seen = await source.until(lambda one: "drafts/b.yaml" in one.entries)
        assert set(seen.entries) == {"a.yaml", "drafts/b.yaml", "x.tmp", "keep.tmp"}
        place.remove(".rondelignore")
        seen = await source.until(lambda one: "drafts/deep/c.yaml" in one.entries)
        assert set(seen.entries) == set(FILES)


async def test_a_change_of_what_is_ignored_is_no_change(place):
    place.write({**FILES, ".rondelignore": "drafts/\n"})
    async with following(place.open()) as source:
        first = await source.snapshot()
        place.write({"drafts/b.yaml": "2"})
        if place.kind == "Git":  # a commit is news, but nothing in it is
            assert (await source.snapshot()).changed == frozenset()
        else:
            assert await source.quiet()
        place.write({"a.yaml": "2"})
        seen = await source.snapshot()
    assert seen.changed == frozenset({"a.yaml"})
    assert set(seen.entries) == set(first.entries)


async def test_the_operators_patterns_overrule_the_places_own(place):
    place.write({**FILES, ".rondelignore": "*.tmp\n"})
    async with following(place.open("!keep.tmp", "a.yaml")) as source:
        entries = set((await source.snapshot()).entries)
    assert entries == {"drafts/b.yaml", "drafts/deep/c.yaml", "keep.tmp"}


async def test_nothing_below_an_ignored_folder_comes_back(place):
    place.write({**FILES, ".rondelignore": "drafts/\n!drafts/b.yaml\n"})
    async with following(place.open()) as source:
        assert "drafts/b.yaml" not in (await source.snapshot()).entries


async def test_a_bad_line_is_a_fault_of_that_line_and_the_others_hold(place):
    lines = [
        "*.tmp",
        "!",
        "[z-a]",
        "*a*a*a*a*b",
        "x" * 2000,
        "**/a/**/b/**/c/**/d",
        "[[:alpha:]]",
        "drafts/",
    ]
    place.write({**FILES, ".rondelignore": "\n".join(lines)})
    async with following(place.open()) as source:
        first = await source.snapshot()
    assert set(first.entries) == {"a.yaml"}
    faults = [one for one in first.faults if one.file == ".rondelignore"]
    assert [one.line for one in faults] == [2, 3, 4, 5, 6]
    assert {one.reason for one in faults} == {"InvalidIgnore"}


async def test_a_list_of_patterns_that_is_too_long_ignores_nothing_and_is_a_fault(place):
    place.write({**FILES, ".rondelignore": "a\n" * (ignoring.MOST_LINES + 1)})
    async with following(place.open()) as source:
        first = await source.snapshot()
    assert set(first.entries) == set(FILES)
    assert "1000 lines" in first.faults[0].problem


async def test_a_link_is_no_list_of_patterns(place):
    place.write({**FILES, "list": "*"})
    (place.root / ".rondelignore").symlink_to("list")
    place.write({})
    async with following(place.open()) as source:
        assert "a.yaml" in (await source.snapshot()).entries


@pytest.mark.parametrize("pattern", ["!", "[z-a]", "a\\", "*a*a*a*a"])
@pytest.mark.parametrize(
    "settings", [GitSource(name="s", url="/srv/x"), DirectorySource(name="s", path="/srv/x")]
)
def test_a_bad_pattern_of_the_configuration_is_its_fault(tmp_path, settings, pattern):
    from dataclasses import replace

    from controller.clock import SystemClock
    from controller.source import open_source

    with pytest.raises(UsageError) as caught:
        open_source(
            replace(settings, ignore=("*.md", pattern)), state_dir=tmp_path, clock=SystemClock()
        )
    assert caught.value.where == "source s: ignore[1]"


@pytest.mark.parametrize(
    "patterns",
    [["a"], ["/a"], ["a/"], ["*.b"], ["a/*"], ["**/c"], ["a/**"], ["*", "!a"], ["a/b", "!a/b/c"],
     ["*", "!a/", "!a/b"], ["\\!x"], ["[ab]"], ["a/**/c"], ["x y"], ["# no", "c"]],
)  # fmt: skip
def test_a_file_is_ignored_as_git_ignores_it(tmp_path, patterns):
    repository = Repository(tmp_path / "r")
    paths = [
        "a",
        "b",
        "c",
        "x y",
        "!x",
        "a.b",
        "d/a",
        "d/c",
        "e/b/c",
        "e/a/c",
        "f/a/b/c",
        "f/a/x/c",
    ]
    for path in paths:
        put(repository.folder / f"{path}", "1")
    put(repository.folder / ".gitignore", "\n".join(patterns))
    wanted = {*repository.git("ls-files", "-o", "-z", "--exclude-standard").split("\0")}
    ignored = ignoring.ignoring(tuple(patterns))
    assert {one for one in paths if not ignoring.is_left_out(one, ignored)} == wanted - {
        ".gitignore",
        "",
    }
