"""A run's log as it grows: sealed blobs for what is over, live segments for what runs."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from controller import layout
from controller.model import view
from controller.model.cache import note
from controller.model.run import Attempt, Run, StepRun
from controller.model.workflow import Json

LOOK_SECONDS = 0.1
GOES_ON = {
    "stream": None,
    "line": "... output goes on, over logs.maxSize: shown when the step ends",
}
Matrices = Mapping[tuple[str, int], Mapping[str, Json]]
"""The values of a run's combinations, by step and index."""


class Words(NamedTuple):
    """Whose words: an attempt's, or those that a kept result brought back."""

    step: str
    combination: int
    number: int
    log: str | None  # blob digest

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        return cls(attempt.step, attempt.index, attempt.number, attempt.log)


class LogFollower:
    """Gives each line of a run's log once, whether it is live or sealed meanwhile."""

    def __init__(self, state_dir: Path, run: Run, step: str | None = None) -> None:
        self._state_dir = state_dir
        self._run = run
        self._step = step
        self._read: dict[tuple[str, int, int], int] = {}  # bytes, of each attempt
        self._last: dict[tuple[str, int, int], str | None] = {}  # times of their last lines
        self._held: set[tuple[str, int, int]] = set()  # attempts whose end is shown when it comes

    def new_lines(
        self, attempts: list[Attempt], matrices: Matrices, served: Iterable[StepRun] = ()
    ) -> list[view.View]:
        """Return the lines that are new since the last call, by time.

        Of a step that a kept result served, those of the attempt that made it, behind a note.
        """
        found = [
            line
            for attempt in attempts
            if self._step in {None, attempt.step}
            for line in self._lines(Words.of(attempt), matrices.get((attempt.step, attempt.index)))
        ]
        replayed = [
            line
            for step in served
            if self._step in {None, step.name}
            for line in self._replayed(step)
        ]
        return replayed + sorted(found, key=lambda line: str(line["time"]))

    def _replayed(self, step: StepRun) -> Iterator[view.View]:
        """What was replayed keeps its own times, so it stays together."""
        words = Words(step.name, step.index, step.attempts + 1, step.cache.get("log"))
        if words[:3] not in self._read:
            self._read[words[:3]] = 0
            told = {"time": view.time(step.finished_at), "stream": None, "line": note(step.cache)}
            yield view.log_view(
                told, run=self._run, step=step.name, attempt=words.number, matrix=step.matrix
            )
            yield from self._lines(words, step.matrix)

    def _lines(self, attempt: Words, matrix: Json) -> Iterator[view.View]:
        key = attempt[:3]
        data = self._data(attempt, self._read.get(key, 0))
        whole = data.rpartition(b"\n")[0]
        if not whole:
            yield from self._goes_on(attempt, matrix)
            return
        self._read[key] = self._read.get(key, 0) + len(whole) + 1
        for raw in whole.split(b"\n"):
            yield self._view(attempt, matrix, json.loads(raw))

    def _goes_on(self, attempt: Words, matrix: Json) -> Iterator[view.View]:
        """Say once that a log over its limit goes on: its newest lines come when it is sealed."""
        key = attempt[:3]
        if key in self._held or not layout.tail(self._segment(attempt)).exists():
            return
        self._held.add(key)
        yield self._view(attempt, matrix, {"time": self._last.get(key), **GOES_ON})

    def _view(self, attempt: Words, matrix: Json, line: Mapping[str, Any]) -> view.View:
        self._last[attempt[:3]] = line["time"]
        return view.log_view(
            line, run=self._run, step=attempt.step, attempt=attempt.number, matrix=matrix
        )

    def _segment(self, attempt: Words) -> Path:
        return layout.segment(
            self._state_dir, self._run.id, attempt.step, attempt.combination, attempt.number
        )

    def _data(self, attempt: Words, start: int) -> bytes:
        """A segment is sealed by copying its bytes, so the place in it stays."""
        for path in self._places(attempt):
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    return file.read()
            except FileNotFoundError:
                continue
        return b""

    def _places(self, attempt: Words) -> Iterator[Path]:
        yield self._segment(attempt)
        if attempt.log:
            yield layout.blob(layout.blobs(self._state_dir), attempt.log.removeprefix("sha256:"))


async def follow_log(
    records: Any, run: Run, *, step: str | None, follow: bool
) -> AsyncIterator[str]:
    """Yield JSON lines; with `follow` until the run is over."""
    follower = LogFollower(records.state_dir, run, step)
    while True:
        now, attempts, matrices, served = await records.read(
            lambda r: (r.run(run.id), r.attempts(run.id), r.matrices(run.id), r.served(run.id))
        )
        for line in follower.new_lines(attempts, matrices, served):
            yield json.dumps(line, ensure_ascii=False) + "\n"
        if not follow or now is None or now.phase.terminal:
            return
        await asyncio.sleep(LOOK_SECONDS)
