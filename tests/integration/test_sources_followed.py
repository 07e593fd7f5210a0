"""The configured Git sources in a controller: one mirror, what is let go of, what is warned of."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import structlog

from controller.errors import RefusedError, UsageError
from controller.model.condition import Suspension
from controller.model.settings import GitRef
from controller.source.holding import KEEP
from tests.controlled import daemon_of, source
from tests.e2e.controller_process import ON_CHANGE, manifest
from tests.source_places import Repository, serving


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


async def kept(tmp_path: Any, repository: Repository) -> set[str]:
    (mirror,) = (tmp_path / "state" / "mirrors").iterdir()
    told = repository.git("--git-dir", str(mirror), "for-each-ref", "--format=%(refname)", KEEP)
    return {one.removeprefix(KEEP) for one in told.split()}


async def reconciled(daemon: Any, name: str = "ops") -> Any:
    requests = daemon._requests()
    return await requests.reconciled(name, requests.reconcile(name), 20)


async def test_housekeeping_lets_go_of_commits_that_no_kept_run_is_of(repository, tmp_path):
    run_of = repository.commit(one_yaml=manifest("one", "true", ON_CHANGE))
    with serving(tmp_path) as server:
        async with daemon_of(tmp_path, source(server.url("repository/.git"))) as daemon:
            async with asyncio.timeout(20):
                while not await daemon.store.read(lambda reader: reader.runs()):
                    await asyncio.sleep(0.02)
            commits = [repository.commit(note=f"{number}") for number in range(3)]
            for commit in commits[-2:]:
                repository.git("reset", "--quiet", "--hard", commit)
                assert (await reconciled(daemon)).last_applied_revision.endswith(commit)
            assert await kept(tmp_path, repository) == {run_of, *commits[-2:]}
            await daemon._housekeep()
            assert await kept(tmp_path, repository) == {run_of, commits[-1]}


async def test_sources_of_one_url_share_a_mirror_in_a_controller(repository, tmp_path):
    repository.commit(a__one_yaml=manifest("one", "true"), b__two_yaml=manifest("two", "true"))
    with serving(tmp_path) as server:
        url = server.url("repository/.git")
        two = (source(url, "a", path="a"), source(url, "b", path="b"))
        async with daemon_of(tmp_path, *two) as daemon:
            assert set(daemon._loading.keys()) == {("a", "one"), ("b", "two")}
            assert len([*(tmp_path / "state" / "mirrors").iterdir()]) == 1


async def test_of_several_refs_the_first_is_taken_with_a_warning(repository, tmp_path):
    tagged = repository.commit(one_yaml=manifest("one", "true"))
    repository.git("tag", "v1.0.0")
    repository.commit(one_yaml=manifest("one", "false"))
    ref = GitRef(branch="main", semver="1.x", tag="none")
    with structlog.testing.capture_logs() as logs:
        async with daemon_of(tmp_path, source(repository.url, ref=ref)) as daemon:
            assert daemon._loading.revision("ops") == f"v1.0.0@sha1:{tagged}"
    told = [one for one in logs if one["event"] == "ref_says_more_than_once"]
    assert [(one["source"], one["used"], one["left_out"]) for one in told] == [
        ("ops", "semver", ["tag", "branch"])
    ]


async def test_a_source_that_a_person_suspends_is_not_polled(repository, tmp_path):
    repository.commit(one_yaml=manifest("one", "true"))
    with serving(tmp_path) as server:
        url, often = server.url("repository/.git"), timedelta(milliseconds=50)
        async with daemon_of(tmp_path, source(url, interval=often)) as daemon:
            suspension = Suspension(by="me", at=daemon.clock.now())
            await daemon._loading.suspend("ops", suspension)
            while (asked := len(server.requests)) and not await rests(server, asked):
                """A look that was under way ends."""
            commit = repository.commit(two_yaml=manifest("two", "true"))
            assert await rests(server, len(server.requests))
            await daemon._loading.suspend("ops", None)
            assert (await reconciled(daemon)).last_applied_revision == f"main@sha1:{commit}"


async def rests(server: Any, asked: int) -> bool:
    await asyncio.sleep(0.5)  # ten intervals
    return len(server.requests) == asked


async def test_who_waits_for_a_source_that_is_taken_away_is_told(repository, tmp_path):
    repository.commit(one_yaml=manifest("one", "true"))
    with serving(tmp_path) as server:
        async with daemon_of(tmp_path, source(server.url("repository/.git"))) as daemon:
            server.answering.clear()
            waiting = asyncio.create_task(reconciled(daemon))
            while not server.withheld.is_set():
                await asyncio.sleep(0.01)
            await daemon._following.remove("ops")
            with pytest.raises(RefusedError, match="was configured anew meanwhile"):
                await waiting
            with pytest.raises(UsageError, match="no source 'ops'"):
                await reconciled(daemon)
