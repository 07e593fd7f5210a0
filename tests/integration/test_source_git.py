"""A Git repository as a source, with real git on both sides."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from controller.digest import git_blob
from controller.errors import StalledError
from controller.model.settings import GitRef
from controller.model.workflow import Input
from controller.reconcile import keys
from tests.source_places import Repository, directory, following, git_source, put, serving

BRANCH = GitRef(branch="main")


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def open_(tmp_path):
    """Open a source by its URL, with a state directory of the test."""
    return lambda url, **more: git_source(url, tmp_path / "state", **more)


async def test_the_first_snapshot_names_what_git_lists(repository, open_):
    repository.commit(workflows__a_yaml="1", src__b="2")
    (repository.folder / "run.sh").write_text("x")
    (repository.folder / "run.sh").chmod(0o755)
    commit = repository.commit()
    async with following(open_(repository.url, path="./workflows/")) as source:
        first = await source.snapshot()
    assert first.revision == f"main@sha1:{commit}"
    assert first.manifests == "workflows"
    assert first.changed is None
    assert {path: tuple(entry) for path, entry in first.entries.items()} == repository.tree()


async def test_a_commit_is_seen_without_waiting_for_the_interval(repository, open_):
    repository.commit(a="1", b="1")
    async with following(open_(repository.url)) as source:
        await source.snapshot()
        commit = repository.commit(a="2", c="3")
        seen = await source.snapshot()
    assert seen.revision == f"main@sha1:{commit}"
    assert seen.changed == frozenset({"a", "c"})


async def test_names_that_begin_with_a_dot_are_not_read(repository, open_):
    put(repository.folder / ".github" / "x.yaml", "1")
    put(repository.folder / "src" / ".env", "1")
    repository.commit(a_yaml="1")
    async with following(open_(repository.url)) as source:
        assert set((await source.snapshot()).entries) == {"a.yaml"}


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("as_path", [False, True])
async def test_bare_repositories_and_plain_paths_are_followed(
    repository, open_, tmp_path, bare, as_path
):
    repository.commit(a="1")
    folder = repository.folder
    if bare:
        folder = tmp_path / "bare with: colon"
        repository.git("clone", "--quiet", "--bare", ".", str(folder))
        repository.git("remote", "add", "there", str(folder))
    async with following(open_(str(folder) if as_path else folder.as_uri())) as source:
        await source.snapshot()
        commit = repository.commit(a="2")
        if bare:
            repository.git("push", "--quiet", "there", "main")
        assert (await source.snapshot()).revision == f"main@sha1:{commit}"


async def test_a_worktree_is_followed_at_its_own_head(repository, open_, tmp_path):
    repository.commit(a="1")
    repository.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "tree"))
    async with following(open_((tmp_path / "tree").as_uri())) as source:
        assert (await source.snapshot()).revision.startswith("side@sha1:")
        commit = Repository(tmp_path / "tree").commit(a="side")
        assert (await source.snapshot()).revision == f"side@sha1:{commit}"


async def test_head_is_followed_to_another_branch_and_when_it_is_detached(repository, open_):
    first = repository.commit(a="1")
    repository.git("checkout", "--quiet", "-b", "feature/deep/er")
    commit = repository.commit(a="2")
    async with following(open_(repository.url)) as source:
        assert (await source.snapshot()).revision == f"feature/deep/er@sha1:{commit}"
        third = repository.commit(a="3")
        assert (await source.snapshot()).revision == f"feature/deep/er@sha1:{third}"
        repository.git("checkout", "--quiet", "--detach", first)
        await source.until(lambda one: one.revision == f"HEAD@sha1:{first}")
        repository.git("checkout", "--quiet", "main")
        await source.until(lambda one: one.revision == f"main@sha1:{first}")
        last = repository.commit(a="4")
        await source.until(lambda one: one.revision == f"main@sha1:{last}")


async def test_only_the_wanted_branch_matters(repository, open_):
    repository.commit(a="1")
    async with following(open_(repository.url, ref=BRANCH)) as source:
        await source.snapshot()
        repository.git("checkout", "--quiet", "-b", "other")
        repository.commit(a="2")
        assert await source.quiet()


async def test_packed_refs_and_collected_garbage_change_nothing(repository, open_):
    repository.commit(a="1")
    async with following(open_(repository.url)) as source:
        await source.snapshot()
        repository.git("pack-refs", "--all")
        repository.git("gc", "--quiet", "--prune=now")
        assert await source.quiet()
        commit = repository.commit(a="2")
        assert (await source.snapshot()).revision == f"main@sha1:{commit}"


async def test_a_tag_is_peeled_and_followed_when_it_moves(repository, open_):
    first = repository.commit(a="1")
    repository.git("tag", "-a", "v1", "-m", "one")
    async with following(open_(repository.url, ref=GitRef(tag="v1"))) as source:
        assert (await source.snapshot()).revision == f"v1@sha1:{first}"
        second = repository.commit(a="2")
        repository.git("tag", "-f", "-a", "v1", "-m", "two")
        assert (await source.snapshot()).revision == f"v1@sha1:{second}"


async def test_a_commit_is_pinned_whatever_its_branch_does(repository, open_):
    first = repository.commit(a="1")
    repository.commit(a="2")
    async with following(open_(repository.url, ref=GitRef(commit=first))) as source:
        seen = await source.snapshot()
        assert seen.revision == f"HEAD@sha1:{first}"
        assert seen.entries["a"].blob == git_blob(b"1")


async def test_a_ref_is_taken_by_its_full_name(repository, open_):
    commit = repository.commit(a="1")
    repository.git("update-ref", "refs/pull/7/head", commit)
    async with following(open_(repository.url, ref=GitRef(name="refs/pull/7/head"))) as source:
        assert (await source.snapshot()).revision == f"refs/pull/7/head@sha1:{commit}"


async def test_contents_are_read_by_blob_also_of_an_older_snapshot(repository, open_):
    repository.commit(a="1", b="same", c="same")
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        repository.commit(a="2")
        await source.snapshot()
        assert await source.source.read(first, ["a", "b", "c", "gone"]) == {
            "a": b"1",
            "b": b"same",
            "c": b"same",
        }


async def test_links_inside_are_followed_once_and_others_are_faults(repository, open_):
    repository.commit(w__real_yaml="1")
    for name, target in {
        "inside.yaml": "real.yaml",
        "twice.yaml": "inside.yaml",
        "out.yaml": "../../outside",
        "absolute.yaml": "/etc/passwd",
        "folder": "../w",
    }.items():
        (repository.folder / "w" / name).symlink_to(target)
    repository.commit()
    async with following(open_(repository.url, path="w")) as source:
        first = await source.snapshot()
    assert set(first.entries) == {"w/real.yaml", "w/inside.yaml"}
    assert first.entries["w/inside.yaml"] == first.entries["w/real.yaml"]
    faulty = {"w/twice.yaml", "w/out.yaml", "w/absolute.yaml", "w/folder"}
    assert {fault.file for fault in first.faults} == set(first.unreadable) == faulty


async def test_an_input_has_the_same_digest_from_git_and_from_the_working_copy(
    repository, open_, tmp_path
):
    for number in range(30):
        put(repository.folder / "src" / f"d{number % 3}" / f"ü {number}.txt", f"text {number % 7}")
    put(repository.folder / "src" / "skip.md", "doc")
    (repository.folder / "src" / "tool").write_text("#!/bin/sh\n")
    (repository.folder / "src" / "tool").chmod(0o755)
    (repository.folder / "src" / "link").symlink_to("d0/ü 0.txt")
    put(repository.folder / ".gitignore", "*.tmp")
    repository.commit()
    wanted = Input(name="src", path="./src/", ignore=("*.md",))
    folder = directory(repository.folder)
    async with following(open_(repository.url)) as git, following(folder) as here:
        first, there = await git.snapshot(), await here.snapshot()
        assert keys.input_digest(first.entries, wanted) == keys.input_digest(there.entries, wanted)
        ours = await git.source.materialise(first.revision, wanted, tmp_path / "git")
        theirs = await folder.materialise("", wanted, tmp_path / "here")
    assert ours == theirs == keys.input_digest(first.entries, wanted)
    assert (
        contents(tmp_path / "git")
        == contents(tmp_path / "here")
        == contents(repository.folder / "src", "skip.md")
    )


def mirror_of(source: Any) -> Any:
    return source._mirror


def contents(folder, *without):
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mode & 0o777, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name not in without
    }


async def test_an_input_that_is_one_file_becomes_the_target_itself(repository, open_, tmp_path):
    commit = repository.commit(data="content")
    source = open_(repository.url)
    async with following(source) as follower:
        await follower.snapshot()
        await source.materialise(
            f"main@sha1:{commit}", Input(name="d", path="data"), tmp_path / "out"
        )
        with pytest.raises(StalledError, match="nothing at none"):
            await source.materialise(
                f"main@sha1:{commit}", Input(name="d", path="none"), tmp_path / "no"
            )
    assert (tmp_path / "out").read_text() == "content"


async def test_a_run_has_its_commit_after_a_force_push_and_a_collection(
    repository, open_, tmp_path
):
    repository.commit(a="0")
    async with following(open_(repository.url)) as source:
        await source.snapshot()
        lost = repository.commit(a="lost")
        revision = (await source.snapshot()).revision
        while not await mirror_of(source.source).keeps(lost):
            await asyncio.sleep(0.02)
        repository.git("reset", "--quiet", "--hard", "HEAD~1")
        await source.snapshot()
        repository.commit(a="other")
        repository.git("reflog", "expire", "--expire=now", "--all")
        repository.git("gc", "--quiet", "--prune=now")
        await source.snapshot()
        await source.source.materialise(revision, Input(name="i", path="a"), tmp_path / "a")
    assert (tmp_path / "a").read_text() == "lost"


async def test_refs_that_a_later_commit_holds_anyway_are_released(repository, open_):
    repository.commit(a="0")
    async with following(open_(repository.url)) as source:
        await source.snapshot()
        mirror = mirror_of(source.source)
        for number in range(3):
            commit = repository.commit(a=f"{number}.")
            await source.snapshot()
            while not await mirror.keeps(commit):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        kept = (await mirror.git("for-each-ref", "refs/rondel/keep")).decode().splitlines()
    assert len(kept) == 1


async def test_a_thousand_files_are_listed_and_written_as_they_are(repository, open_, tmp_path):
    for number in range(1000):
        put(repository.folder / f"d{number % 20}" / f"{number}.txt", f"text {number}\n" * 20)
    repository.commit()
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert len(first.entries) == 1000
        assert len(await source.source.read(first, list(first.entries))) == 1000
        await source.source.materialise(
            first.revision, Input(name="all", path="."), tmp_path / "all"
        )
        (repository.folder / "d1" / "1.txt").rename(repository.folder / "moved.txt")
        repository.commit()
        assert (await source.snapshot()).changed == frozenset({"d1/1.txt", "moved.txt"})
    assert len([path for path in (tmp_path / "all").rglob("*") if path.is_file()]) == 1000


async def test_a_restart_reads_the_same_mirror(repository, open_):
    repository.commit(a="1")
    for _ in range(2):
        async with following(open_(repository.url)) as source:
            assert (await source.snapshot()).changed is None


async def test_a_remote_is_asked_first_and_fetched_from_when_it_has_news(
    repository, open_, tmp_path
):
    first = repository.commit(a="1")
    with serving(tmp_path) as server:
        async with following(open_(server.url("repository/.git"))) as source:
            assert (await source.snapshot()).revision == f"main@sha1:{first}"
            asked = len(server.requests)
            source.source.look()
            assert await source.quiet()
            assert not any(
                "git-upload-pack" in path and "?" not in path
                for path, _ in server.requests[asked + 2 :]
            )
            second = repository.commit(a="2")
            source.source.look()
            assert (await source.snapshot()).revision == f"main@sha1:{second}"


async def test_a_remote_tag_and_a_remote_commit_are_taken(repository, open_, tmp_path):
    first = repository.commit(a="1")
    repository.git("tag", "-a", "v1", "-m", "one")
    repository.commit(a="2")
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        async with following(open_(url, name="tag", ref=GitRef(tag="v1"))) as source:
            assert (await source.snapshot()).revision == f"v1@sha1:{first}"
        async with following(open_(url, name="commit", ref=GitRef(commit=first))) as source:
            assert (await source.snapshot()).revision == f"HEAD@sha1:{first}"


async def test_a_force_push_is_followed(repository, open_, tmp_path):
    repository.commit(a="1")
    repository.commit(a="2")
    with serving(tmp_path) as server:
        async with following(open_(server.url("repository/.git"), ref=BRANCH)) as source:
            await source.snapshot()
            repository.git("reset", "--quiet", "--hard", "HEAD~1")
            commit = repository.commit(b="3")
            source.source.look()
            seen = await source.snapshot()
    assert seen.revision == f"main@sha1:{commit}"
    assert seen.changed == frozenset({"a", "b"})


async def secret(name):
    return {"git-token": "t0ken"}[name]


async def test_a_token_logs_in_and_stands_in_no_argument(repository, open_, tmp_path):
    from controller.model.settings import GitAuth

    commit = repository.commit(a="1")
    with serving(tmp_path) as server:
        server.login = "x-access-token:t0ken"
        auth = GitAuth(type="token", secret="git-token")
        url = server.url("repository/.git")
        async with following(open_(url, auth=auth, secrets=secret)) as source:
            assert (await source.snapshot()).revision == f"main@sha1:{commit}"
            server.hang.set()
            source.source.look()
            while not (arguments := git_arguments(str(tmp_path / "state"))):
                await asyncio.sleep(0.02)
            server.released.set()
    assert all("t0ken" not in one for one in arguments)
    state = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert all(b"t0ken" not in path.read_bytes() for path in state)


def git_arguments(mark: str) -> list[str]:
    """Return the command lines of running processes that name `mark`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
        except OSError:
            continue
        found += [words] if mark in words else []
    return found


