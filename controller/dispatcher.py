"""Claims Pending runs as the limits allow, and has the run engine execute them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import structlog

from controller import manifest
from controller.clock import Clock
from controller.errors import RondelError
from controller.execute.engine import RunEngine
from controller.execute.rules import Verdict
from controller.model.changes import ClaimRun, FinishRun
from controller.model.run import Phase, Run, StepRun
from controller.model.workflow import ConcurrencyPolicy
from controller.observations import Key, Observations
from controller.reconcile.rerun import is_again
from controller.reconcile.runs import claimable
from controller.recorder import Recorder
from controller.store import Store

log = structlog.get_logger()

AGAIN = timedelta(seconds=1)


class Dispatcher:
    """Starts what may start, in order; never more at once than `max_runs`."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        observations: Observations,
        engine: RunEngine,
        clock: Clock,
        turn: asyncio.Lock,
        max_runs: int,
        policy: Callable[[Key], ConcurrencyPolicy],
        ended: Callable[[Key], None],
        wake_at: Callable[..., None],
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._observations = observations
        self._engine = engine
        self._clock = clock
        self._turn = turn  # a pass and a claim never decide on the same run at once
        self._max_runs = max_runs
        self._policy = policy
        self._ended = ended
        self._wake_at = wake_at
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._claiming = True

    def look(self) -> None:
        """Ask for a look at the Pending runs."""
        self._wake.set()

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._claiming:
                await self._try_to_claim()

    async def _try_to_claim(self) -> None:
        """A store that can't be written stops nothing for good: the claim is made later."""
        try:
            await self.claim()
        except RondelError as error:
            log.error("claim_failed", error=str(error))  # noqa: TRY400  # its words say it all
            self._wake_at("claim", self._clock.now() + AGAIN, self.look)

    async def claim(self) -> None:
        async with self._turn:
            now = self._clock.now()
            unfinished = self._observations.unfinished()
            pending = [run for run in unfinished if run.phase is Phase.PENDING and not run.instance]
            running = [run for run in unfinished if run.phase is Phase.RUNNING or run.instance]
            choice = claimable(
                pending, running, max_runs=self._max_runs, now=now, policy=self._policy
            )
            claims = [
                ClaimRun(run=run.id, instance=self._store.instance, at=now) for run in choice.start
            ]
            if claims:
                applied = await self._recorder.record(*claims)
                for run, done in zip(choice.start, applied, strict=True):
                    if done:
                        self._begin(replace(run, instance=self._store.instance))
            self._wake_at("claim", choice.wake_at, self.look)

    def _begin(self, run: Run) -> None:
        task = asyncio.create_task(self._execute(run), name=f"run {run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run.id, None))

    async def _execute(self, run: Run) -> None:
        structlog.contextvars.bind_contextvars(source=run.source, workflow=run.workflow)
        try:
            rows: Sequence[StepRun] = ()
            if not run.spec or is_again(run):
                run, rows = await self._stored(run)
            await self._engine.execute(run, manifest.workflow(run.spec), rows)
        except RondelError as error:
            await self._give_up(run, error)
        except Exception:
            # The engine settles what a run can do wrong; this is a defect, and the daemon goes on.
            log.exception("run_crashed", run=run.id, source=run.source, workflow=run.workflow)
        finally:
            self._ended((run.source, run.workflow))
            self.look()

    async def _give_up(self, run: Run, error: RondelError) -> None:
        """A run that the store could not follow is settled as an Error once it can be written."""
        log.error("run_not_recorded", run=run.id, error=str(error))
        reason = getattr(error, "reason", "StoreUnavailable")
        while self._claiming:
            await asyncio.sleep(AGAIN.total_seconds())
            with suppress(RondelError):  # told above; the next try is soon
                await self._settle(run.id, Verdict(Phase.ERROR, reason, str(error)))
                return

    async def _settle(self, run_id: str, verdict: Verdict) -> None:
        """End a run with all that it called; hooks and finally steps that had not started run."""
        run, steps, attempts, called = await self._store.read(
            lambda reader: (
                reader.run(run_id),
                reader.steps(run_id),
                reader.attempts(run_id),
                [one.id for one in reader.active() if one.parent == run_id],
            )
        )
        for one in called:
            await self._settle(one, verdict)
        if run is None or run.phase.terminal:
            return
        if steps:
            workflow = manifest.workflow(run.spec)
            await self._engine.recover(run, workflow, steps, attempts, verdict=verdict)
            return
        await self._recorder.record(
            FinishRun(
                run=run_id,
                phase=verdict.phase,
                reason=verdict.reason,
                message=verdict.message,
                at=self._clock.now(),
            )
        )

    async def _stored(self, run: Run) -> tuple[Run, Sequence[StepRun]]:
        """A run from before the last start, or one that runs again: the store has the rest."""
        stored, rows = await self._store.read(lambda r: (r.run(run.id), r.steps(run.id)))
        return replace(run, spec=stored.spec if stored else ""), rows

    async def drain(self, grace_seconds: float) -> None:
        """Claim nothing more; wait for the running ones to end."""
        self._claiming = False
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)

    async def cancel_all(self, *, now: bool) -> None:
        """Cancel what still runs and wait for its end."""
        for run_id in list(self._tasks):
            self._engine.cancel(
                run_id, reason="ShuttingDown", message="the controller is stopping", now=now
            )
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks)

    @property
    def running(self) -> int:
        return len(self._tasks)
