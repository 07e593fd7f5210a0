"""`POST /api/v1/plan`: what follows from a revision, asked of a controller that follows a server."""

import json

import httpx
import pytest

from controller.serve.address import socket_path
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest
from tests.source_places import Repository, serving

FLOW = "flow.yaml"


class Asking:
    """A controller that follows main of a repository over HTTP, and what it is asked."""

    def __init__(self, place) -> None:
        self.repository = Repository(place / "repository")
        self.first = self.repository.commit(**{FLOW: manifest("flow", "echo 1", ON_CHANGE)})
        self.controller = ControllerProcess(place, "--config", str(place / "rondel.yaml"))

    def configure(self, place, server, **more) -> None:
        git = {
            "name": "ops",
            "kind": "Git",
            "url": server.url("repository/.git"),
            "ref": {"branch": "main"},
            "trusted": True,
            **more,
        }
        notes = {"name": "notes", "kind": "Directory", "path": str(place / "notes")}
        (place / "notes").mkdir()
        (place / "rondel.yaml").write_text(json.dumps({"sources": [git, notes]}))

    def start(self) -> None:
        events = self.controller.start().events
        self.controller.until(lambda: events("listening"), "its door is open")
        self.controller.until(self._ended, "the first run")

    def _ended(self) -> bool:
        return any(run.phase.terminal for run in self.controller.runs())

    def post(self, **body) -> httpx.Response:
        transport = httpx.HTTPTransport(uds=str(socket_path(self.controller.state)))
        with httpx.Client(transport=transport, base_url="http://rondel", timeout=30) as client:
            return client.post("/api/v1/plan", json=body)

    def actions(self, **body) -> dict[str, str]:
        answer = self.post(**body)
        assert answer.status_code == 200, answer.text
        return {one["name"]: one["action"] for one in answer.json()["workflows"]}


@pytest.fixture
def asking(tmp_path):
    made = Asking(tmp_path)
    with serving(tmp_path) as server:
        made.configure(tmp_path, server)
        made.start()
        yield made
        made.controller.stop()


def test_a_branch_that_nobody_follows_is_compared_with_what_is_loaded(asking):
    repository = asking.repository
    repository.git("checkout", "-q", "-b", "topic")
    topic = repository.commit(
        **{FLOW: manifest("flow", "echo 2", ON_CHANGE), "new.yaml": manifest("new")}
    )
    answer = asking.post(source="ops", head="topic")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["base"], told["head"], told["invalid"]) == (None, "topic", [])
    (flow,) = [one for one in told["workflows"] if one["name"] == "flow"]
    assert (flow["source"], flow["change"], flow["action"]) == ("ops", "Changed", "Run")
    assert [one["step"] for one in flow["causes"]] == [None, "a"]
    assert asking.actions(source="ops", head=topic) == {"flow": "Run", "new": "Nothing"}
    assert asking.actions(source="ops", base=asking.first, head="refs/heads/topic") == {
        "flow": "Run",
        "new": "Nothing",
    }
    assert asking.actions(source="ops") == {"flow": "Nothing"}  # main has not moved
    names = asking.controller.look(lambda reader: [one.name for one in reader.workflows("ops")])
    assert names == ["flow"]  # nothing of it was applied
    assert len(asking.controller.runs()) == 1


def test_what_a_suspended_source_would_do_when_it_is_resumed(tmp_path):
    made = Asking(tmp_path)
    with serving(tmp_path) as server:
        made.configure(tmp_path, server, interval="1h")
        made.start()
        try:
            made.repository.commit(**{FLOW: manifest("flow", "echo 3", ON_CHANGE)})
            assert made.actions(source="ops") == {"flow": "Run"}
        finally:
            made.controller.stop()


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"source": "nope"}, 422, "there is no source 'nope'"),
        ({"source": "ops", "head": "nope"}, 422, "there is no branch, tag or commit 'nope'"),
        ({"source": "ops", "head": "0" * 40}, 422, ""),
        ({"source": "ops", "head": "--upload-pack=touch /tmp/x"}, 422, "head"),
        ({"source": "ops", "head": "--upload-pack=x"}, 422, "there is no branch"),
        ({"source": "notes", "head": "main"}, 422, "is a folder, which has no revisions"),
        ({"haed": "main"}, 422, "haed"),
    ],
    ids=["source", "branch", "commit", "option", "dashes", "folder", "word"],
)
def test_what_cannot_be_compared_is_said(asking, body, status, told):
    answer = asking.post(**body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in answer.json()["detail"]
