"""One pass: what is due is planned, completed, written; then sleep until something wakes it."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from controller import manifest
from controller.clock import Clock
from controller.ends import Ends
from controller.errors import RondelError, StalledError
from controller.loading import Loading
from controller.model.changes import Change, CreateRun, FinishRun, PutWorkflow
from controller.model.run import Phase, Run
from controller.observations import Key, Observations
from controller.reconcile.plan import Observed, Plan, as_skipped, is_unchanged, plan
from controller.reconcile.queue import WorkQueue
from controller.recorder import Recorder

log = structlog.get_logger()

UNCHANGED = "Unchanged"
LOOK_AGAIN = timedelta(minutes=1)  # at a workflow whose pass met a defect
STORE_AGAIN = timedelta(seconds=5)  # at workflows whose pass the store could not take
KEYS_A_BATCH = 500  # so that one transaction stays short and the loop breathes


def is_left_out(change: Change) -> bool:
    return isinstance(change, CreateRun) and change.run.reason == UNCHANGED


@dataclass(frozen=True, slots=True)
class Outlet:
    """What a pass sets in motion besides its changes."""

    dispatch: Callable[[], None]
    cancel: Callable[[str, str], object]  # run id, reason
    wake_at: Callable[[str, datetime | None, Callable[[], None]], None]
    observe: Callable[[str, float], None]  # kind, seconds: one reconcile's duration
    passed: Callable[[Iterable[Key]], None]  # what follows for them is recorded


class Reconciler:
    """Brings observed to desired, one workflow key at a time."""

    def __init__(
        self,
        *,
        loading: Loading,
        observations: Observations,
        recorder: Recorder,
        clock: Clock,
        turn: asyncio.Lock,
        outlet: Outlet,
        ends: Ends,
    ) -> None:
        self._loading = loading
        self._observations = observations
        self._recorder = recorder
        self._clock = clock
        self._turn = turn
        self._outlet = outlet
        self._ends = ends
        self._queue: WorkQueue[Key] = WorkQueue()
        self._wake = asyncio.Event()

    def enqueue(self, keys: Iterable[Key]) -> None:
        """Ask for a look at these workflows."""
        for key in keys:
            self._queue.add(key)
        self._wake.set()

    def resync(self) -> None:
        """Ask for a look at everything: the safety net."""
        self.enqueue({*self._observations.keys(), *self._loading.keys()})

    def wake(self) -> None:
        """Look whether something is due."""
        self._wake.set()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        while True:
            self._wake.clear()  # before reading the world, so that no change is lost
            keys = self._queue.pop_ready(self._clock.now())
            for start in range(0, len(keys), KEYS_A_BATCH):
                await self._pass(keys[start : start + KEYS_A_BATCH])
                await asyncio.sleep(0)  # a pass that changes nothing would never let go
            self._outlet.wake_at("slot", self._queue.next_at(), self.wake)
            await self._wake.wait()

    async def _pass(self, keys: list[Key]) -> None:
        began = self._clock.monotonic()
        try:
            async with self._turn:
                await self._reconcile(keys)
        except RondelError as error:
            log.error("reconcile_failed", error=str(error), workflows=len(keys))  # noqa: TRY400  # its words say it all
            self._look_again(keys, STORE_AGAIN)
        self._outlet.observe("Workflow", self._clock.monotonic() - began)

    async def _reconcile(self, keys: list[Key]) -> None:
        now = self._clock.now()
        for key in keys:
            await self._ends.recall(key, self._observations.status(key))
        found = ((key, self._plan(key, now)) for key in keys)
        plans = [(key, await self.complete(key, made, now)) for key, made in found if made]
        changes = [change for _, made in plans for change in made.changes]
        if changes:
            await self._recorder.record(*changes)
        self._outlet.passed(key for key, _ in plans)
        for key, made in plans:
            if made.wake_at is not None:
                self._queue.add_at(key, made.wake_at)
            for run_id, reason in made.cancels:
                self._outlet.cancel(run_id, reason)
        if any(isinstance(change, CreateRun | FinishRun | PutWorkflow) for change in changes):
            self._outlet.dispatch()

    def _plan(self, key: Key, now: datetime) -> Plan | None:
        """A defect met in one workflow stops no other."""
        if not self._loading.known(key):
            return None  # its source has not been read yet: nothing of it counts as gone
        try:
            return plan(self._loading.declaration(key), self.observed(key), now)
        except Exception:
            log.exception("plan_crashed", source=key[0], workflow=key[1])
            self._look_again([key], LOOK_AGAIN)
            return None

    def observed(self, key: Key) -> Observed:
        """Return what is known of a workflow at this moment."""
        return Observed(
            key=key,
            status=self._observations.status(key),
            active=self._observations.active(key),
            inputs=self._loading.inputs(key),
            ends=self._ends.of(key),
            revision=self._loading.revision(key[0]),
            fault=self._loading.fault(key),
            orphaned=self._loading.orphaned(key),
            held=self._loading.held(key),
        )

    def _look_again(self, keys: list[Key], after: timedelta) -> None:
        for key in keys:
            self._queue.add_at(key, self._clock.now() + after)

    async def complete(self, key: Key, made: Plan, now: datetime) -> Plan:
        """Pin the new runs: what the planner leaves out is the spec and the params' defaults.

        With the params it shows which slots have nothing new to do. What was planned around such
        a run is planned anew, without it.
        """
        changes = [await self._completed(key, change, now) for change in made.changes]
        if not any(map(is_left_out, changes)):
            return replace(made, changes=tuple(changes))
        return replace(made, changes=tuple(changes), cancels=(), wake_at=now)

    async def _completed(self, key: Key, change: Change, now: datetime) -> Change:
        if not isinstance(change, CreateRun) or change.run.phase.terminal:
            return change
        run = await self._pinned(key, change.run)
        declaration = self._loading.declaration(key)
        if declaration and is_unchanged(declaration, self._observations.status(key), run):
            run = as_skipped(run, UNCHANGED, now)
        return replace(change, run=run)

    async def _pinned(self, key: Key, run: Run) -> Run:
        try:
            body = await self._loading.body(key)
        except StalledError as error:  # it fails this run, and no other of the pass
            return replace(run, phase=Phase.ERROR, reason=error.reason, message=str(error))
        try:
            params = manifest.resolve_params(manifest.workflow(body), run.params, run)
        except RondelError as error:
            return replace(run, phase=Phase.ERROR, reason="InvalidParams", message=str(error))
        return replace(run, spec=body, params=params)
