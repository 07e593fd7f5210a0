"""What instances that are gone have left: their runs are settled, their files removed."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import structlog

from controller import manifest
from controller.clock import Clock
from controller.errors import RondelError
from controller.execute import leftovers
from controller.execute.engine import RunEngine
from controller.execute.run_ledger import RunLedger
from controller.model.run import Attempt, Run, StepRun
from controller.observations import Key
from controller.reconcile.runs import interrupted_rerun
from controller.recorder import Recorder
from controller.store import Store

log = structlog.get_logger()

Lost: TypeAlias = tuple[Run, list[StepRun], list[Attempt]]


class Recovery:
    """Works once, at the start, before anything new begins."""

    def __init__(
        self,
        *,
        lost: Sequence[Lost],
        store: Store,
        recorder: Recorder,
        engine: RunEngine,
        clock: Clock,
        state_dir: Path,
        most: int,
        ended: Callable[[Iterable[Key]], None],
    ) -> None:
        """`most`: so many runs are settled at once; `ended` is told whose runs have ended."""
        self._lost = lost
        self._store = store
        self._recorder = recorder
        self._engine = engine
        self._clock = clock
        self._state_dir = state_dir
        self._places = asyncio.Semaphore(most)
        self._ended = ended
        self._left: set[str] = set()  # runs that have files here and are nobody's

    async def set_aside(self) -> None:
        """A crash may come before a run's files are removed: the run's next turn begins anew."""
        found = await asyncio.to_thread(leftovers.found, self._state_dir)
        active = await self._store.read(lambda reader: reader.active()) if found else []
        owned = {run.id for run in active if run.instance}
        await asyncio.to_thread(leftovers.set_aside, self._state_dir, found - owned)
        self._left = found - {run.id for run in active}

    async def run(self) -> None:
        """Remove what is nobody's, then settle every lost run."""
        await self._tidy()
        lost, self._lost = self._lost, ()
        async with asyncio.TaskGroup() as group:
            for one in lost:
                group.create_task(self._settle(*one))

    async def _tidy(self) -> None:
        left = self._left
        try:
            attempts = await self._store.read(lambda r: {run: r.attempts(run) for run in left})
            for run in sorted(left):
                ledger = RunLedger(self._recorder, self._store.blobs)
                await leftovers.tidy_logs(self._state_dir, ledger, run, attempts[run])
        except RondelError as error:
            log.warning("files_left", error=str(error))
        await asyncio.to_thread(leftovers.clear_aside, self._state_dir)

    async def _settle(self, lost: Run, steps: list[StepRun], attempts: list[Attempt]) -> None:
        """A run that can't be settled now stays Running, and is tried again at the next start."""
        async with self._places:
            workflow = manifest.workflow(lost.spec)
            lost = replace(lost, instance=self._store.instance)  # what its hooks call is ours too
            try:
                answer = interrupted_rerun(lost, workflow, self._clock.now())
                await self._engine.recover(lost, workflow, steps, attempts, answer=answer)
            except RondelError as error:
                log.error("recovery_failed", run=lost.id, error=str(error))  # noqa: TRY400  # its words say it all
            self._ended([(lost.source, lost.workflow)])
