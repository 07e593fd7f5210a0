"""A run's log as it grows: sealed blobs for what is over, live segments for what runs."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from controller import layout
from controller.model import view
from controller.model.run import Attempt, Run

LOOK_SECONDS = 0.1


class LogFollower:
    """Gives each line of a run's log once, whether it is live or sealed meanwhile."""

    def __init__(self, state_dir: Path, run: Run, step: str | None = None) -> None:
        self._state_dir = state_dir
        self._run = run
        self._step = step
        self._read: dict[tuple[str, int, int], int] = {}  # bytes, of each attempt

    def new_lines(self, attempts: list[Attempt]) -> list[view.View]:
        """Return the lines that are new since the last call, by time."""
        found = [
            line
            for attempt in attempts
            if self._step in {None, attempt.step}
            for line in self._lines(attempt)
        ]
        return sorted(found, key=lambda line: str(line["time"]))

    def _lines(self, attempt: Attempt) -> Iterator[view.View]:
        key = (attempt.step, attempt.index, attempt.number)
        data = self._data(attempt, self._read.get(key, 0))
        whole = data.rpartition(b"\n")[0]
        if not whole:
            return
        self._read[key] = self._read.get(key, 0) + len(whole) + 1
        for raw in whole.split(b"\n"):
            yield view.log_view(
                json.loads(raw), run=self._run, step=attempt.step, attempt=attempt.number
            )

    def _data(self, attempt: Attempt, start: int) -> bytes:
        """A segment is sealed by copying its bytes, so the place in it stays."""
        for path in self._places(attempt):
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    return file.read()
            except FileNotFoundError:
                continue
        return b""

    def _places(self, attempt: Attempt) -> Iterator[Path]:
        yield layout.segment(
            self._state_dir, attempt.run, attempt.step, attempt.index, attempt.number
        )
        if attempt.log:
            yield layout.blob(layout.blobs(self._state_dir), attempt.log.removeprefix("sha256:"))


async def follow_log(
    records: Any, run: Run, *, step: str | None, follow: bool
) -> AsyncIterator[str]:
    """Yield JSON lines; with `follow` until the run is over."""
    follower = LogFollower(records.state_dir, run, step)
    while True:
        now, attempts = await records.read(lambda r: (r.run(run.id), r.attempts(run.id)))
        for line in follower.new_lines(attempts):
            yield json.dumps(line, ensure_ascii=False) + "\n"
        if not follow or now is None or now.phase.terminal:
            return
        await asyncio.sleep(LOOK_SECONDS)
