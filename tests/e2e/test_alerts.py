"""Alerts of a real controller: told once, told of a recovery, kept while nobody listens."""

import json
import signal

import pytest

from controller.model.run import Phase
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest
from tests.far_side import FarSide

TOKEN = "token-of-the-far-side"


@pytest.fixture
def far():
    made = FarSide()
    yield made
    made.stop()


@pytest.fixture
def alerted(tmp_path, folder, far):
    """A controller of the folder `w` that alerts the far side of all that happens."""
    (tmp_path / "url").write_text(f"json://127.0.0.1:{far.port}/{TOKEN}\n")
    config = {
        "sources": [{"name": "w", "kind": "Directory", "path": str(folder)}],
        "secrets": {"bell": {"file": str(tmp_path / "url")}},
        "alerts": {"ops": {"url": {"secret": "bell"}, "sources": ["w"]}},
    }
    (tmp_path / "rondel.yaml").write_text(json.dumps(config))
    made = ControllerProcess(tmp_path, "--config", str(tmp_path / "rondel.yaml"))
    yield made
    if made.process is not None:
        made.stop()


def ended(controller, phase, count=1):
    controller.until(
        lambda: len(controller.runs(phases=[phase])) >= count, f"{count} runs are {phase}"
    )


def test_a_workflow_that_fails_alerts_once_and_once_when_it_recovers(alerted, folder, far):
    (folder / "one.yaml").write_text(manifest("one", "exit 3", ON_CHANGE))
    alerted.start()
    alerted.until(lambda: far.taken, "it was told")
    (folder / "one.yaml").write_text(manifest("one", "exit 4", ON_CHANGE))
    ended(alerted, Phase.FAILED, 2)
    (folder / "one.yaml").write_text(manifest("one", "true", ON_CHANGE))
    ended(alerted, Phase.SUCCEEDED)
    alerted.until(lambda: len(far.taken) > 1, "it was told of the recovery")
    (folder / "one.yaml").write_text(manifest("one", "echo", ON_CHANGE))
    ended(alerted, Phase.SUCCEEDED, 2)
    assert alerted.stop() == 0
    assert far.titles == ["Failed: w/one", "Recovered: w/one"]
    assert [one.body["type"] for one in far.taken] == ["failure", "success"]
    assert TOKEN not in alerted.log()


def test_words_wait_while_nobody_listens_and_a_killed_controller_tells_them_later(
    alerted, folder, far
):
    far.stop()
    (folder / "one.yaml").write_text(manifest("one", "exit 3", ON_CHANGE))
    alerted.start()
    ended(alerted, Phase.FAILED)
    alerted.until(lambda: alerted.events("words_delayed"), "nobody took it")
    (folder / "two.yaml").write_text(manifest("two", "true", ON_CHANGE))
    ended(alerted, Phase.SUCCEEDED)  # runs go on
    alerted.kill()
    far.start()
    alerted.start()
    alerted.until(lambda: far.taken, "it was told")
    assert alerted.stop() == 0
    assert far.titles == ["Failed: w/one"]
    for kept in alerted.state.glob("rondel.db*"):
        assert TOKEN.encode() not in kept.read_bytes()
    assert TOKEN not in alerted.log()


def test_a_hook_sends_an_alert_and_an_outage_does_not_hold_up_its_run(alerted, folder, far):
    hook = "  onFailure: [{name: page, alert: ops}]\n" + ON_CHANGE
    far.stop()
    (folder / "one.yaml").write_text(manifest("one", "exit 3", hook))
    alerted.start()
    ended(alerted, Phase.FAILED)
    [run] = alerted.runs()
    page = next(one for one in alerted.look(lambda r: r.steps(run.id)) if one.name == "page")
    assert page.phase is Phase.SUCCEEDED
    far.start()
    alerted.until(lambda: far.taken, "it was told")
    [told] = far.taken
    assert told.body["title"] == "2 alerts: 1 Failed, 1 Hook"
    assert "page: the run is Failed (a Failed)" in told.body["message"]


def test_a_manifest_that_is_broken_stalls_and_is_told_once(alerted, folder, far):
    (folder / "one.yaml").write_text(manifest("one", "true", ON_CHANGE))
    alerted.start()
    ended(alerted, Phase.SUCCEEDED)
    (folder / "one.yaml").write_text(manifest("one", "true", "  timeot: 1s\n"))
    alerted.until(lambda: far.taken, "it was told")
    assert far.titles == ["Stalled: w/one"]
    assert "one.yaml:" in far.taken[0].body["message"]


def test_a_hook_of_a_foreground_run_is_told_at_its_end_or_by_the_next_controller(
    alerted, tmp_path, folder, far, rondel
):
    config = json.loads((tmp_path / "rondel.yaml").read_text())
    config["alerts"]["ops"]["sources"] = ["exec"]
    (tmp_path / "rondel.yaml").write_text(json.dumps(config))
    hook = "  onFailure: [{name: page, alert: ops}]\n"
    (folder / "one.yaml").write_text(manifest("one", "exit 3", hook))
    words = (
        *("exec", str(folder / "one.yaml"), "--executor", "local"),
        *("--config", str(tmp_path / "rondel.yaml"), "--state-dir", str(alerted.state)),
    )
    assert rondel(*words).returncode == 1
    assert far.titles == ["Hook: exec/one"]
    far.stop()
    assert rondel(*words).returncode == 1
    far.start()
    (folder / "one.yaml").unlink()
    alerted.start()
    alerted.until(lambda: len(far.taken) == 2, "it was told")
    assert far.titles == ["Hook: exec/one"] * 2


def test_a_success_that_does_not_come_is_missed_and_recovers_when_it_does(
    alerted, folder, far, rondel
):
    (folder / "one.yaml").write_text(manifest("one", "true", "  expectEvery: 1s\n"))
    alerted.start()
    alerted.until(lambda: far.taken, "it was told")
    assert far.titles == ["Missed: w/one"]
    assert "the last success was seen never" in far.taken[0].body["message"]
    assert rondel("run", "one").returncode == 0
    alerted.until(lambda: len(far.taken) > 1, "it was told of the recovery")
    assert far.titles[1].startswith(("Recovered: w/one", "2 alerts: "))


def test_an_alert_that_is_configured_while_it_runs_is_told_from_then_on(
    alerted, tmp_path, folder, far
):
    whole = json.loads((tmp_path / "rondel.yaml").read_text())
    (tmp_path / "rondel.yaml").write_text(json.dumps({**whole, "alerts": {}}))
    hook = "  onFailure: [{name: page, alert: ops}]\n" + ON_CHANGE
    (folder / "one.yaml").write_text(manifest("one", "exit 3", hook))
    alerted.start()
    assert alerted.runs() == [], "there is no such alert"
    (tmp_path / "rondel.yaml").write_text(json.dumps(whole))
    alerted.process.send_signal(signal.SIGHUP)
    ended(alerted, Phase.FAILED)
    alerted.until(lambda: far.taken, "it was told")
    assert far.titles == ["2 alerts: 1 Failed, 1 Hook"]
