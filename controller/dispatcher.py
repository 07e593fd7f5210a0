"""Claims Pending runs as the limits allow, and has the run engine execute them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from controller import manifest
from controller.clock import Clock
from controller.errors import RondelError
from controller.execute.engine import RunEngine
from controller.execute.rules import Verdict
from controller.model.changes import ClaimRun, FinishRun
from controller.model.run import Phase, Run, StepRun
from controller.model.settings import Settings
from controller.model.workflow import ConcurrencyPolicy
from controller.observations import Key, Observations
from controller.reconcile.observed import is_waiting
from controller.reconcile.rerun import is_again
from controller.reconcile.runs import Choice, GroupLimit, claimable
from controller.recorder import Recorder
from controller.store import Store

log = structlog.get_logger()

AGAIN = timedelta(seconds=1)


def most_runs(settings: Settings) -> int:
    """Return how many runs may be active: of all, and on the engine when there is one."""
    if settings.executor != "dagger":
        return settings.max_parallel.runs
    return min(settings.max_parallel.runs, settings.dagger.max_concurrent_runs)


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
        group_limit: Callable[[Key], GroupLimit | None],
        expected: Callable[[str], bool],
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
        self._group_limit = group_limit
        self._expected = expected  # a source whose limits nobody knows yet
        self._ended = ended
        self._wake_at = wake_at
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._claiming = True
        self._stopping = False

    def allow(self, max_runs: int) -> None:
        """Have at most so many runs active from now on; those that are too many go on."""
        self._max_runs = max_runs

    def look(self) -> None:
        """Ask for a look at the Pending runs."""
        self._wake.set()

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
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
            if not self._claiming:
                return
            now = self._clock.now()
            refused: set[str] = set()
            while (choice := self._choose(refused, now)).start:
                full = await self._claim_all(choice.start, now)
                if not full:
                    break
                refused |= full
            # Somebody else holds the place that was free to us: nothing will tell when it ends.
            self._wake_at("claim", now + AGAIN if refused else choice.wake_at, self.look)

    def _choose(self, refused: Collection[str], now: datetime) -> Choice:
        """Choose among what waits; what the store has refused stands in nobody's way."""
        unfinished = self._observations.unfinished()
        return claimable(
            (run for run in unfinished if is_waiting(run) and self._may_start(run, refused)),
            (run for run in unfinished if not is_waiting(run)),
            max_runs=self._max_runs,
            now=now,
            policy=self._policy,
            group_limit=self._group_limit,
        )

    def _may_start(self, run: Run, refused: Collection[str]) -> bool:
        return not self._expected(run.source) and self._place(run) not in refused

    async def _claim_all(self, runs: Sequence[Run], now: datetime) -> set[str]:
        """Claim runs; return the places (see `_place`) that the store refused."""
        applied = await self._recorder.record(*(self._claim_of(run, now) for run in runs))
        for run, done in zip(runs, applied, strict=True):
            if done:
                self._begin(replace(run, instance=self._store.instance))
        return {self._place(run) for run, done in zip(runs, applied, strict=True) if not done}

    def _place(self, run: Run) -> str:
        """Return what is refused when a run's claim is: its whole group, or just the run."""
        limit = self._group_limit((run.source, run.workflow))
        return limit.group if limit else run.id

    def _claim_of(self, run: Run, now: datetime) -> ClaimRun:
        limit = self._group_limit((run.source, run.workflow))
        return ClaimRun(
            run=run.id,
            instance=self._store.instance,
            at=now,
            group=limit.group if limit else None,
            limit=limit.limit if limit else 0,
        )

    def waiting(self) -> Mapping[str, int]:
        """Return how many runs wait, by their group ("": of workflows without one)."""
        waiting = filter(is_waiting, self._observations.unfinished())
        limits = (self._group_limit((run.source, run.workflow)) for run in waiting)
        return Counter(limit.group if limit else "" for limit in limits)

    def _begin(self, run: Run) -> None:
        before = self._tasks.get(run.id)
        task = asyncio.create_task(self._execute(run, before), name=f"run {run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(lambda _: self._forget(run.id, task))

    def _forget(self, run_id: str, task: "asyncio.Task[None]") -> None:
        if self._tasks.get(run_id) is task:  # else it runs again already
            del self._tasks[run_id]

    async def _execute(self, run: Run, before: "asyncio.Task[None] | None") -> None:
        """Have the engine execute a run; one that was put back first lets its last turn tidy up."""
        structlog.contextvars.bind_contextvars(source=run.source, workflow=run.workflow)
        if before is not None:
            await asyncio.wait([before])
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
        while not self._stopping:
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

    def drain(self) -> None:
        """Claim nothing more. In the turn: no claim is under way when it returns."""
        self._claiming = False

    def claim_again(self) -> None:
        """Take a drain back."""
        self._claiming = True
        self.look()

    async def wind_down(self, grace_seconds: float) -> None:
        """Claim nothing more; wait for the running ones to end."""
        self.drain()
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                async with self._turn:  # what is being claimed begins first
                    tasks = list(self._tasks.values())
                if tasks:
                    await asyncio.wait(tasks)

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
    def draining(self) -> bool:
        return not self._claiming

    @property
    def running(self) -> int:
        return len(self._tasks)
