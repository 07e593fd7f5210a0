"""What can go wrong with a repository: told once, by its reason; the last good state stays."""

import asyncio
import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.errors import StalledError, TransientError
from controller.model.settings import GitAuth, GitRef
from controller.model.workflow import Input
from tests.source_places import Repository, following, git_source, put, serving

NOBODY = 65534


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def open_(tmp_path):
    return lambda url, **more: git_source(url, tmp_path / "state", **more)


async def reason_of(source) -> tuple[type, str]:
    error = await source.next()
    assert isinstance(error, StalledError | TransientError), error
    return type(error), error.reason


def running(mark: str) -> list[str]:
    """Return the running processes, no zombies, that name `mark`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
        except OSError:
            continue
        found += [words] if mark in words else []
    return found


async def test_an_empty_repository_has_no_commits_until_it_has(repository, open_, tmp_path):
    with serving(tmp_path) as server:
        remote = open_(server.url("repository/.git"), name="remote")
        async with following(open_(repository.url)) as here, following(remote) as there:
            assert await reason_of(here) == (TransientError, "NoCommits")
            assert await reason_of(there) == (TransientError, "NoCommits")
            commit = repository.commit(a="1")
            assert (await here.snapshot()).revision == f"main@sha1:{commit}"
            there.source.look()
            assert (await there.snapshot()).revision == f"main@sha1:{commit}"


@pytest.mark.parametrize("local", [True, False])
async def test_a_branch_that_vanishes_is_told_once_and_comes_back(
    repository, open_, tmp_path, local
):
    commit = repository.commit(a="1")
    repository.git("branch", "live")
    with serving(tmp_path) as server:
        url = repository.url if local else server.url("repository/.git")
        async with following(open_(url, ref=GitRef(branch="live"))) as source:
            first = await source.snapshot()
            repository.git("branch", "-D", "live")
            source.source.look()
            assert await reason_of(source) == (StalledError, "RefNotFound")
            source.source.look()
            assert await source.quiet()
            assert await source.source.read(first, ["a"]) == {"a": b"1"}
            repository.git("branch", "live", commit)
            source.source.look()
            back = await source.snapshot()
    assert back.revision == first.revision
    assert back.changed == frozenset()


async def test_a_local_repository_that_is_removed_and_comes_back_is_followed_again(
    repository, open_, tmp_path
):
    repository.commit(a="1")
    async with following(open_(repository.url)) as source:
        await source.snapshot()
        repository.folder.rename(tmp_path / "away")
        assert await reason_of(source) == (StalledError, "RepositoryNotFound")
        (tmp_path / "away").rename(repository.folder)
        await source.snapshot()
        commit = repository.commit(a="2")
        assert (await source.snapshot()).revision == f"main@sha1:{commit}"


async def test_an_unreachable_remote_is_told_once_and_found_again(repository, open_, tmp_path):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        source = open_(url)
        async with following(source) as follower:
            first = await follower.snapshot()
            (tmp_path / "repository").rename(tmp_path / "away")
            source.look()
            assert await reason_of(follower) == (StalledError, "RepositoryNotFound")
            (tmp_path / "away").rename(tmp_path / "repository")
            source.look()
            assert (await follower.snapshot()).changed == frozenset()
    async with following(open_(url)) as follower:
        assert await reason_of(follower) == (TransientError, "FetchFailed")
        follower.source.look()
        assert await follower.quiet()
        data = await follower.source.materialise(
            first.revision, Input(name="i", path="a"), tmp_path / "a"
        )
    assert data.startswith("sha256:")
    assert (tmp_path / "a").read_text() == "1"


async def test_a_remote_that_hangs_is_given_up_and_its_processes_are_gone(
    repository, open_, tmp_path
):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        server.hang.set()
        url = server.url("repository/.git")
        async with following(open_(url, timeout=timedelta(seconds=1))) as source:
            error = await source.next()
            assert isinstance(error, TransientError)
            assert error.reason == "FetchTimeout"
            assert str(error) == (
                f"{url}: git ls-remote took over 1 s; see what is slow there, or raise `timeout`"
            )
            assert running(url) == []
            server.hang.clear()
            server.released.set()
            source.source.look()
            await source.snapshot()


async def test_closing_in_the_middle_of_a_fetch_leaves_no_process(repository, open_, tmp_path):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        server.hang.set()
        url = server.url("repository/.git")
        async with following(open_(url)):
            while not running(url):
                await asyncio.sleep(0.02)
        assert running(url) == []
        assert list((tmp_path / "state" / "mirrors").glob(".login-*")) == []


async def wrong(_: str) -> str:
    return "wrong"


async def test_a_refused_login_needs_a_person(repository, open_, tmp_path):
    repository.commit(a="1")
    auth = GitAuth(type="basic", username="ci", secret="git-token")
    with serving(tmp_path) as server:
        server.login = "ci:right"
        url = server.url("repository/.git")
        for more in ({}, {"auth": auth, "secrets": wrong}):
            async with following(open_(url, **more)) as source:
                error = await source.next()
                assert isinstance(error, StalledError)
                assert error.reason == "AuthFailed"
                assert "wrong" not in str(error)


async def test_a_login_without_secrets_needs_a_person(open_, tmp_path):
    auth = GitAuth(type="token", secret="missing")
    async with following(open_("https://example.invalid/x.git", auth=auth)) as source:
        assert await reason_of(source) == (StalledError, "SecretUnknown")


async def test_ssh_without_known_hosts_is_not_tried(open_):
    async with following(open_("git@example.invalid:x.git")) as source:
        assert await reason_of(source) == (StalledError, "HostKeyUnknown")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a repository away takes root")
@pytest.mark.parametrize("bare", [False, True])
async def test_a_repository_of_another_user_is_read_only_when_trusted(
    repository, open_, tmp_path, bare
):
    commit = repository.commit(a="1")
    folder = repository.folder
    if bare:
        folder = tmp_path / "bare"
        repository.git("clone", "--quiet", "--bare", ".", str(folder))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    async with following(open_(folder.as_uri())) as source:
        assert await reason_of(source) == (StalledError, "NotTrusted")
    async with following(open_(folder.as_uri(), trusted=True)) as source:
        assert (await source.snapshot()).revision == f"main@sha1:{commit}"
        mirror = mirror_of(source.source)
        while not await mirror.keeps(commit):
            await asyncio.sleep(0.02)


def mirror_of(source: Any) -> Any:
    return source._mirror


async def test_nothing_that_a_repository_configures_is_executed(
    repository, open_, tmp_path, monkeypatch
):
    mark, script = tmp_path / "mark", tmp_path / "evil.sh"
    script.write_text(f"#!/bin/sh\necho ran >> {mark}\n")
    script.chmod(0o755)
    put(repository.folder / ".gitattributes", "* filter=evil diff=evil merge=evil\n")
    repository.commit(a_yaml="1", src__b="2")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in (
        "reference-transaction",
        "post-checkout",
        "post-update",
        "pre-auto-gc",
        "post-merge",
    ):
        shutil.copy(script, hooks / name)
        shutil.copy(script, repository.folder / ".git" / "hooks" / name)
    for name in (
        *("core.fsmonitor", "core.sshCommand", "core.alternateRefsCommand", "core.gitProxy"),
        *("core.pager", "core.editor", "filter.evil.smudge", "filter.evil.clean", "diff.external"),
        *("uploadpack.packObjectsHook", "credential.helper", "alias.rev-parse", "gpg.program"),
    ):
        repository.git("config", name, str(script))
    repository.git("config", "core.hooksPath", str(hooks))
    mark.unlink(missing_ok=True)
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(script))
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        await source.source.read(first, ["a.yaml"])
        await source.source.materialise(
            first.revision, Input(name="i", path="src"), tmp_path / "src"
        )
        mirror = mirror_of(source.source)
        while not await mirror.keeps(first.revision.rpartition(":")[2]):
            await asyncio.sleep(0.02)
    assert not mark.exists()


async def test_names_that_look_like_options_or_commands_are_names(repository, open_, tmp_path):
    names = [
        "--output=x",
        "-rf",
        "a b",
        "tab\there",
        'quote"d',
        "new\nline",
        "$(touch x)",
        "é/ü",
        "a\\b",
    ]
    for name in names:
        put(repository.folder / name, name)
    repository.commit()
    repository.git("update-ref", "refs/heads/-x", "HEAD")
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        assert set(first.entries) == set(names)
        read = await source.source.read(first, names)
        assert read == {name: name.encode() for name in names}
        await source.source.materialise(first.revision, Input(name="i", path=""), tmp_path / "out")
    assert {
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    } == set(names)


def forged_commit(repository: Repository, name: bytes) -> str:
    """Make a commit whose tree holds an entry that no work tree could have."""
    blob = repository.git("hash-object", "-w", "--stdin")

    def store(kind: str, data: bytes) -> str:
        done = subprocess.run(
            ["git", "-C", str(repository.folder), "hash-object", "-t", kind, "-w", "--stdin", "--literally"],
            input=data, capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout.decode().strip()

    inner = store("tree", b"100644 " + name + b"\0" + bytes.fromhex(blob))
    outer = store(
        "tree", b"40000 ..\0" + bytes.fromhex(inner) + b"40000 dir\0" + bytes.fromhex(inner)
    )
    commit = repository.git("commit-tree", "-m", "forged", outer)
    repository.git("update-ref", "refs/heads/main", commit)
    return commit


@pytest.mark.parametrize("name", [b"..", b"../../escaped", b"/escaped", b".git"])
async def test_a_forged_tree_leads_nowhere(repository, open_, tmp_path, name):
    forged_commit(repository, name)
    with serving(tmp_path) as server:
        async with following(open_(repository.url)) as source:
            first = await source.snapshot()
            assert all(".." not in path and not path.startswith("/") for path in first.entries)
            if not first.entries:
                with pytest.raises(StalledError):
                    await source.source.materialise(
                        first.revision, Input(name="i", path=""), tmp_path / "o"
                    )
        async with following(open_(server.url("repository/.git"), name="remote")) as source:
            assert await reason_of(source) == (StalledError, "RepositoryDamaged")
    assert list(tmp_path.rglob("escaped")) == []


async def test_a_name_that_is_not_utf8_is_a_fault_of_that_path_alone(repository, open_):
    (repository.folder / os.fsdecode(b"b\xff.yaml")).write_text("2")
    repository.commit(a_yaml="1")
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
    assert set(first.entries) == {"a.yaml"}
    assert [fault.problem for fault in first.faults] == ["its name is not UTF-8"]


async def test_a_submodule_is_left_out(repository, open_):
    commit = repository.commit(a="1")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    repository.git("commit", "--quiet", "-m", "sub")
    async with following(open_(repository.url)) as source:
        assert set((await source.snapshot()).entries) == {"a"}


async def test_a_lost_object_is_told_and_stops_nothing_else(repository, open_, tmp_path):
    repository.commit(a="1", b="2")
    async with following(open_(repository.url)) as source:
        first = await source.snapshot()
        while not await mirror_of(source.source).keeps(first.revision.rpartition(":")[2]):
            await asyncio.sleep(0.02)
        shutil.rmtree(mirror_of(source.source).folder / "objects" / "pack")
        blob = first.entries["a"].blob
        (repository.folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
        with pytest.raises(TransientError) as caught:
            await source.source.materialise(
                first.revision, Input(name="i", path="a"), tmp_path / "a"
            )
        assert caught.value.reason == "SourceUnavailable"
        with pytest.raises(TransientError):
            await source.source.read(first, ["a"])
        assert await source.source.read(first, ["b"]) == {"b": b"2"}


async def test_a_shallow_repository_is_followed(repository, open_, tmp_path):
    repository.commit(a="1")
    repository.commit(a="2")
    shallow = tmp_path / "shallow"
    repository.git("clone", "--quiet", "--depth=1", repository.url, str(shallow))
    async with following(open_(shallow.as_uri())) as source:
        first = await source.snapshot()
        mirror = mirror_of(source.source)
        while not await mirror.keeps(first.revision.rpartition(":")[2]):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("ref", [GitRef(), GitRef(branch="main"), GitRef(semver="1.x")])
@pytest.mark.parametrize("local", [True, False])
async def test_a_repository_of_sha256_is_refused_by_its_name(open_, tmp_path, ref, local):
    repository = Repository(tmp_path / "other", "--object-format=sha256")
    repository.commit(a="1")
    repository.git("tag", "v1.0.0")
    with serving(tmp_path) as server:
        url = repository.url if local else server.url("other/.git")
        async with following(open_(url, ref=ref)) as source:
            assert await reason_of(source) == (StalledError, "ObjectFormatUnsupported")


async def test_git_that_is_not_installed_is_told(repository, open_, monkeypatch):
    from controller.source import processes

    repository.commit(a="1")
    processes.git_path.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    try:
        async with following(open_(repository.url)) as source:
            assert await reason_of(source) == (StalledError, "GitMissing")
    finally:
        processes.git_path.cache_clear()
