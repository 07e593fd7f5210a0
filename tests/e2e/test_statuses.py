"""Commit statuses of a real controller: no commit is green before its work has run."""

import json
import subprocess

import pytest

from controller.model.run import Phase
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest
from tests.far_side import Answer, FarSide

TOKEN = "token-of-the-forge"
SUM = "rondel/ops"


class Repository:
    """A bare repository is not needed: the work tree is the source."""

    def __init__(self, folder) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str) -> str:
        identity = ("-c", "user.name=You", "-c", "user.email=you@example.com")
        return subprocess.run(
            ["git", *identity, *words], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            (self.folder / f"{name}.yaml").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def far():
    made = FarSide()
    yield made
    made.stop()


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def told(tmp_path, repository, far):
    """A controller of the repository that tells its commits, at a forge that is the far side."""
    (tmp_path / "token").write_text(TOKEN)
    statuses = {
        "type": "gitea",
        "secret": "forge",
        "url": f"{far.url}/api/v1",
        "repository": "acme/ops",
        "targetUrl": "https://rondel.example.com/{source}/{run}",
    }
    source = {
        "name": "ops",
        "kind": "Git",
        "url": f"file://{repository.folder}",
        "ref": {"branch": "main"},
        "trusted": True,
        "statuses": statuses,
    }
    config = {"sources": [source], "secrets": {"forge": {"file": str(tmp_path / "token")}}}
    (tmp_path / "rondel.yaml").write_text(json.dumps(config))
    made = ControllerProcess(tmp_path, "--config", str(tmp_path / "rondel.yaml"))
    yield made
    if made.process is not None:
        made.stop()


def states(far, commit, context):
    path = f"/api/v1/repos/acme/ops/statuses/{commit}"
    return [
        one.body["state"]
        for one in far.taken
        if one.path == path and one.body["context"] == context
    ]


def settled(controller, far, commit, context, state):
    controller.until(lambda: states(far, commit, context)[-1:] == [state], f"{context} is {state}")


def test_a_commit_is_pending_until_its_work_has_run_and_then_green(told, repository, far, tmp_path):
    gate = tmp_path / "gate"
    slow = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    commit = repository.commit(one=manifest("one", slow, ON_CHANGE), two=manifest("two"))
    told.start()
    settled(told, far, commit, SUM, "pending")
    settled(told, far, commit, f"{SUM}/one", "pending")
    assert "success" not in states(far, commit, SUM)
    gate.touch()
    settled(told, far, commit, SUM, "success")
    assert states(far, commit, f"{SUM}/one")[-1] == "success"
    assert states(far, commit, f"{SUM}/two") == [], "nothing follows for it"
    [run] = told.runs()
    last = far.taken[-1]
    assert last.headers["authorization"] == f"token {TOKEN}"
    assert f"https://rondel.example.com/ops/{run.id}" in {
        one.body["target_url"] for one in far.taken
    }
    assert TOKEN not in told.log()
    assert told.stop() == 0
    for kept in told.state.glob("rondel.db*"):
        assert TOKEN.encode() not in kept.read_bytes()


def test_a_commit_that_fails_is_red_and_one_that_causes_nothing_has_only_a_summary(
    told, repository, far
):
    first = repository.commit(one=manifest("one", "exit 3", ON_CHANGE))
    told.start()
    settled(told, far, first, SUM, "failure")
    assert states(far, first, f"{SUM}/one")[-1] == "failure"
    second = repository.commit()
    settled(told, far, second, SUM, "success")
    assert states(far, second, f"{SUM}/one") == []


def test_an_invalid_manifest_is_told_with_its_place(told, repository, far):
    repository.commit(one=manifest("one", "true", ON_CHANGE))
    told.start()
    told.until(lambda: told.runs(phases=[Phase.SUCCEEDED]), "it ran")
    broken = repository.commit(one=manifest("one", "true", "  timeot: 1s\n"))
    settled(told, far, broken, SUM, "failure")
    settled(told, far, broken, f"{SUM}/one", "failure")
    texts = [one.body["description"] for one in far.taken if broken in one.path]
    assert any("one.yaml:5:" in text for text in texts), texts
    mended = repository.commit(one=manifest("one", "echo", ON_CHANGE))
    settled(told, far, mended, SUM, "success")
    settled(told, far, mended, f"{SUM}/one", "success")


def test_a_forge_that_is_down_holds_up_nothing_and_is_told_only_the_newest_state(
    told, repository, far
):
    far.stop()
    commit = repository.commit(one=manifest("one", "true", ON_CHANGE))
    told.start()
    told.until(lambda: told.runs(phases=[Phase.SUCCEEDED]), "runs go on")
    told.until(lambda: told.events("words_delayed"), "nobody took it")
    told.kill()
    far.start()
    told.start()
    settled(told, far, commit, SUM, "success")
    assert states(far, commit, f"{SUM}/one") == ["success"]
    assert states(far, commit, SUM) == ["success"]


def test_a_forge_that_refuses_is_given_up_with_an_event_that_says_why(
    told, repository, far, rondel
):
    far.answer = lambda taken: Answer(
        404 if taken.body["context"] == f"{SUM}/one" else 201, body={"message": "no such commit"}
    )
    commit = repository.commit(one=manifest("one", "true", ON_CHANGE))
    told.start()
    settled(told, far, commit, SUM, "success")
    told.until(lambda: "no such commit" in rondel("get", "events").stdout, "the event can be read")
    shown = json.loads(rondel("get", "events", "-o", "json").stdout)
    [*_, given_up] = [one for one in shown if one["reason"] == "StatusGivenUp"]
    assert given_up["workflow"] == "one"
    assert "it answered 404: no such commit" in given_up["message"]


def gated(gate):
    return f"while [ ! -e {gate} ]; do sleep 0.02; done"


@pytest.mark.parametrize("ending", [("Fail", "error"), ("Rerun", "success")], ids=" ".join)
def test_a_run_that_a_kill_took_leaves_no_commit_pending(told, repository, far, tmp_path, ending):
    on_interrupt, state = ending
    gate = tmp_path / "gate"
    spec = f"  onInterrupt: {on_interrupt}\n{ON_CHANGE}"
    commit = repository.commit(one=manifest("one", gated(gate), spec))
    told.start()
    told.until(lambda: told.runs(phases=[Phase.RUNNING]), "it runs")
    settled(told, far, commit, SUM, "pending")
    told.kill()
    gate.touch()
    told.start()
    settled(told, far, commit, f"{SUM}/one", state)
    settled(told, far, commit, SUM, state)


def test_a_commit_whose_run_a_newer_one_takes_the_place_of_is_not_green(
    told, repository, far, tmp_path
):
    gate = tmp_path / "gate"
    first = repository.commit(one=manifest("one", gated(gate), ON_CHANGE))
    told.start()
    told.until(lambda: told.runs(phases=[Phase.RUNNING]), "the first runs")
    second = repository.commit(one=manifest("one", "true", ON_CHANGE))
    settled(told, far, second, f"{SUM}/one", "pending")
    third = repository.commit(one=manifest("one", "echo", ON_CHANGE))
    settled(told, far, second, f"{SUM}/one", "error")
    settled(told, far, second, SUM, "error")
    gate.touch()
    for commit in (first, third):
        settled(told, far, commit, SUM, "success")
    assert "success" not in states(far, second, SUM)


def test_a_run_that_is_retried_turns_its_commit_green(told, repository, far, tmp_path, rondel):
    gate = tmp_path / "gate"
    commit = repository.commit(one=manifest("one", f"test -e {gate}", ON_CHANGE))
    told.start()
    settled(told, far, commit, SUM, "failure")
    gate.touch()
    [run] = told.runs()
    assert rondel("retry", run.id).returncode == 0
    settled(told, far, commit, SUM, "success")
    assert states(far, commit, f"{SUM}/one")[-1] == "success"
