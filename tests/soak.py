"""A controller's life in compressed time: the real planner, store and housekeeping, a made-up clock.

What runs do is made up: their outcomes are written as the run engine writes them, with a log blob
and an artifact blob each. Everything else is the real thing.
"""

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select

from controller.housekeeping import housekeep
from controller.model.changes import (
    Change,
    ClaimRun,
    CreateRun,
    FinishAttempt,
    FinishRun,
    PutStep,
    SealLog,
    StartAttempt,
    StartRun,
)
from controller.model.run import Attempt, Phase, Run, StepRun
from controller.model.settings import Settings
from controller.model.source import Declaration
from controller.model.workflow import History, Schedule
from controller.observations import Observations
from controller.reconcile.plan import Observed, plan
from controller.recorder import Recorder
from controller.store import Store
from controller.store.tables import metadata
from tests.store_lives import SPEC, FixedClock

MINUTE = timedelta(minutes=1)
HOUSEKEEPING = 15  # minutes, as the daemon's
TTL = timedelta(days=2)
LONG = 11  # every so many runs last longer than the next slot is away


@dataclass
class Soak:
    """Workflows that are due every minute, and all that comes of it."""

    folder: Path
    workflows: dict[str, History]
    start: datetime
    created: Counter[tuple[str, datetime | None]] = field(default_factory=Counter)
    phases: Counter[Phase] = field(default_factory=Counter)
    minutes: int = 0

    async def open(self) -> None:
        self.clock = FixedClock(self.start)
        self.store = await Store.open(self.folder, clock=self.clock, synchronous="NORMAL")
        self.observations = Observations((), ())
        self.recorder = Recorder(self.store, self.observations, [self._follow])
        self.settings = Settings(state_dir=self.folder, executor="local", history_ttl=TTL)
        self.declared = {
            ("main", name): declared(name, own) for name, own in self.workflows.items()
        }
        await self._look()  # a schedule seen for the first time starts counting then

    async def close(self) -> None:
        await self.store.close()

    def _follow(self, change: Change) -> None:
        if isinstance(change, CreateRun):
            self.created[change.run.workflow, change.run.scheduled_time] += 1
            if change.run.phase.terminal:
                self.phases[change.run.phase] += 1
        elif isinstance(change, FinishRun):
            self.phases[change.phase] += 1

    async def day(self) -> None:
        for _ in range(24 * 60):
            await self.minute()

    async def minute(self) -> None:
        self.minutes += 1
        self.clock.at += MINUTE
        await self._look()
        for run in self.observations.unfinished():
            await self._advance(run)
        if self.minutes % HOUSEKEEPING == 0:
            await self.housekeep()

    async def housekeep(self) -> None:
        histories = {key: one.history for key, one in self.declared.items()}
        await housekeep(self.settings, self.store, self.clock, histories)

    async def _look(self) -> None:
        changes: list[Change] = []
        for key, declaration in self.declared.items():
            seen = Observed(
                key=key,
                status=self.observations.status(key),
                active=self.observations.active(key),
                revision="sha256:0",
            )
            changes += plan(declaration, seen, self.clock.at).changes
        await self.recorder.record(*(with_spec(change) for change in changes))

    async def _advance(self, run: Run) -> None:
        """Bring a run to its end; a long one only on its way, to end in the next minute."""
        number = int(run.logical_time.timestamp()) // 60
        if run.phase is Phase.PENDING:
            await self._begin(run)
            if number % LONG == 0:
                return
        await self._end(run, Phase.FAILED if number % 7 == 0 else Phase.SUCCEEDED)

    async def _begin(self, run: Run) -> None:
        now = self.clock.at
        await self.recorder.record(
            ClaimRun(run=run.id, instance=self.store.instance, at=now),
            StartRun(run=run.id, at=now, executor="local", steps=(StepRun(run=run.id, name="s"),)),
            StartAttempt(attempt=attempt_of(run, now)),
        )

    async def _end(self, run: Run, phase: Phase) -> None:
        now = self.clock.at
        log = await self._blob(f"log of {run.id}\n" * 40)
        made = await self._blob(f"made by {run.id}\n" * 20)
        done = replace(attempt_of(run, now), phase=phase, exit_code=0, finished_at=now)
        step = StepRun(run=run.id, name="s", phase=phase, attempts=1, artifacts={"out": made})
        await self.recorder.record(
            FinishAttempt(attempt=done),
            SealLog(run=run.id, step="s", index=0, number=1, log=log, size=100),
            PutStep(step=step, at=now),
            FinishRun(run=run.id, phase=phase, at=now),
        )

    async def _blob(self, text: str) -> str:
        digest = await self.store.blobs.put(text.encode())
        at = self.clock.at.timestamp()
        os.utime(self.store.blobs.path(digest), (at, at))  # its age is that of the made-up clock
        return digest

    # What is there.

    async def rows(self) -> dict[str, int]:
        """Return how many rows each table holds."""
        counts = {
            name: select(func.count()).select_from(table)
            for name, table in sorted(metadata.tables.items())
        }
        return await self.store.read(
            lambda reader: {name: reader.fetch(one)[0][0] for name, one in counts.items()}
        )

    def database_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("rondel.db*"))

    def blobs(self) -> tuple[int, int]:
        """Return how many blobs are kept, and their bytes."""
        sizes = [one.stat().st_size for one in self.store.blobs.root.glob("??/*")]
        return len(sizes), sum(sizes)

    def slots(self) -> Counter[tuple[str, datetime | None]]:
        """Return each slot that was to be answered, once."""
        return Counter(
            (name, self.start + MINUTE * n)
            for name in self.workflows
            for n in range(1, self.minutes + 1)
        )


def declared(name: str, history: History) -> Declaration:
    return Declaration(
        source="main",
        name=name,
        file=f"{name}.yaml",
        document=0,
        blob=name,
        spec_digest=name,
        schedules=(Schedule(name="each", cron="* * * * *"),),
        history=history,
    )


def with_spec(change: Change) -> Change:
    if isinstance(change, CreateRun) and not change.run.phase.terminal:
        return replace(change, run=replace(change.run, spec=SPEC))
    return change


def attempt_of(run: Run, now: datetime) -> Attempt:
    return Attempt(run=run.id, step="s", number=1, nonce="0" * 32, started_at=now)
