"""Submodules as part of a source, with real git on both sides."""

import asyncio
from typing import Any

import pytest

from controller.clock import SystemClock
from controller.errors import StalledError
from controller.model.settings import GitAuth, GitSource
from controller.model.workflow import Input
from controller.source import open_source, submodules
from controller.source.mirrors import Mirrors
from tests.source_places import LONG, Repository, following, put, serving

LOGIN = GitAuth(type="token", secret="git-token")


async def secret(name: str) -> str:
    return {"git-token": "t0ken"}[name]


class Served:
    """Repositories below one folder, each pushed to a bare one that is served."""

    def __init__(self, root: Any) -> None:
        self.root = root

    def repository(self, name: str) -> Repository:
        made = Repository(self.root / "work" / name)
        bare = self.root / f"{name}.git"
        made.git("init", "--quiet", "--bare", str(bare))
        return made

    def publish(self, repository: Repository, **modules: tuple[str, str]) -> str:
        """Commit with these submodules, path -> (url, commit), and push; return the commit."""
        if modules:
            text = "".join(
                f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n'
                for path, (url, _) in modules.items()
            )
            put(repository.folder / ".gitmodules", text)
            repository.git("add", ".gitmodules")
        for path, (_, commit) in modules.items():
            repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        repository.git("commit", "--quiet", "--allow-empty", "-m", "modules")
        bare = self.root / f"{repository.folder.name}.git"
        repository.git("push", "--quiet", "--force", str(bare), "HEAD:main")
        repository.git("--git-dir", str(bare), "symbolic-ref", "HEAD", "refs/heads/main")
        return repository.git("rev-parse", "HEAD")


@pytest.fixture
def served(tmp_path):
    (tmp_path / "served").mkdir()
    return Served(tmp_path / "served")


@pytest.fixture
def mirrors(tmp_path):
    return Mirrors(tmp_path / "state", SystemClock(), secret)


@pytest.fixture
def open_(tmp_path, mirrors):
    def open_source_(url: str, **more: Any) -> Any:
        fields: dict[str, Any] = {"interval": LONG, "name": "there", "submodules": True} | more
        return open_source(
            GitSource(url=url, **fields),
            state_dir=tmp_path / "state",
            clock=SystemClock(),
            mirrors=mirrors,
        )

    return open_source_


async def test_files_of_submodules_stand_at_their_paths_also_of_those_within(
    served, open_, tmp_path
):
    deep, lib, ops = (served.repository(name) for name in ("deep", "lib", "ops"))
    deep.commit(**{"d.txt": "deep"})
    deep_commit = served.publish(deep)
    lib.commit(**{"l.yaml": "lib", "script.sh": "x"})
    with serving(served.root) as server:
        lib_commit = served.publish(lib, deep=(server.url("deep.git"), deep_commit))
        ops.commit(a_yaml="1")
        commit = served.publish(ops, **{"vendor/lib": ("../lib.git", lib_commit)})
        async with following(open_(server.url("ops.git"))) as source:
            first = await source.snapshot()
            assert first.revision == f"main@sha1:{commit}"
            assert set(first.entries) == {
                *("a.yaml", "vendor/lib/l.yaml", "vendor/lib/script.sh", "vendor/lib/deep/d.txt")
            }
            assert first.faults == ()
            read = await source.source.read(first, ["vendor/lib/deep/d.txt", "a.yaml"])
            assert read == {"vendor/lib/deep/d.txt": b"deep", "a.yaml": b"1"}
            wanted = Input(name="i", path="vendor")
            await source.source.materialise(first.revision, wanted, tmp_path / "i")
            assert (tmp_path / "i" / "lib" / "deep" / "d.txt").read_text() == "deep"
            lib.commit(**{"l.yaml": "new"})
            moved = served.publish(lib, deep=(server.url("deep.git"), deep_commit))
            served.publish(ops, **{"vendor/lib": ("../lib.git", moved)})
            source.source.look()
            assert (await source.snapshot()).changed == frozenset({"vendor/lib/l.yaml"})
            await source.source.materialise(first.revision, wanted, tmp_path / "old")
    assert (tmp_path / "old" / "lib" / "l.yaml").read_text() == "lib"


async def test_without_being_asked_for_they_are_left_out(served, open_):
    lib, ops = served.repository("lib"), served.repository("ops")
    lib.commit(l="1")
    with serving(served.root) as server:
        ops.commit(a="1")
        served.publish(ops, lib=("../lib.git", served.publish(lib)))
        async with following(open_(server.url("ops.git"), submodules=False)) as source:
            assert set((await source.snapshot()).entries) == {"a"}
        assert not any("lib.git" in path for path, _ in server.requests)


