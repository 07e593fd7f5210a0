"""A real `rondel serve` on a state directory of its own, ended by its pid."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench import measure
from tests.conftest import environment

PATIENCE_SECONDS = 180.0
RONDEL = (sys.executable, "-m", "controller.cli.main")


class Serving:
    """One daemon; its log is read from where the last look ended."""

    def __init__(self, folder: Path, *words: str, **variables: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.state, self._log = folder / "state", folder / "serve.log"
        self._began = self._log.stat().st_size if self._log.exists() else 0
        self.started = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*RONDEL, "serve", "--executor", "local", "--state-dir", str(self.state), *words],
                stdout=log,
                stderr=log,
                env=environment(**variables),
                cwd=folder,
            )
        self.pid = self._process.pid

    def log(self) -> bytes:
        with self._log.open("rb") as log:
            log.seek(self._began)
            return log.read()

    def told(self, event: str) -> int:
        return self.log().count(f'"event": "{event}"'.encode())

    def ready(self) -> float:
        """Wait until it is; return the seconds since it was started."""
        self.until(lambda: self.told("ready"), "ready", pause=0.002)
        return time.perf_counter() - self.started

    def ended(self, runs: int) -> None:
        """Wait until so many runs have finished since the start."""
        self.until(lambda: self.told("run_finished") >= runs, "a run ends")

    def until(self, holds: Callable[[], Any], what: str, pause: float = 0.005) -> Any:
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := holds()):
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"never: {what}\n{self.log()[-3000:].decode()}")
            time.sleep(pause)
        return found

    def ask(self, sql: str, *values: Any) -> list[Any]:
        """Look into its store; nothing when there is none yet."""
        try:
            with sqlite3.connect(f"{(self.state / 'rondel.db').as_uri()}?mode=ro", uri=True) as db:
                return db.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            measure.must("no such column" not in str(error), str(error))
            return []  # not made yet, or locked for a moment

    def count(self, sql: str, *values: Any) -> int:
        found = self.ask(sql, *values)
        return int(found[0][0]) if found else 0

    def cpu(self) -> float:
        return measure.cpu_of(self.pid)

    def cpu_of_family(self) -> float:
        return sum(measure.cpu_of(pid) for pid in measure.family(self.pid))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it politely, else for good."""
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def serving(folder: Path, *words: str, **variables: str) -> Iterator[Serving]:
    daemon = Serving(folder, *words, **variables)
    try:
        yield daemon
    finally:
        daemon.stop()
