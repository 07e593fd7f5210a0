"""The controller under test: a process that may end itself at an edge."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from controller.serve.address import socket_path
from tests.conftest import environment
from tests.kill.switch import Order
from tests.kill.world import World

PATIENCE_SECONDS = 60.0


class StuckError(AssertionError):
    """The controller did not come to what it must come to."""


class Controller:
    """One life of the controller, from its start to its end."""

    def __init__(self, world: World, order: Order) -> None:
        self.world, self.order = world, order
        self.log = world.folder / "serve.log"
        self._from = self.log.stat().st_size if self.log.exists() else 0
        self.began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.kill.launcher", "serve"),
                    *("--config", str(world.config), "--state-dir", str(world.state)),
                ],
                stdout=log,
                stderr=log,
                env=environment(PYTHONDONTWRITEBYTECODE="1", **order.as_environment()),
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        with self.log.open(errors="replace") as log:
            log.seek(self._from)
            return log.read()

    def event(self, name: str) -> dict[str, Any] | None:
        for line in self.said().splitlines():
            if line[:1] == "{" and f'"{name}"' in line:
                told: dict[str, Any] = json.loads(line)
                if told["event"] == name:
                    return told
        return None

    def until_told(self, name: str) -> dict[str, Any] | None:
        """Wait for an event of the log; None when the process ended before it."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (told := self.event(name)) is None and self.alive:
            if time.monotonic() > end:
                raise StuckError(f"never said {name}")
            time.sleep(0.02)
        return told

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Ask the API. Raises OSError, HTTPException when it is gone."""
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(10)
            connection.sock.connect(str(socket_path(self.world.state)))
            text = None if body is None else json.dumps(body)
            named = {"Content-Type": "application/json", **headers}
            connection.request(method, f"/api/v1/{path}", text, named)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def ended(self, seconds: float) -> bool:
        """Wait so long for its end; return whether it came."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        if not self.ended(PATIENCE_SECONDS):
            self.kill()
            raise StuckError("it did not end when asked")
        return self.process.returncode


def marked(folder: Path) -> dict[int, str]:
    """Return pid -> nonce of living processes whose HOME is below `folder`: those of its steps."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            names = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        texts = dict(one.decode("utf-8", "replace").partition("=")[::2] for one in names if one)
        if texts.get("HOME", "").startswith(str(folder)) and "RONDEL_NONCE" in texts:
            found[int(place.name)] = texts["RONDEL_NONCE"]
    return found
