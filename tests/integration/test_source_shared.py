"""Several sources of one repository: asked, fetched and kept once; and what is let go of."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from controller.clock import SystemClock
from controller.model.settings import GitAuth, GitRef, GitSource
from controller.model.workflow import Input
from controller.source import open_source
from controller.source.holding import KEEP
from controller.source.mirrors import Mirrors
from tests.source_places import LONG, Repository, following, put, serving


def mirror_of(source: Any) -> Any:
    return source._mirror


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def mirrors(tmp_path):
    return Mirrors(tmp_path / "state", SystemClock())


@pytest.fixture
def open_(tmp_path, mirrors):
    def open_source_(url: str, name: str, **more: Any) -> Any:
        settings = GitSource(url=url, name=name, **({"interval": LONG} | more))
        return open_source(
            settings, state_dir=tmp_path / "state", clock=SystemClock(), mirrors=mirrors
        )

    return open_source_


def asked(server) -> int:
    return sum("info/refs" in path for path, _ in server.requests)


async def kept(mirror) -> set[str]:
    told = await mirror.git("for-each-ref", "--format=%(refname)", KEEP)
    return {ref.removeprefix(KEEP) for ref in told.decode().split()}


async def test_two_refs_of_one_url_share_a_mirror_a_question_and_a_fetch(
    repository, open_, tmp_path
):
    repository.commit(a__x_yaml="1", b__y_yaml="1")
    repository.git("branch", "live")
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        one = open_(url, "one", ref=GitRef(branch="main"), path="a")
        other = open_(url, "other", ref=GitRef(branch="live"), path="b")
        async with following(one) as main, following(other) as live:
            await main.snapshot()
            await live.snapshot()
            first = repository.commit(a__x_yaml="2")
            second_branch = repository.git("commit-tree", "-m", "l", "-p", first, "HEAD^{tree}")
            repository.git("update-ref", "refs/heads/live", second_branch)
            before = asked(server)
            one.look()
            assert (await main.snapshot()).revision == f"main@sha1:{first}"
            # What `one` was told and fetched is the other's too: it is woken, and asks nobody.
            assert (await live.snapshot()).revision == f"live@sha1:{second_branch}"
            assert asked(server) - before == 2  # one ls-remote, one fetch
    assert len(list((tmp_path / "state" / "mirrors").iterdir())) == 1


async def test_two_sources_of_one_ref_at_two_paths_differ_in_their_manifests_only(
    repository, open_, tmp_path
):
    repository.commit(a__x_yaml="1", b__y_yaml="1")
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        async with (
            following(open_(url, "one", path="a")) as one,
            following(open_(url, "other", path="b")) as other,
        ):
            first, second = await one.snapshot(), await other.snapshot()
    assert (first.manifests, second.manifests) == ("a", "b")
    assert first.entries == second.entries


async def test_a_source_whose_interval_is_over_takes_what_another_was_told_meanwhile(
    repository, open_, tmp_path
):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        async with following(open_(url, "one")) as one, following(open_(url, "other")) as other:
            await one.snapshot()
            await other.snapshot()
            before = asked(server)
            one.source._wake()  # type: ignore[attr-defined]  # as its timer does
            other.source._wake()  # type: ignore[attr-defined]
            assert await one.quiet()
            assert asked(server) == before
            one.source.look()  # asked by a person, it asks
            while asked(server) == before:
                await asyncio.sleep(0.02)


async def test_another_login_is_another_mirror(mirrors):
    url = "https://git.example.com/ops.git"
    token = GitAuth(type="token", secret="one")
    places = {
        mirrors.of(GitSource(name=name, url=url, ref=ref, auth=auth, path=path)).folder
        for name, ref, auth, path in [
            ("a", GitRef(), None, ""),
            ("b", GitRef(branch="x"), None, "p"),
            ("c", GitRef(), token, ""),
            ("d", GitRef(tag="v1"), token, ""),
            ("e", GitRef(), GitAuth(type="token", secret="two"), ""),
        ]
    }
    assert len(places) == 3


async def test_a_trouble_of_one_source_is_not_the_others(repository, open_, tmp_path):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        async with (
            following(open_(url, "one")) as one,
            following(open_(url, "other", ref=GitRef(branch="none"))) as other,
        ):
            await one.snapshot()
            assert (await other.next()).reason == "RefNotFound"
            commit = repository.commit(a="2")
            repository.git("branch", "none")
            one.source.look()
            assert (await one.snapshot()).revision == f"main@sha1:{commit}"
            assert (await other.snapshot()).revision == f"none@sha1:{commit}"


async def test_commits_of_no_run_are_let_go_and_those_in_use_stay(
    repository, open_, mirrors, tmp_path
):
    commits = [repository.commit(a="0")]
    with serving(tmp_path) as server:
        source = open_(server.url("repository/.git"), "one")
        async with following(source) as follower:
            await follower.snapshot()
            for number in range(1, 4):
                commits.append(repository.commit(a=str(number)))
                source.look()
                await follower.snapshot()
            mirror = mirror_of(source)
            assert await kept(mirror) == {*commits}
            await mirrors.prune({commits[1]}, before=0)
            assert await kept(mirror) == {commits[1], commits[3]}
            await source.materialise(
                f"main@sha1:{commits[1]}", Input(name="i", path="a"), tmp_path / "i"
            )
            commits.append(repository.commit(a="4"))
            source.look()
            assert (await follower.snapshot()).changed == frozenset({"a"})
    assert (tmp_path / "i").read_text() == "1"


async def test_a_runs_commit_that_only_a_later_one_held_stays_when_that_one_goes(
    repository, open_, mirrors
):
    base = repository.commit(a="0")
    source = open_(repository.url, "local")
    async with following(source) as follower:
        await follower.snapshot()
        mirror = mirror_of(source)

        async def copied(commit: str) -> None:
            while not await mirror.keeps(commit):
                await asyncio.sleep(0.02)

        await copied(base)
        run = repository.commit(a="run")
        await follower.until(lambda one: run in one.revision)
        await copied(run)
        later = repository.commit(a="later")
        await follower.until(lambda one: later in one.revision)
        while await kept(mirror) != {later}:
            await asyncio.sleep(0.02)
        repository.git("reset", "--quiet", "--hard", base)
        other = repository.commit(a="other")
        await follower.until(lambda one: other in one.revision)
        await copied(other)
        async with mirror.turn:  # it is copied, and what it holds is released
            await copied(other)
        await mirrors.prune({run}, before=0)
        assert await kept(mirror) == {run, other}


async def test_a_mirror_that_no_source_uses_goes_when_it_is_old(
    repository, open_, mirrors, tmp_path
):
    repository.commit(a="1")
    other = Repository(tmp_path / "other")
    other.commit(b="1")
    place = tmp_path / "state" / "mirrors"
    with serving(tmp_path) as server:
        async with following(open_(server.url("repository/.git"), "gone")) as gone:
            await gone.snapshot()
        async with following(open_(server.url("other/.git"), "stays")) as stays:
            await stays.snapshot()
            await mirrors.prune((), before=0)
            assert len(list(place.iterdir())) == 2
            await mirrors.prune((), before=SystemClock().now().timestamp() + 60)
            assert list(place.iterdir()) == [mirror_of(stays.source).folder]


async def test_only_the_wanted_commit_is_fetched_not_its_history(repository, open_, tmp_path):
    for number in range(20):
        put(repository.folder / "a", str(number))
        repository.commit()
    with serving(tmp_path) as server:
        source = open_(server.url("repository/.git"), "one")
        async with following(source) as follower:
            revision = (await follower.snapshot()).revision
            commit = revision.rpartition(":")[2]
            told = await mirror_of(source).git("rev-list", "--count", commit)
    assert told.decode().strip() == "1"


async def test_an_older_commit_is_had_from_a_server_that_gives_none_by_its_id(
    repository, open_, tmp_path
):
    old = repository.commit(a="1")
    repository.commit(a="2")
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        async with following(open_(url, "one")) as one:
            await one.snapshot()  # the mirror is shallow now
            mirror = mirror_of(one.source)
            await mirror._fetch(60, "+refs/heads/*:refs/rondel/all/heads/*", whole=True)
            assert await mirror.commit(old) == old


async def test_a_server_that_knows_nothing_of_shallow_fetches_is_fetched_from_whole(
    repository, tmp_path, open_
):
    commit = repository.commit(a="1")
    bare = tmp_path / "dumb.git"
    repository.git("clone", "--quiet", "--bare", ".", str(bare))
    Repository.git(repository, "--git-dir", str(bare), "update-server-info")
    with dumb(tmp_path) as url:
        async with following(open_(f"{url}/dumb.git", "one")) as source:
            assert (await source.snapshot()).revision == f"main@sha1:{commit}"


def dumb(root: Path):
    """Serve files as they are: git's oldest protocol."""
    import threading
    from contextlib import contextmanager
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    @contextmanager
    def served():
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    return served()


async def test_sources_that_start_together_make_one_mirror(repository, open_, tmp_path):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        sources = [open_(url, f"s{number}", ref=GitRef(branch="main")) for number in range(8)]
        async with AsyncExitStack() as stack:
            followers = [await stack.enter_async_context(following(one)) for one in sources]
            seen = [await one.snapshot() for one in followers]
    assert len({one.revision for one in seen}) == 1
    assert mirror_of(sources[0]).lives == 1
