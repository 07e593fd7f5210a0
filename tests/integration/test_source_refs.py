"""Which ref of a repository is taken, and which request a look has answered."""

import asyncio
from datetime import timedelta

import pytest

from controller.errors import StalledError, UsageError
from controller.model.settings import GitRef
from tests.source_places import Repository, following, git_source, serving


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def open_(tmp_path):
    return lambda url, **more: git_source(url, tmp_path / "state", **more)


def url_of(repository: Repository, server, *, local: bool) -> str:
    return repository.url if local else server.url("repository/.git")


@pytest.mark.parametrize("local", [True, False])
async def test_the_highest_version_of_a_range_is_followed(repository, open_, tmp_path, local):
    first = repository.commit(a="1")
    repository.git("tag", "v1.2.0")
    repository.commit(a="2")
    repository.git("tag", "-a", "v1.10.0-rc.1", "-m", "early")
    repository.commit(a="3")
    repository.git("tag", "v2.0.0")
    repository.git("tag", "nightly")
    with serving(tmp_path) as server:
        url = url_of(repository, server, local=local)
        async with following(open_(url, ref=GitRef(semver=">=1.2 <2"))) as source:
            assert (await source.snapshot()).revision == f"v1.2.0@sha1:{first}"
            later = repository.commit(a="4")
            repository.git("tag", "-a", "v1.9.1", "-m", "next")
            source.source.look()
            assert (await source.snapshot()).revision == f"v1.9.1@sha1:{later}"
            repository.git("tag", "-d", "v1.9.1")
            source.source.look()
            assert (await source.snapshot()).revision == f"v1.2.0@sha1:{first}"
        async with following(open_(url, ref=GitRef(semver=">=1.2.0-0 <2"))) as source:
            assert (await source.snapshot()).revision.startswith("v1.10.0-rc.1@")


@pytest.mark.parametrize("local", [True, False])
async def test_a_range_that_no_tag_meets_needs_a_person(repository, open_, tmp_path, local):
    repository.commit(a="1")
    repository.git("tag", "v1.0.0")
    with serving(tmp_path) as server:
        url = url_of(repository, server, local=local)
        async with following(open_(url, ref=GitRef(semver="^2"))) as source:
            error = await source.next()
            assert isinstance(error, StalledError)
            assert (error.reason, error.problem) == ("RefNotFound", "there is no semver:^2")
            repository.git("tag", "v2.0.0")
            source.source.look()
            assert (await source.snapshot()).revision.startswith("v2.0.0@")


async def test_the_first_of_commit_name_semver_tag_and_branch_wins(repository, open_):
    commits = {}
    for kind in ("commit", "name", "semver", "tag", "branch"):
        commits[kind] = repository.commit(a=kind)
        if kind == "name":
            repository.git("update-ref", "refs/pull/7/head", "HEAD")
        if kind in {"semver", "tag"}:
            repository.git("tag", {"semver": "v1.5.0", "tag": "live"}[kind])
    given = {
        "commit": commits["commit"],
        "name": "refs/pull/7/head",
        "semver": "1.x",
        "tag": "live",
        "branch": "main",
    }
    shown = ["HEAD", "refs/pull/7/head", "v1.5.0", "live", "main"]
    for place, kind in enumerate(commits):
        ref = GitRef(**dict(list(given.items())[place:]))
        assert ref.given == tuple(list(given)[place:])
        async with following(open_(repository.url, ref=ref)) as source:
            revision = (await source.snapshot()).revision
        assert revision == f"{shown[place]}@sha1:{commits[kind]}"


@pytest.mark.parametrize("text", ["latest", "", "1.2.3.4", ">=1.2 <", "--upload-pack=x"])
def test_a_range_that_is_none_is_a_fault_of_the_configuration(open_, text):
    with pytest.raises(UsageError) as caught:
        open_("/srv/x", ref=GitRef(semver=text))
    assert caught.value.where == "source there: ref.semver"
    assert caught.value.remedy


async def test_a_look_answers_the_requests_that_were_made_before_it_began(
    repository, open_, tmp_path
):
    old = repository.commit(a="1")
    with serving(tmp_path) as server:
        source = open_(server.url("repository/.git"))
        async with following(source) as follower:
            await follower.snapshot()
            server.answering.clear()
            first = source.look(tell=True)
            while not server.withheld.is_set():
                await asyncio.sleep(0.01)
            new = repository.commit(a="2")
            second, third = source.look(tell=True), source.look(tell=True)
            assert source.answered() < first
            server.answering.set()
            seen = await follower.snapshot()
            assert seen.revision == f"main@sha1:{old}"
            seen = await follower.snapshot()
            assert seen.revision == f"main@sha1:{new}"
            assert source.answered() == third > second > first
            assert await follower.quiet()


async def test_a_request_is_answered_by_a_failure_too(repository, open_, tmp_path):
    repository.commit(a="1")
    with serving(tmp_path) as server:
        source = open_(server.url("repository/.git"))
        async with following(source) as follower:
            await follower.snapshot()
            (tmp_path / "repository").rename(tmp_path / "away")
            for _ in range(2):  # the second is told although nothing is new
                number = source.look(tell=True)
                assert (await follower.next()).reason == "RepositoryNotFound"
                assert source.answered() == number


async def test_a_configured_proxy_is_asked_instead_of_the_remote(open_, tmp_path):
    with serving(tmp_path) as proxy:
        source = open_("http://127.0.0.1:1/ops.git", proxy=proxy.url(""))
        async with following(source) as follower:
            assert (await follower.next()).reason != ""
        assert proxy.requests[0][0].startswith("http://127.0.0.1:1/ops.git/info/refs")


async def test_a_proxy_that_hangs_is_given_up(repository, open_, tmp_path):
    repository.commit(a="1")
    with serving(tmp_path) as server, serving(tmp_path) as proxy:
        proxy.hang.set()
        url = server.url("repository/.git")
        source = open_(url, proxy=proxy.url(""), timeout=timedelta(seconds=1))
        async with following(source) as follower:
            error = await follower.next()
            assert error.reason == "FetchTimeout"
            assert server.requests == [], "nobody goes round the proxy"
        proxy.hang.clear()
        proxy.released.set()


async def test_failures_are_tried_again_later_each_time_until_somebody_asks(
    repository, open_, tmp_path
):
    with serving(tmp_path) as server:
        source = open_(server.url("nothing/.git"))
        async with following(source) as follower:
            await follower.next()
            pauses = []
            for failures in range(1, 15):
                source._failures = failures
                pauses.append([source._patience() for _ in range(50)])
            middle = [min(2.0 * 2 ** min(one, 10), 3600.0) for one in range(14)]
            for near, found in zip(middle, pauses, strict=True):
                assert all(0.8 * near <= one <= 1.2 * near for one in found)
                assert len(set(found)) > 10
            source.look(tell=True)
            await follower.next()
            assert source._failures <= 2
