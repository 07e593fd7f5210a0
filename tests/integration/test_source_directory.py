"""A folder as a source, on a real file system with real events."""

import itertools
import os
import shutil
from datetime import timedelta

import pytest

from controller.digest import git_blob
from controller.errors import StalledError
from controller.model.source import Entry
from controller.model.workflow import Input
from controller.reconcile import keys
from tests.source_places import directory, following, put, write

TEXT = "kind: Workflow\n"


async def test_the_first_snapshot_names_every_file_as_git_would(tmp_path):
    write(tmp_path, a_yaml=TEXT, sub__b_yaml=TEXT)
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    async with following(directory(tmp_path)) as source:
        first = await source.snapshot()
    assert first.changed is None
    assert first.manifests == ""
    assert first.entries == {
        "a.yaml": ("100644", git_blob(TEXT.encode())),
        "sub/b.yaml": ("100644", git_blob(TEXT.encode())),
        "run.sh": ("100755", git_blob(b"#!/bin/sh\n")),
    }
    assert first.revision.startswith("sha256:")


async def test_names_that_begin_with_a_dot_and_ignored_ones_are_not_read(tmp_path):
    write(tmp_path, a_yaml=TEXT, drafts__b_yaml=TEXT)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config.yaml").write_text(TEXT)
    (tmp_path / ".hidden.yaml").write_text(TEXT)
    async with following(directory(tmp_path, ignore=("drafts/",))) as source:
        assert set((await source.snapshot()).entries) == {"a.yaml"}
        put(tmp_path / "drafts" / "c.yaml", TEXT)
        put(tmp_path / ".git" / "x.yaml", TEXT)
        assert await source.quiet()


async def test_each_change_is_told_with_exactly_the_paths_that_differ(tmp_path):
    write(tmp_path, a_yaml="1", b_yaml="2")
    async with following(directory(tmp_path)) as source:
        first = await source.snapshot()
        put(tmp_path / "a.yaml", "changed")
        second = await source.snapshot()
        assert second.changed == frozenset({"a.yaml"})
        assert second.entries["a.yaml"].blob == git_blob(b"changed")
        assert first.entries["a.yaml"].blob == git_blob(b"1"), "a snapshot stays as it was"
        put(tmp_path / "new" / "deep" / "c.yaml", "3")
        assert (await source.snapshot()).changed == frozenset({"new/deep/c.yaml"})
        (tmp_path / "b.yaml").unlink()
        last = await source.snapshot()
        assert last.changed == frozenset({"b.yaml"})
        assert set(last.entries) == {"a.yaml", "new/deep/c.yaml"}


async def test_the_revision_goes_back_when_the_files_do(tmp_path):
    write(tmp_path, a_yaml="1")
    async with following(directory(tmp_path)) as source:
        first = await source.snapshot()
        put(tmp_path / "a.yaml", "2")
        second = await source.snapshot()
        put(tmp_path / "a.yaml", "1")
        third = await source.snapshot()
    assert first.revision == third.revision != second.revision
    assert source.source.attempted() == third.revision


async def test_a_file_written_in_place_is_taken_when_its_writer_is_done(tmp_path):
    write(tmp_path, a_yaml="old")
    async with following(directory(tmp_path)) as source:
        await source.snapshot()
        with (tmp_path / "a.yaml").open("w") as file:
            file.write("first half, ")
            file.flush()
            assert await source.quiet(0.3), "somebody still writes to it"
            file.write("second half")
        taken = await source.snapshot()
    assert taken.entries["a.yaml"].blob == git_blob(b"first half, second half")


async def test_a_file_written_to_without_end_is_taken_now_and_then(tmp_path):
    write(tmp_path, a_log="x")
    async with following(directory(tmp_path)) as source:
        await source.snapshot()
        with (tmp_path / "a_log").open("a") as file:
            file.write("more")
            file.flush()
            assert (await source.snapshot()).changed == frozenset({"a_log"})