async def test_the_login_goes_with_submodules_of_the_same_host(served, open_):
    lib, ops = served.repository("lib"), served.repository("ops")
    lib.commit(l="1")
    with serving(served.root) as server:
        ops.commit(a="1")
        served.publish(ops, lib=("../lib.git", served.publish(lib)))
        server.login = "x-access-token:t0ken"
        async with following(open_(server.url("ops.git"), auth=LOGIN)) as source:
            assert set((await source.snapshot()).entries) == {"a", "lib/l"}


@pytest.mark.parametrize(
    ("source", "url", "same"),
    [
        ("https://a.example/x.git", "https://a.example/y.git", True),
        ("https://a.example/x.git", "https://b.example/y.git", False),
        ("https://a.example/x.git", "https://a.example:8443/y.git", False),
        ("https://a.example/x.git", "https://a.example.evil/y.git", False),
        ("git@a.example:x", "git@a.example:y", True),
        ("git@a.example:x", "git@b.example:y", False),
        ("git@a.example:x", "ssh://git@a.example/y", True),
    ],
)
def test_a_login_is_given_to_the_sources_own_host_only(tmp_path, mirrors, source, url, same):
    settings = GitSource(name="s", url=source, auth=LOGIN, known_hosts="/k", proxy="http://p")
    reached = submodules.Submodules(settings, mirrors)._reaching(url)
    assert (reached.url, reached.auth is not None) == (url, same)
    assert (reached.known_hosts, reached.proxy) == ("/k", "http://p")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "/etc",
            "file:///etc",
            "{root}/lib.git",
            "ext::sh -c 'touch {root}/mark'",
        ),
        *("../../../lib.git", "../..", "http://127.0.0.1:1/lib.git", "http://elsewhere.example/x"),
        *("git://127.0.0.1/x", "https://me:secret@example.com/x", ""),
    ],
)
async def test_one_that_may_not_be_fetched_is_a_fault_of_its_path_alone(
    served, open_, tmp_path, url
):
    lib, ops = served.repository("lib"), served.repository("ops")
    lib.commit(l="1")
    lib_commit = served.publish(lib)
    with serving(served.root) as server:
        ops.commit(a="1")
        served.publish(
            ops, sub=(url.format(root=served.root), lib_commit), lib=("../lib.git", lib_commit)
        )
        async with following(open_(server.url("ops.git"))) as source:
            first = await source.snapshot()
    assert set(first.entries) == {"a", "lib/l"}
    assert [one.file for one in first.faults] == ["sub"]
    assert "secret" not in str(first.faults[0])
    assert first.unreadable == ("sub",)
    assert not (served.root / "mark").exists()


async def test_a_relative_url_of_a_local_repository_is_a_path_of_this_machine(
    served, open_, tmp_path
):
    lib, ops = served.repository("lib"), served.repository("ops")
    lib.commit(l="1")
    ops.commit(a="1")
    served.publish(ops, lib=("../lib.git", served.publish(lib)))
    async with following(open_((served.root / "ops.git").as_uri())) as source:
        first = await source.snapshot()
    assert set(first.entries) == {"a"}
    assert [one.file for one in first.faults] == ["lib"]


async def test_a_commit_that_was_not_pushed_keeps_the_last_good_snapshot(served, open_):
    lib, ops = served.repository("lib"), served.repository("ops")
    lib.commit(l="1")
    good = served.publish(lib)
    with serving(served.root) as server:
        ops.commit(a="1")
        served.publish(ops, lib=("../lib.git", good))
        async with following(open_(server.url("ops.git"))) as source:
            first = await source.snapshot()
            lost = lib.commit(l="2")
            served.publish(ops, lib=("../lib.git", lost))
            source.source.look()
            error = await source.next()
            assert isinstance(error, StalledError)
            assert (error.reason, error.where.split(":")[0]) == ("RefNotFound", "submodule lib")
            assert await source.source.read(first, ["lib/l"]) == {"lib/l": b"1"}
            served.publish(lib)
            source.source.look()
            assert (await source.snapshot()).changed == frozenset({"lib/l"})


