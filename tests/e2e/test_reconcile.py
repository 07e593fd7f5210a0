"""`rondel reconcile`: it waits for its own request, however slow the remote is."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from controller.serve.address import socket_path
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest
from tests.source_places import Repository, serving


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "repository")
    made.commit(one_yaml=manifest("one", "true", ON_CHANGE))
    return made


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path) as made:
        yield made


@pytest.fixture
def controller(tmp_path, repository, server):
    config = tmp_path / "rondel.yaml"
    config.write_text(
        f"sources: [{{name: ops, kind: Git, url: '{server.url('repository/.git')}',"
        " ref: {branch: main}, interval: 10m, trusted: true}]\n"
    )
    made = ControllerProcess(tmp_path, "--config", str(config)).start()
    made.until(lambda: made.events("listening"), "it listens")
    yield made
    server.answering.set()
    made.stop()


@pytest.fixture
def api(controller):
    transport = httpx.HTTPTransport(uds=str(socket_path(controller.state)))
    with httpx.Client(transport=transport, base_url="http://rondel/api/v1", timeout=30) as client:
        yield client


def test_a_request_is_answered_by_a_look_that_began_after_it(
    controller, repository, server, api, rondel
):
    def ask() -> int:
        return int(api.post("/sources/ops/reconcile").json()["request"])

    def answer(request: int, wait: int) -> Any:
        return api.get(f"/sources/ops/reconcile/{request}?wait={wait}").json()

    server.answering.clear()
    first = ask()
    controller.until(server.withheld.is_set, "the first look has its answer, and waits for it")
    new = repository.commit(two_yaml=manifest("two", "true", ON_CHANGE))
    second = ask()
    assert answer(first, 0) == {
        "source": "ops", "request": first, "answered": False, "status": None
    }  # fmt: skip
    server.answering.set()
    assert answer(first, 20)["answered"]
    assert answer(second, 20)["status"]["lastAppliedRevision"] == f"main@sha1:{new}"
    assert rondel("get", "workflows", "-o", "name").stdout == "ops/one\nops/two\n"


def test_whoever_waits_after_a_commit_has_it(controller, repository, rondel):
    with ThreadPoolExecutor() as pool:
        for number in range(3):
            commit = repository.commit(one_yaml=manifest("one", f"echo {number}", ON_CHANGE))
            asking = [pool.submit(rondel, "reconcile", "ops", "--wait") for _ in range(2)]
            for one in asking:
                assert one.result().stdout == f"source ops: main@sha1:{commit}\n"


def test_a_failed_look_is_the_answer_and_a_later_one_is_another(
    controller, repository, tmp_path, rondel
):
    repository.folder.rename(tmp_path / "away")
    done = rondel("reconcile", "ops", "--wait")
    assert done.returncode == 1
    assert done.stderr.startswith("source ops: RepositoryNotFound:")
    (tmp_path / "away").rename(repository.folder)
    commit = repository.commit(one_yaml=manifest("one", "echo 2", ON_CHANGE))
    done = rondel("reconcile", "ops", "--wait")
    assert (done.returncode, done.stdout) == (0, f"source ops: main@sha1:{commit}\n")


def test_a_suspended_source_is_not_asked(controller, repository, server, rondel):
    rondel("suspend", "ops")
    before = len(server.requests)
    done = rondel("reconcile", "ops", "--wait")
    assert done.returncode == 1
    assert "source ops: is suspended; rondel resume ops" in done.stderr
    commit = repository.commit(one_yaml=manifest("one", "echo 2", ON_CHANGE))
    assert len(server.requests) == before
    rondel("resume", "ops")
    controller.until(
        lambda: (
            controller.look(lambda reader: reader.source("ops")).last_applied_revision
            == f"main@sha1:{commit}"
        ),
        "what was committed meanwhile is applied",
    )
