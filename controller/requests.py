"""What people may ask of the daemon: runs, once more or at an end; looks; less cache."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from controller import ids, manifest
from controller.clock import Clock
from controller.dispatcher import Dispatcher
from controller.errors import RefusedError, UsageError
from controller.execute.engine import RunEngine
from controller.filling import Filling
from controller.loading import Loading
from controller.model.cache import CacheEntry, Prune
from controller.model.changes import CreateRun, FinishRun, PutSuspension
from controller.model.condition import SourceStatus, Suspension
from controller.model.run import Phase, Run, StepRun
from controller.model.source import Declaration
from controller.model.workflow import ConcurrencyPolicy, Json, Workflow
from controller.observations import Key, Observations
from controller.planning import Planning
from controller.pruning import prune
from controller.reconcile.backfill import Wish, backfill_of, closed, runs_of
from controller.reconcile.rerun import lost_inputs, rerun, retried, reused
from controller.reconcile.runs import manual_run
from controller.recorder import Recorder
from controller.serve.ports import Draining, Readiness
from controller.store import Store

log = structlog.get_logger()


class Requests:
    """Implements `serve.ports.Controller`."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        observations: Observations,
        loading: Loading,
        engine: RunEngine,
        clock: Clock,
        turn: asyncio.Lock,
        policy: Callable[[Key], ConcurrencyPolicy],
        enqueue: Callable[[Iterable[Key]], None],
        dispatcher: Dispatcher,
        readiness: Callable[[], Awaitable[Readiness]],
        planning: Planning,
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._observations = observations
        self._loading = loading
        self._engine = engine
        self._clock = clock
        self._turn = turn  # a pass and a request never decide on the same run at once
        self._policy = policy
        self._enqueue = enqueue
        self._dispatcher = dispatcher
        self.readiness = readiness
        self.plan = planning.plan
        self._filling = Filling(
            store=store, recorder=recorder, observations=observations, turn=turn
        )

    async def run(
        self,
        source: str,
        workflow: str,
        params: Mapping[str, Json],
        *,
        fresh: bool = False,
        queue: bool = False,
        key: str | None = None,
    ) -> Run:
        """Create a manual run; the same `key` gives the same run.

        Raises:
            UsageError: no such workflow, or a param it doesn't take.
            RefusedError: another run is active, and neither `queue` nor the policy lets it wait.
        """
        target = (source, workflow)
        self._declared(target)
        async with self._turn:
            run = manual_run(
                source,
                workflow,
                key=key or ids.nonce(),
                now=self._clock.now(),
                params=params,
                fresh=fresh,
                spec=await self._loading.body(target),
            )
            known = await self._store.read(lambda reader: reader.run(run.id))
            if known is not None:
                return known
            self._refuse_busy(target, queue=queue)
            run = self._pinned(run, target)
            await self._recorder.record(CreateRun(run=run))
        self._dispatcher.look()
        return run

    def _declared(self, target: Key) -> Declaration:
        declaration = self._loading.declaration(target)
        if declaration is None:
            raise UsageError(f"there is no workflow {'/'.join(target)}")
        return declaration

    def _refuse_busy(self, target: Key, *, queue: bool) -> None:
        active = self._observations.active(target)
        if active and not queue and self._policy(target) is ConcurrencyPolicy.FORBID:
            raise RefusedError(
                f"run {active[0].id} is active and concurrencyPolicy is Forbid",
                where="/".join(target),
                remedy="wait for its end, or queue this one (--queue)",
            )

    async def backfill(
        self, source: str, workflow: str, wish: Wish, *, dry_run: bool = False
    ) -> tuple[list[Run], int]:
        """Create a run for each slot of a wish; return them, and how many are new.

        They are worked out in threads and written in batches: see `Filling.fill`.

        Raises:
            UsageError: no such workflow or schedule, no time, or a param without a value.
            RefusedError: there are more slots than the limit.
        """
        target = (source, workflow)
        declaration = self._declared(target)
        runs = await asyncio.to_thread(runs_of, declaration, wish, self._clock.now())
        if dry_run:
            return list(runs), 0
        try:
            return list(runs), await self._filling.fill(runs, partial(self._all_pinned, target))
        finally:
            self._dispatcher.look()

    async def _all_pinned(self, target: Key, runs: Sequence[Run]) -> list[Run]:
        """Return runs of a workflow as it is at this moment."""
        async with self._turn:
            spec = await self._loading.body(target)
            loaded = {**self._as_loaded(target), "spec": spec}
        parsed = manifest.workflow(spec)
        return await asyncio.to_thread(lambda: [pinned(run, parsed, loaded) for run in runs])

    async def cancel_backfill(self, backfill: str, *, now: bool = False) -> int:
        """Cancel what waits and what runs of a backfill; return how many runs.

        Raises:
            RefusedError: nothing of it waits or runs.
        """
        async with self._turn:
            found = [r for r in self._observations.unfinished() if backfill_of(r) == backfill]
            waiting = [run for run in found if run.instance is None]
            ends = [self._cancelled(run) for run in waiting]
            await self._recorder.record(*map(closed, found[:1]), *ends)
            for run in found:
                self._engine.cancel(run.id, message="cancelled by a person", now=now)
        if not found:
            raise RefusedError(
                "nothing of it waits or runs",
                where=f"backfill {backfill}",
                remedy="see `rondel get runs`",
            )
        self._enqueue({(run.source, run.workflow) for run in found})
        return len(found)

    def _pinned(self, run: Run, target: Key) -> Run:
        return pinned(run, manifest.workflow(run.spec), self._as_loaded(target))

    def _as_loaded(self, target: Key) -> Mapping[str, Any]:
        status = self._observations.status(target)
        return {
            "revision": self._loading.revision(target[0]),
            "spec_digest": status.spec_digest if status else "",
            "generation": status.generation if status else 0,
            "change": status.change if status else 0,
        }

    async def retry(self, run_id: str, *, queue: bool = False) -> Run:
        """Set an ended run back to Pending: what succeeded stays, the rest begins anew.

        Raises:
            UsageError: there is no such run.
            RefusedError: it did not end badly, its inputs are gone, or another run is active.
        """
        async with self._turn:
            run, rows = await self._recorded(run_id)
            change = retried(run, rows, self._clock.now())
            await self._refuse_lost(run)
            self._refuse_busy((run.source, run.workflow), queue=queue)
            change = replace(change, run=replace(change.run, spec=""))
            (applied,) = await self._recorder.record(change)
            if not applied:
                raise RefusedError("something else is done to it", where=f"run {run_id}")
        self._dispatcher.look()
        return change.run

    async def rerun(
        self,
        run_id: str,
        *,
        step: str | None = None,
        latest: bool = False,
        queue: bool = False,
        key: str | None = None,
    ) -> Run:
        """Create a new run exactly as recorded; with `step`, of it and what is downstream only.

        With `latest` it is the workflow as it is now, with the same params.

        Raises:
            UsageError: there is no such run, or no such step.
            RefusedError: it isn't over, its inputs are gone, or another run is active.
        """
        async with self._turn:
            old, rows = await self._recorded(run_id)
            run = rerun(old, key=key or ids.nonce(), now=self._clock.now())
            kept = reused(manifest.workflow(old.spec), rows, run, step) if step else ()
            known = await self._store.read(lambda reader: reader.run(run.id))
            if known is not None:
                return known
            if latest:
                run = await self._as_it_is(run)
            else:
                await self._refuse_lost(old)
            self._refuse_busy((run.source, run.workflow), queue=queue)
            await self._recorder.record(CreateRun(run=run, steps=kept))
        self._dispatcher.look()
        return run

    async def _as_it_is(self, run: Run) -> Run:
        """Return a rerun of the workflow as it is loaded now."""
        target = (run.source, run.workflow)
        if self._loading.declaration(target) is None:
            raise UsageError(f"there is no workflow {run.source}/{run.workflow} any more")
        body = await self._loading.body(target)
        return self._pinned(replace(run, spec=body, inputs={}, versions={}), target)

    async def _recorded(self, run_id: str) -> tuple[Run, list[StepRun]]:
        run, rows = await self._store.read(lambda r: (r.run(run_id), r.steps(run_id)))
        if run is None:
            raise UsageError(f"there is no run {run_id}")
        return run, rows

    async def _refuse_lost(self, run: Run) -> None:
        """Nothing runs again on inputs that it did not have."""
        kept = await self._store.kept_inputs(list(run.inputs.values()))
        gone = lost_inputs(run, lasting=self._loading.lasting(run.source), kept=kept)
        if gone:
            raise RefusedError(
                f"its inputs are not kept: {', '.join(gone)}",
                where=f"run {run.id}",
                remedy="raise inputs.maxSize for later runs, or use rerun --latest",
            )

    async def cancel(self, run_id: str, *, now: bool = False) -> bool:
        """Cancel a run that waits or runs; false when it is over."""
        if self._engine.cancel(run_id, message="cancelled by a person", now=now):
            return True
        async with self._turn:
            run = self._observations.run(run_id)
            if run is None or run.instance is not None:
                return False
            await self._recorder.record(self._cancelled(run))
        self._enqueue([(run.source, run.workflow)])
        return True

    def _cancelled(self, run: Run) -> FinishRun:
        """Return the end of a run that nobody has claimed."""
        at = self._clock.now()
        return FinishRun(run=run.id, phase=Phase.CANCELLED, reason="Cancelled", at=at)

    async def prune_cache(self, wish: Prune) -> list[CacheEntry]:
        """Forget kept results of steps; return them."""
        return await prune(self._store, self._recorder, wish, self._clock.now())

    async def suspend(
        self, source: str, workflow: str | None, suspension: Suspension | None
    ) -> str | None:
        """Suspend a workflow, or a source when none is named; None resumes it.

        Returns:
            What suspends it still, in words, after a resumption.

        Raises:
            UsageError: there is no such workflow or source.
            RefusedError: it is the manifest, or the configuration, alone that suspends it.
        """
        if workflow is None:
            try:
                return await self._loading.suspend(source, suspension)
            except KeyError as error:
                raise UsageError(f"there is no source {source!r}") from error
        target = (source, workflow)
        declaration, status = self._declared(target), self._observations.status(target)
        still = "its manifest says `suspend: true`"
        if suspension is None and declaration.suspended and not (status and status.suspension):
            raise RefusedError(
                still, where="/".join(target), remedy=f"change it in {declaration.file}"
            )
        async with self._turn:
            await self._recorder.record(
                PutSuspension(source=source, workflow=workflow, suspension=suspension)
            )
        self._enqueue([target])
        return still if suspension is None and declaration.suspended else None

    def reconcile(self, source: str) -> int:
        """Have a source looked at now; return the request's number.

        Raises:
            UsageError: there is none of that name.
            RefusedError: it is suspended.
        """
        try:
            return self._loading.look(source)
        except KeyError as error:
            raise UsageError(f"there is no source {source!r}") from error

    async def reconciled(self, source: str, request: int, seconds: float) -> SourceStatus | None:
        """Return the source's status once a request is answered; None after so many seconds.

        Raises:
            UsageError: there is no such source.
            RefusedError: it was taken away, or configured anew, meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._loading.answer(source, request)
        except KeyError as error:
            raise UsageError(f"there is no source {source!r}") from error
        except TimeoutError:
            return None

    async def drain(self, *, undo: bool = False) -> Draining:
        """Claim no run any more, or with `undo` again; those that run end as they would."""
        async with self._turn:
            before = self._dispatcher.draining
            if undo:
                self._dispatcher.claim_again()
            else:
                self._dispatcher.drain()
        now = self.draining()
        if now.draining != before:
            told = "draining" if now.draining else "claiming_again"
            log.info(told, running=now.running, waiting=now.waiting)
        return now

    def draining(self) -> Draining:
        """Return whether runs are claimed, and how many run and wait."""
        unfinished = self._observations.unfinished()
        running = sum(run.instance is not None for run in unfinished)
        return Draining(
            draining=self._dispatcher.draining, running=running, waiting=len(unfinished) - running
        )


def pinned(run: Run, parsed: Workflow, loaded: Mapping[str, Any]) -> Run:
    """Return a run with its params resolved and what its workflow is as it is `loaded`."""
    params = manifest.resolve_params(parsed, run.params, run)
    return replace(run, params=params, priority=parsed.priority, **loaded)