async def test_a_renamed_file_and_a_renamed_folder_change_both_names(tmp_path):
    write(tmp_path, a_yaml="1", old__b_yaml="2", old__c_yaml="3")
    async with following(directory(tmp_path)) as source:
        await source.snapshot()
        (tmp_path / "a.yaml").rename(tmp_path / "z.yaml")
        seen = await source.until(
            lambda one: set(one.entries) == {"z.yaml", "old/b.yaml", "old/c.yaml"}
        )
        (tmp_path / "old").rename(tmp_path / "new")
        seen = await source.until(lambda one: "old/b.yaml" not in one.entries)
    assert set(seen.entries) == {"z.yaml", "new/b.yaml", "new/c.yaml"}


async def test_a_renamed_file_is_never_there_twice_nor_gone(tmp_path):
    write(tmp_path, a__one_yaml=TEXT, keep_yaml="k")
    async with following(directory(tmp_path)) as source:
        await source.snapshot()
        names = ["a/one.yaml", "b.yaml", "a/two.yaml", "a/one.yaml"]
        for old, new in itertools.pairwise(names):
            (tmp_path / old).rename(tmp_path / new)
            moved = await source.snapshot()
            assert moved.changed == frozenset({old, new})
            assert set(moved.entries) == {new, "keep.yaml"}
        (tmp_path / "a").rename(tmp_path / "c")
        assert set((await source.snapshot()).entries) == {"c/one.yaml", "keep.yaml"}


async def test_a_file_that_an_editor_moves_aside_and_writes_anew_is_not_gone(tmp_path):
    write(tmp_path, one_yaml=TEXT, keep_yaml="k")
    async with following(directory(tmp_path)) as source:
        await source.snapshot()
        (tmp_path / "one.yaml").rename(tmp_path / "one.yaml~")
        (tmp_path / "one.yaml").write_text("new")
        look = await source.until(lambda seen: "one.yaml~" in seen.entries)
        assert look.entries["one.yaml"].blob == git_blob(b"new")


async def test_a_file_that_becomes_executable_is_changed(tmp_path):
    write(tmp_path, run="x")
    async with following(directory(tmp_path)) as source:
        await source.snapshot()
        (tmp_path / "run").chmod(0o755)
        seen = await source.snapshot()
    assert seen.entries["run"].mode == "100755"


async def test_same_size_and_time_do_not_hide_a_change_from_the_sweep(tmp_path):
    write(tmp_path, a_yaml="old")
    info = (tmp_path / "a.yaml").stat()
    async with following(directory(tmp_path, interval=timedelta(milliseconds=200))) as source:
        await source.snapshot()
        put(tmp_path / "a.yaml", "new")
        os.utime(tmp_path / "a.yaml", ns=(info.st_atime_ns, info.st_mtime_ns))
        assert (await source.snapshot()).entries["a.yaml"].blob == git_blob(b"new")


async def test_a_look_that_finds_nothing_new_tells_nothing(tmp_path):
    write(tmp_path, a_yaml="1")
    async with following(directory(tmp_path, interval=timedelta(milliseconds=50))) as source:
        await source.snapshot()
        source.source.look()
        put(tmp_path / "a.yaml", "1")
        assert await source.quiet()


async def test_a_look_that_was_asked_for_tells_what_it_found(tmp_path):
    write(tmp_path, a_yaml="1")
    async with following(directory(tmp_path)) as source:
        first = await source.snapshot()
        source.source.look(tell=True)
        again = await source.snapshot()
        assert (again.changed, again.revision) == (frozenset(), first.revision)


async def test_contents_are_those_of_the_snapshot_or_left_out(tmp_path):
    write(tmp_path, a_yaml="1", b_txt="text")
    async with following(directory(tmp_path)) as source:
        first = await source.snapshot()
        assert await source.source.read(first, ["a.yaml", "b_txt", "gone"]) == {
            "a.yaml": b"1",
            "b_txt": b"text",
        }
        put(tmp_path / "a.yaml", "2")
        second = await source.snapshot()
        assert await source.source.read(first, ["a.yaml"]) == {}
        assert await source.source.read(second, ["a.yaml"]) == {"a.yaml": b"2"}


