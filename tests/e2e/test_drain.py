"""`rondel drain`: what runs ends, what is new waits, nothing is lost."""

import subprocess
import sys

import httpx
import pytest

from controller.model.run import Phase
from tests.conftest import environment
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "w").mkdir()
    return tmp_path / "w"


@pytest.fixture
def gate(tmp_path):
    """A file that steps wait for."""
    return tmp_path / "open"


@pytest.fixture
def controller(tmp_path, folder, gate):
    made = ControllerProcess(tmp_path, "--source", str(folder))
    yield made
    gate.touch()
    if made.process is not None:
        made.stop()


def held(gate):
    return f"while ! [ -e {gate} ]; do sleep 0.05; done"


def listening(controller):
    """Start it; return when it can be asked."""
    controller.start()
    controller.until(lambda: controller.events("listening"), "it listens")


def readiness(controller):
    transport = httpx.HTTPTransport(uds=str(controller.state / "api" / "rondel.sock"))
    with httpx.Client(transport=transport, base_url="http://rondel") as http:
        answer = http.get("/readyz")
    return answer.status_code, answer.json()["checks"]["draining"]


def phases(controller, workflow):
    return [run.phase for run in controller.runs(workflow=workflow)]


def is_running(controller, workflow):
    return phases(controller, workflow) == [Phase.RUNNING]


def draining(controller):
    """Return a `rondel drain --wait` that goes on beside the test."""
    words = ("-m", "controller.cli.main", "drain", "--wait", "--state-dir", str(controller.state))
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment()
    )
    controller.until(lambda: controller.events("draining"), "it drains")
    return process


def test_a_drain_lets_runs_end_and_keeps_new_ones_until_it_is_taken_back(
    controller, folder, gate, rondel
):
    (folder / "long.yaml").write_text(manifest("long", held(gate), ON_CHANGE))
    listening(controller)
    controller.until(lambda: is_running(controller, "long"), "it runs")
    waiting = draining(controller)
    assert readiness(controller) == (503, True)
    (folder / "new.yaml").write_text(manifest("new", "true", ON_CHANGE))
    controller.until(lambda: phases(controller, "new"), "a change is recorded")
    gate.touch()
    said = waiting.communicate(timeout=30)[0].splitlines()
    assert (waiting.returncode, said[-1]) == (0, "draining: 0 running, 1 waiting")
    assert phases(controller, "long") == [Phase.SUCCEEDED]
    assert phases(controller, "new") == [Phase.PENDING]
    assert rondel("drain", "--wait").returncode == 0, "a drain of nothing is over at once"
    assert len(controller.events("draining")) == 1, "it is told once"
    assert rondel("drain", "--undo").stdout.startswith("not draining: ")
    controller.until(lambda: phases(controller, "new") == [Phase.SUCCEEDED], "it starts")
    assert readiness(controller) == (200, False)


def test_what_waited_starts_with_the_next_controller(controller, folder, rondel):
    (folder / "one.yaml").write_text(manifest("one"))
    listening(controller)
    assert rondel("drain").stdout == "draining: 0 running, 0 waiting\n"
    rondel("run", "one")
    assert phases(controller, "one") == [Phase.PENDING]
    assert controller.stop() == 0
    assert phases(controller, "one") == [Phase.PENDING], "stopping starts nothing"
    controller.start()
    controller.until(lambda: phases(controller, "one") == [Phase.SUCCEEDED], "it starts")


def test_a_wait_ends_when_somebody_takes_the_drain_back(controller, folder, gate, rondel):
    (folder / "long.yaml").write_text(manifest("long", held(gate), ON_CHANGE))
    listening(controller)
    controller.until(lambda: is_running(controller, "long"), "it runs")
    waiting = draining(controller)
    rondel("drain", "--undo")
    waiting.communicate(timeout=30)
    assert waiting.returncode == 1
    assert rondel("drain", "--wait", "--undo").returncode == 2
