"""A mirror that was damaged, and histories that are not what they were: followed all the same."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from controller.model.settings import GitRef
from controller.model.workflow import Input
from tests.source_places import Repository, following, git_source, serving


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def open_(tmp_path):
    def open_source_(url: str, **more: Any) -> Any:
        return git_source(url, tmp_path / "state", **more)

    return open_source_


def url_of(repository: Repository, server: Any, *, local: bool) -> str:
    return repository.url if local else str(server.url("repository/.git"))


def folder_of(source: Any) -> Path:
    return Path(source._mirror.folder)


async def until_kept(source: Any, commit: str) -> None:
    while not await source._mirror.keeps(commit):
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "lock",
    ["packed-refs.lock", "shallow.lock", "HEAD.lock", "config.lock", "index.lock", "refs/rondel/keep/{}.lock"],
)  # fmt: skip
async def test_a_lock_that_a_crash_left_behind_is_removed(repository, open_, tmp_path, lock):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        source = open_(server.url("repository/.git"))
        async with following(source) as follower:
            await follower.snapshot()
            commit = repository.commit(a="2")
            path = source._mirror.folder / lock.format(commit)
            path.touch()
            source.look()
            assert (await follower.snapshot()).revision == f"main@sha1:{commit}"
            await source._mirror.prune(())  # rewrites what is packed


def cut_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(pack.read_bytes()[:20])


def flip_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 0xFF
        pack.chmod(0o600)
        pack.write_bytes(bytes(data))


def lose_objects(mirror: Path) -> None:
    shutil.rmtree(mirror / "objects")
    (mirror / "objects").mkdir()


def overwrite(name: str, text: str) -> Any:
    def damage(mirror: Path) -> None:
        (mirror / name).write_text(text)

    damage.__name__ = name
    return damage


def scribble_on_refs(mirror: Path) -> None:
    for ref in mirror.rglob("refs/rondel/*/*"):
        ref.write_text("scribble\n")


DAMAGES = [
    *(cut_packs, flip_packs, lose_objects, scribble_on_refs),
    *(overwrite("config", "[core\n"), overwrite("HEAD", "\0\0"), overwrite("packed-refs", "x\n")),
]


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
async def test_a_damaged_mirror_is_thrown_away_and_fetched_anew(
    repository, open_, tmp_path, damage, local
):
    first = repository.commit(a="1")
    with serving(tmp_path) as server:
        source = open_(url_of(repository, server, local=local))
        async with following(source) as follower:
            before = await follower.snapshot()
            await until_kept(source, first)
            damage(source._mirror.folder)
            if not local:  # a run that has to start now has its input
                target = tmp_path / "input"
                await source.materialise(before.revision, Input(name="i", path="a"), target)
                assert target.read_text() == "1"
            commit = repository.commit(a="2")
            source.look()
            seen = await follower.snapshot()
            assert seen.revision == f"main@sha1:{commit}"
            assert await source.read(seen, ["a"]) == {"a": b"2"}
            await until_kept(source, commit)
            await source._mirror.git("rev-list", "--objects", "--quiet", commit)  # all is there


async def test_a_mirror_damaged_while_nobody_ran_is_made_anew_at_the_start(
    repository, open_, tmp_path
):
    commit = repository.commit(a="1")
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        async with following(open_(url)) as source:
            await source.snapshot()
            folder = folder_of(source.source)
        cut_packs(folder)
        async with following(open_(url)) as source:
            assert (await source.snapshot()).revision == f"main@sha1:{commit}"


async def test_a_remote_in_trouble_costs_no_mirror(repository, open_, tmp_path):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        source = open_(server.url("repository/.git"))
        async with following(source) as follower:
            await follower.snapshot()
            lives = source._mirror.lives
            commit = repository.commit(a="2")
            blob = repository.git("rev-parse", f"{commit}:a")
            path = repository.folder / ".git" / "objects" / blob[:2] / blob[2:]
            path.rename(tmp_path / "blob")
            source.look()
            assert (await follower.next()).reason == "FetchFailed"
            (tmp_path / "blob").rename(path)
            source.look()
            assert (await follower.snapshot()).revision == f"main@sha1:{commit}"
            assert source._mirror.lives == lives


@pytest.mark.parametrize("local", [True, False])
async def test_a_history_that_was_rewritten_is_followed(repository, open_, tmp_path, local):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        url = url_of(repository, server, local=local)
        async with following(open_(url, ref=GitRef(branch="main"))) as source:
            await source.snapshot()
            repository.git("checkout", "--quiet", "--orphan", "new")
            repository.git("rm", "--quiet", "-r", "-f", ".")
            commit = repository.commit(b="1")
            repository.git("branch", "-M", "main")
            source.source.look()
            seen = await source.until(lambda one: one.revision == f"main@sha1:{commit}")
    assert set(seen.entries) == {"b"}


async def test_a_remote_whose_head_is_detached_or_moves_to_another_branch_is_followed(
    repository, open_, tmp_path
):
    first = repository.commit(a="1")
    repository.git("branch", "other")
    second = repository.commit(a="2")
    with serving(tmp_path) as server:
        async with following(open_(server.url("repository/.git"))) as source:
            assert (await source.snapshot()).revision == f"main@sha1:{second}"
            repository.git("checkout", "--quiet", "--detach", first)
            source.source.look()
            assert (await source.snapshot()).revision == f"HEAD@sha1:{first}"
            repository.git("checkout", "--quiet", "other")
            source.source.look()
            assert (await source.snapshot()).revision == f"other@sha1:{first}"
