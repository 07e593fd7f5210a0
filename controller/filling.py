"""The runs of a backfill, written a batch at a time: other workflows' passes and claims go on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from controller.model.run import Run
from controller.observations import Observations
from controller.reconcile.backfill import backfill_of, batches, identity_prefix, open_name
from controller.recorder import Recorder
from controller.store import Store

Pin: TypeAlias = Callable[[Sequence[Run]], Awaitable[Sequence[Run]]]


class Filling:
    """Writes one backfill after another, each once, also when it is asked for again."""

    def __init__(
        self, *, store: Store, recorder: Recorder, observations: Observations, turn: asyncio.Lock
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._observations = observations
        self._turn = turn
        self._one = asyncio.Lock()

    async def fill(self, runs: Sequence[Run], pin: Pin) -> int:
        """Write the runs of a backfill, oldest slot first; return how many are new.

        `pin` completes those that are to be written, before the first of them is.

        What was left off, by a crash or a store that failed, is gone on with. One that is
        cancelled meanwhile, or whose workflow is removed, ends where it is.

        Raises:
            TransientError: the store can't be written; what was written stays.
        """
        async with self._one:
            left, begun = await self._left(runs)
            created = 0
            for batch in batches(await pin(left) if left else ()):
                async with self._turn:
                    if begun and self._through(runs[0]) is None:
                        break
                    *applied, _ = await self._recorder.record(*batch)
                created += sum(applied)
                begun = True
                await asyncio.sleep(0)
        return created

    async def _left(self, runs: Sequence[Run]) -> tuple[Sequence[Run], bool]:
        """Return what is still to be written, and whether the writing had begun before.

        A backfill that was written whole stays so, also when some of it is not kept any more.
        """
        if not runs:
            return runs, False
        first = runs[0]
        through = self._through(first)
        if through is not None:
            return [run for run in runs if run.logical_time >= through], True
        prefix = identity_prefix(backfill_of(first) or "")
        known = await self._store.read(lambda r: r.any_run(first.source, first.workflow, prefix))
        return ((), True) if known else (runs, False)

    def _through(self, run: Run) -> datetime | None:
        """Return how far the run's backfill is written; None when nothing of it is under way."""
        status = self._observations.status((run.source, run.workflow))
        return status.answered.get(open_name(backfill_of(run) or "")) if status else None