async def test_a_submodule_of_itself_ends(served, open_):
    ops = served.repository("ops")
    ops.commit(a="1")
    with serving(served.root) as server:
        commit = served.publish(ops)
        for _ in range(8):
            commit = served.publish(ops, again=("../ops.git", commit))
        async with following(open_(server.url("ops.git"))) as source:
            first = await source.snapshot()
    assert max(path.count("/") for path in first.entries) == submodules.DEEPEST
    assert len(first.faults) == 1
    assert "submodules deep" in first.faults[0].problem


async def test_too_many_files_are_refused(served, open_, monkeypatch):
    monkeypatch.setattr(submodules, "MOST_FILES", 3)
    lib, ops = served.repository("lib"), served.repository("ops")
    lib.commit(a="1", b="1")
    with serving(served.root) as server:
        ops.commit(a="1")
        commit = served.publish(lib)
        served.publish(ops, one=("../lib.git", commit), two=("../lib.git", commit))
        async with following(open_(server.url("ops.git"))) as source:
            error = await source.next()
    assert isinstance(error, StalledError)
    assert error.reason == "TooLarge"


async def test_only_the_sources_own_list_says_what_is_ignored(served, open_):
    lib, ops = served.repository("lib"), served.repository("ops")
    lib.commit(**{"l_yaml": "1", "x_tmp": "1", ".rondelignore": "l.yaml\n"})
    with serving(served.root) as server:
        ops.commit(**{"a_yaml": "1", ".rondelignore": "*_tmp\n"})
        served.publish(ops, lib=("../lib.git", served.publish(lib)))
        async with following(open_(server.url("ops.git"))) as source:
            assert set((await source.snapshot()).entries) == {"a.yaml", "lib/l.yaml"}


@pytest.mark.parametrize(
    "text", ["[submodule", "\0\xff", "[include]\n\tpath = /etc/passwd\n", "x" * 100_000]
)
async def test_a_list_of_submodules_that_can_not_be_read_is_a_fault(served, open_, text):
    lib, ops = served.repository("lib"), served.repository("ops")
    lib.commit(l="1")
    with serving(served.root) as server:
        ops.commit(a="1")
        served.publish(ops, lib=("../lib.git", served.publish(lib)))
        put(ops.folder / ".gitmodules", text)
        ops.git("add", ".gitmodules")
        served.publish(ops)
        async with following(open_(server.url("ops.git"))) as source:
            first = await source.snapshot()
    assert set(first.entries) == {"a"}
    assert "lib" in {one.file for one in first.faults}


async def test_a_submodules_commit_is_kept_while_it_is_used_and_had_again_when_it_is_lost(
    served, open_, mirrors, tmp_path
):
    lib, ops = served.repository("lib"), served.repository("ops")
    lib.commit(l="1")
    with serving(served.root) as server:
        ops.commit(a="1")
        lib_commit = served.publish(lib)
        served.publish(ops, lib=("../lib.git", lib_commit))
        async with following(open_(server.url("ops.git"))) as source:
            first = await source.snapshot()
            soon = SystemClock().now().timestamp() + 60
            await mirrors.prune((), before=soon)
            mirror = mirrors.of(GitSource(name="x", url=server.url("lib.git")))
            assert await mirror.keeps(lib_commit)
            for pack in mirror.folder.glob("objects/pack/*"):
                pack.unlink()
            wanted = Input(name="i", path="lib")
            await source.source.materialise(first.revision, wanted, tmp_path / "i")
            assert (tmp_path / "i" / "l").read_text() == "1"
        await asyncio.sleep(0)
        await mirrors.prune((), before=soon)
    assert list((tmp_path / "state" / "mirrors").iterdir()) == []


@pytest.mark.parametrize(
    ("base", "url", "whole"),
    [
        ("https://a.example/team/ops.git", "../lib.git", "https://a.example/team/lib.git"),
        ("https://a.example/team/ops.git", "../../other/lib", "https://a.example/other/lib"),
        ("https://a.example/team/ops.git/", "./lib", "https://a.example/team/ops.git/lib"),
        ("https://a.example/ops.git", "../../lib", ""),
        ("git@a.example:team/ops.git", "../lib.git", "git@a.example:team/lib.git"),
        ("git@a.example:ops.git", "../../lib.git", ""),
        ("ssh://git@a.example:22/x/ops", "../lib", "ssh://git@a.example:22/x/lib"),
        ("https://a.example/x", "https://b.example/y", "https://b.example/y"),
        ("/srv/ops", "../lib", ""),
        ("https://a.example/x", "../-u/evil", "https://a.example/-u/evil"),
    ],
)
def test_a_relative_url_starts_at_that_of_the_source(base, url, whole):
    assert submodules.resolved(base, url) == whole