async def test_a_login_is_not_sent_to_where_a_server_points(repository, open_, tmp_path):
    from controller.model.settings import GitAuth

    repository.commit(a="1")
    with serving(tmp_path) as server, serving(tmp_path) as elsewhere:
        server.redirect = f"http://127.0.0.1:{elsewhere.server_port}"
        auth = GitAuth(type="token", secret="git-token")
        url = server.url("repository/.git")
        async with following(open_(url, auth=auth, secrets=secret)) as source:
            error = await source.next()
    assert isinstance(error, StalledError)
    assert error.reason == "Redirected"
    assert elsewhere.requests == []


async def test_a_mirror_that_was_lost_is_made_again(repository, open_, tmp_path):
    repository.commit(a="1")
    async with following(open_(repository.url)) as source:
        await source.snapshot()
        await asyncio.sleep(0.3)
        shutil.rmtree(mirror_of(source.source).folder)
        commit = repository.commit(a="2")
        assert (await source.snapshot()).revision == f"main@sha1:{commit}"


async def test_what_many_fetches_leave_behind_is_packed_now_and_then(
    repository, open_, monkeypatch
):
    from controller.source import holding

    monkeypatch.setattr(holding, "TIDY_AFTER", 3)
    repository.commit(a="0")
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        for number in range(3):
            while not await mirror_of(source.source).keeps(repository.git("rev-parse", "HEAD")):
                await asyncio.sleep(0.02)
            repository.commit(a=f"{number}.")
            await source.snapshot()
        await asyncio.sleep(1)
        packs = list((mirror_of(source.source).folder / "objects" / "pack").glob("*.pack"))
        assert len(packs) <= 2
        assert await source.source.read(first, ["a"]) == {"a": b"0"}
