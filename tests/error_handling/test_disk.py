"""The disk of the state directory is full, or turns read-only, under a controller that works."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import environment
from tests.e2e.controller_process import ON_CHANGE, PATIENCE_SECONDS, manifest

ROOT = Path(__file__).parents[2]
SERVE = 'mount -t tmpfs -o size=8m state "$1" && shift && exec "$@"'


def namespaces() -> str:
    """Return why a disk of our own can't be had; "" when it can."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return "no unshare or nsenter here"
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    return tried.stderr.strip()


pytestmark = pytest.mark.skipif(bool(namespaces()), reason=namespaces() or "-")


class OnItsDisk:
    """A controller whose state directory is a disk of 8 MiB that nobody else sees."""

    def __init__(self, tmp_path: Path) -> None:
        self._place = tmp_path / "state"
        self._place.mkdir()
        self._log = tmp_path / "log"
        self.folder = tmp_path / "w"
        self.folder.mkdir()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *("unshare", "-rm", "sh", "-c", SERVE, "sh", str(self._place)),
                    *(sys.executable, "-m", "controller.cli.main", "serve"),
                    *("--executor", "local", "--state-dir", str(self._place)),
                    *("--source", str(self.folder)),
                ],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment(),
            )
        self.until(lambda: '"event": "ready"' in self.said(), "it is ready")

    @property
    def state(self) -> Path:
        """The directory as the controller sees it."""
        return Path(f"/proc/{self.process.pid}/root{self._place}")

    def said(self) -> str:
        return self._log.read_text()

    def rondel(self, *words):
        """Run a command that sees the disk; return what it says."""
        enter = ["nsenter", "-t", str(self.process.pid), "-U", "-m", "--preserve-credentials"]
        command = [sys.executable, "-m", "controller.cli.main", *words]
        done = subprocess.run(
            [*enter, *command, "--state-dir", str(self._place)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(),
            check=True,
        )
        return done.stdout

    def edit(self, name: str, script: str) -> None:
        (self.folder / f"{name}.yaml").write_text(manifest(name, script, ON_CHANGE))

    def fill(self) -> None:
        """Leave not a byte."""
        with (self.state / "ballast").open("ab", buffering=0) as file:
            for size in (1 << 16, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return what its log says of that kind."""
        lines = [json.loads(line) for line in self.said().splitlines() if line[:1] == "{"]
        return [line for line in lines if line["event"] == event]

    def ended(self, name: str) -> list[str]:
        """Return the phases of a workflow's runs that have ended."""
        return [one["phase"] for one in self.told("run_finished") if one["workflow"] == name]

    def until(self, holds, what):
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := holds()):
            assert self.process.poll() is None, f"it ended:\n{self.said()}"
            assert time.monotonic() < end, f"never: {what}\n{self.said()[-4000:]}"
            time.sleep(0.05)
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()


@pytest.fixture
def controller(tmp_path):
    made = OnItsDisk(tmp_path)
    yield made
    if made.process.poll() is None:
        made.stop()


def test_a_full_disk_stops_no_controller_and_what_was_due_runs_once_there_is_room(controller):
    controller.edit("one", "echo first")
    controller.until(lambda: controller.ended("one") == ["Succeeded"], "the first run")
    controller.fill()
    controller.edit("one", "echo second")
    controller.until(lambda: "free disk space" in controller.said(), "it says what to do")
    (controller.state / "ballast").unlink()
    controller.until(lambda: controller.ended("one") == ["Succeeded"] * 2, "the second run")
    assert controller.stop() == 0


@pytest.fixture
def marks(tmp_path):
    """Files that a step waits for: `{folder}/name`."""
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def wait_for(mark: Path) -> str:
    return f"until [ -e {mark} ]; do sleep 0.05; done"


def test_a_disk_that_fills_up_under_a_step_costs_log_lines_and_not_the_step(controller, marks):
    full, said, room = marks / "full", marks / "said", marks / "room"
    words = f"echo up; {wait_for(full)}; seq 100000; touch {said}; {wait_for(room)}; echo last"
    controller.edit("talks", words)
    controller.until(lambda: "a | up" in controller.rondel("logs", "talks"), "it has said a word")
    controller.fill()
    full.touch()
    controller.until(said.exists, "the step goes on")
    (controller.state / "ballast").unlink()
    room.touch()
    controller.until(lambda: controller.ended("talks"), "it ends")
    assert controller.ended("talks") == ["Succeeded"]
    assert "Traceback" not in controller.said()
    lines = controller.rondel("logs", "talks").splitlines()
    assert lines[0] == "a | up"
    mark = "lines left out: the disk took none: No space left on device"
    assert any(mark in line for line in lines)
    assert lines[-1] == "a | last"


def test_a_run_that_ends_while_the_disk_is_full_is_settled_when_there_is_room(controller, marks):
    controller.edit("ends", f"echo up; {wait_for(marks / 'full')}")
    controller.until(lambda: controller.told("attempt_started"), "it runs")
    controller.fill()
    (marks / "full").touch()
    controller.until(lambda: controller.told("run_not_recorded"), "it can't be written")
    (controller.state / "ballast").unlink()
    controller.until(lambda: controller.ended("ends"), "it is settled")
    run = json.loads(
        controller.rondel("get", "run", controller.told("run_finished")[0]["run"], "-o", "json")
    )
    assert (run["phase"], run["reason"]) == ("Error", "StoreFull")
    assert [step["phase"] for step in run["steps"]] == ["Error"]


def test_a_disk_that_can_not_be_written_is_named_at_the_start(tmp_path):
    for name in ("state", "w"):
        (tmp_path / name).mkdir()
    mount = 'mount -t tmpfs -o ro state "$1" && shift && exec "$@"'
    refused = subprocess.run(
        [
            *("unshare", "-rm", "sh", "-c", mount, "sh", str(tmp_path / "state")),
            *(sys.executable, "-m", "controller.cli.main", "serve", "--executor", "local"),
            *("--state-dir", str(tmp_path / "state"), "--source", str(tmp_path / "w")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert str(tmp_path / "state") in refused.stderr
    assert "make the state directory writable" in refused.stderr
