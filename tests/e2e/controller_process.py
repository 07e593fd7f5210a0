"""A real `rondel serve`, started and watched by a test."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.model.run import Run
from controller.store import Reader
from tests.conftest import environment

PATIENCE_SECONDS = 30.0


class ControllerProcess:
    """One controller on one state directory; may be killed and started again."""

    def __init__(self, folder: Path, *words: str, **variables: str) -> None:
        """`words` and `variables`: what else it is called with, and has in its environment."""
        self.state = folder / "state"
        self._words = words
        self._variables = variables
        self._log = folder / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> "ControllerProcess":
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "controller.cli.main", "serve"),
                    *("--executor", "local", "--state-dir", str(self.state), *self._words),
                ],
                stdout=log,
                stderr=log,
                env=environment(**self._variables),
            )
        starts = len(self.events("ready"))
        if ready:
            self.until(lambda: len(self.events("ready")) > starts, "it is ready")
        return self

    def events(self, name: str = "") -> list[dict[str, Any]]:
        lines = [json.loads(one) for one in self._log.read_text().splitlines() if one[:1] == "{"]
        return [one for one in lines if name in {"", one["event"]}]

    def log(self) -> str:
        return self._log.read_text()

    def look(self, call: Callable[[Reader], Any]) -> Any:
        with Reader.open(self.state) as reader:
            return call(reader)

    def runs(self, **fields: Any) -> list[Run]:
        return list(self.look(lambda reader: reader.runs(**fields)))

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Return what `holds` returns once it is true."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := holds()):
            assert self.process is not None
            assert self.process.poll() is None, f"the controller ended:\n{self.log()}"
            assert time.monotonic() < end, f"never: {what}\n{self.log()[-6000:]}"
            time.sleep(0.02)
        return found

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it politely; return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def manifest(name: str, script: str = "true", spec: str = "") -> str:
    return (
        "apiVersion: rondel/v1alpha1\nkind: Workflow\n"
        f"metadata: {{name: {name}}}\nspec:\n{spec}"
        f"  steps:\n    - name: a\n      script: {json.dumps(script)}\n"
    )


ON_CHANGE = "  triggers: [{onChange: [spec, inputs]}]\n"


def alive(mark: str) -> list[str]:
    """Return the pids of processes whose command line holds `mark`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line:
                found.append(entry.name)
    return found