async def test_of_a_file_too_large_for_a_manifest_enough_is_read_to_say_so(tmp_path):
    put(tmp_path / "big.yaml", "x" * (3 << 20))
    async with following(directory(tmp_path)) as source:
        first = await source.snapshot()
        data = (await source.source.read(first, ["big.yaml"]))["big.yaml"]
    assert len(data) == (1 << 20) + 1


async def test_a_link_to_a_file_inside_is_that_file_and_changes_with_it(tmp_path):
    write(tmp_path, real__a_yaml="1")
    (tmp_path / "link.yaml").symlink_to("real/a.yaml")
    async with following(directory(tmp_path)) as source:
        first = await source.snapshot()
        assert first.entries["link.yaml"] == first.entries["real/a.yaml"]
        assert await source.source.read(first, ["link.yaml"]) == {"link.yaml": b"1"}
        put(tmp_path / "real" / "a.yaml", "2")
        assert (await source.snapshot()).changed == frozenset({"link.yaml", "real/a.yaml"})


async def test_many_files_made_at_once_are_all_seen(tmp_path):
    async with following(directory(tmp_path)) as source:
        await source.snapshot()
        for number in range(1500):
            put(tmp_path / f"d{number % 30}" / f"{number}.yaml", str(number))
        last = await source.until(lambda one: len(one.entries) == 1500)
        assert last.entries["d1/1.yaml"].blob == git_blob(b"1")
        shutil.rmtree(tmp_path / "d7")
        await source.until(lambda one: len(one.entries) == 1450)


async def test_an_input_is_copied_with_modes_and_named_by_the_copy(tmp_path):
    root, target = tmp_path / "root", tmp_path / "target"
    write(root, src__a_py="print()", src__deep__b_md="doc", src__c="x", other="y")
    (root / "src" / "c").chmod(0o700)
    (root / "src" / "link").symlink_to("deep/b_md")
    (root / "src" / "out").symlink_to("/etc/passwd")
    os.mkfifo(root / "src" / "pipe")
    source = directory(root)
    wanted = Input(name="src", path="src/", ignore=("*_py",))
    async with following(source) as follower:
        entries = (await follower.snapshot()).entries
        digest = await source.materialise("", wanted, target)
    assert digest == keys.input_digest(entries, wanted)
    assert sorted(p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()) == [
        "c",
        "deep/b_md",
        "link",
    ]
    assert not (target / "link").is_symlink()
    assert (target / "c").stat().st_mode & 0o777 == 0o755


async def test_an_input_that_is_one_file_becomes_the_target_itself(tmp_path):
    write(tmp_path / "root", data="content")
    source = directory(tmp_path / "root")
    digest = await source.materialise("", Input(name="d", path="data"), tmp_path / "out")
    assert (tmp_path / "out").read_text() == "content"
    entry = ("100644", git_blob(b"content"))
    assert digest == keys.digest_of({"": Entry(*entry)})


async def test_a_large_file_is_copied_whole_and_named_as_git_would(tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "big").write_bytes(data)
    source = directory(tmp_path / "root")
    digest = await source.materialise("", Input(name="d", path="big"), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert digest == keys.digest_of({"": Entry("100644", git_blob(data))})


@pytest.mark.parametrize("path", ["missing", "../outside", "linked/secret", ".hidden", "drafts"])
async def test_an_input_that_is_not_part_of_the_folder_is_missing(tmp_path, path):
    write(tmp_path, outside__secret="s", outside__x="x")
    write(tmp_path / "root", a="1", drafts__x="2")
    (tmp_path / "root" / ".hidden").mkdir()
    (tmp_path / "root" / ".hidden" / "x").write_text("h")
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "outside")
    source = directory(tmp_path / "root", ignore=("drafts/",))
    with pytest.raises(StalledError) as caught:
        await source.materialise("", Input(name="i", path=path), tmp_path / "out")
    assert caught.value.reason == "InputMissing"
    assert not (tmp_path / "out").exists()
