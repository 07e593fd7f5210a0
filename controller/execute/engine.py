"""The run engine: executes claimed runs, cancels them, settles those that were lost."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from structlog.contextvars import bound_contextvars

from controller.clock import Clock
from controller.errors import RondelError
from controller.execute.execution import Execution
from controller.execute.house import AlertProblem, House, LineTold, no_alert
from controller.execute.keeper import sweep
from controller.execute.leftovers import drop_empty, seal_left
from controller.execute.ports import Blobs, Executor, Inputs, KeptInputs, Ledger, Results, Secrets
from controller.execute.request import cache_scope
from controller.execute.rules import Verdict
from controller.execute.run_ledger import RunLedger
from controller.execute.slots import Slots
from controller.model.cache import Scope
from controller.model.changes import Change, ClaimRun, CreateRun, FinishAttempt, FinishRun, PutStep
from controller.model.run import Attempt, Phase, Run, StepRun
from controller.model.settings import InfrastructureRetry
from controller.model.workflow import Workflow

LOST = Verdict(Phase.INTERRUPTED, "ControllerLost", "the controller that ran it is gone")


def own_scope(source: str) -> Sequence[Scope]:
    """Return the scope of a source that has no ref: a Directory, or `exec`."""
    return ((source, ""),)


class RunEngine:
    """Graph order, parallelism, retries, timeouts, outputs: the same for every executor."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: Blobs,
        inputs: Inputs,
        secrets: Secrets,
        executors: Mapping[str, Executor],
        clock: Clock,
        state_dir: Path,
        max_steps: int,
        log_max_size: int,
        infrastructure_retry: InfrastructureRetry,
        on_line: LineTold | None = None,
        results: Results | None = None,
        scopes: Callable[[str], Sequence[Scope]] = own_scope,
        cache_scope: Callable[[str], str] = cache_scope,
        kept: KeptInputs | None = None,
        input_max_size: int = 256 << 20,
        alert_problem: AlertProblem = no_alert,
    ) -> None:
        self._house = House(
            ledger=ledger,
            blobs=blobs,
            inputs=inputs,
            secrets=secrets,
            clock=clock,
            state_dir=state_dir,
            slots=Slots(max_steps),
            log_max_size=log_max_size,
            infrastructure=infrastructure_retry,
            on_line=on_line,
            results=results,
            scopes=scopes,
            cache_scope=cache_scope,
            kept=kept,
            input_max_size=input_max_size,
            alert_problem=alert_problem,
        )
        self._executors = executors
        self._executions: dict[str, Execution] = {}

    @property
    def up(self) -> bool:
        """Whether every executor could open its last session."""
        return all(executor.up for executor in self._executors.values())

    async def start(self) -> None:
        """Make the executors ready."""
        for executor in self._executors.values():
            await executor.start()

    async def stop(self) -> None:
        """End everything that the executors started."""
        for executor in self._executors.values():
            await executor.stop()

    async def execute(self, run: Run, workflow: Workflow, rows: Iterable[StepRun] = ()) -> Phase:
        """Execute a claimed run to its end and record everything of it.

        `rows` are what its steps have come to already, of a run that runs again.

        Returns:
            The run's phase; Pending when it was put back (SourceChanged).
        """
        return await self._to_end(self._execution(run, workflow, rows))

    def _execution(self, run: Run, workflow: Workflow, rows: Iterable[StepRun] = ()) -> Execution:
        executor = self._executor(run)
        return Execution(self._house, run, workflow, executor, rows=rows, call=self._call)

    async def _call(self, run: Run, workflow: Workflow) -> Execution:
        """Run a workflow that is a step, outside every queue; ended early, its hooks still run."""
        at, instance = self._house.clock.now(), run.instance
        assert instance is not None  # noqa: S101 - a run that calls is claimed, and so is this one
        await self._house.ledger.record(
            CreateRun(run=replace(run, instance=None)),
            ClaimRun(run=run.id, instance=instance, at=at),
        )
        execution = self._execution(run, workflow)
        with bound_contextvars(source=run.source, workflow=run.workflow):  # of its log lines
            task = asyncio.create_task(self._to_end(execution), name=f"run {run.id}")
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await self._end_called(run.id, task)
            raise
        return execution

    async def _end_called(self, run_id: str, task: asyncio.Task[Phase]) -> None:
        now = False
        while not task.done():
            self.cancel(run_id, message="its caller was ended", now=now)
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                now = True  # a second word: no more grace

    async def _to_end(self, execution: Execution) -> Phase:
        run = execution.run
        self._executions[run.id] = execution
        try:
            return await execution.execute()
        except asyncio.CancelledError:
            raise
        except RondelError:
            raise  # the store can't be written: nothing can be recorded, recovery will settle it
        except Exception as error:  # a defect fails this run, never the daemon
            await self._crashed(run, error)
            raise
        finally:
            del self._executions[run.id]

    def _executor(self, run: Run) -> Executor:
        return self._executors[run.executor or next(iter(self._executors))]

    async def _crashed(self, run: Run, error: Exception) -> None:
        await self._house.ledger.record(
            FinishRun(
                run=run.id,
                phase=Phase.ERROR,
                reason="InternalError",
                message=repr(error),
                at=self._house.clock.now(),
            )
        )

    def cancel(
        self, run_id: str, *, reason: str = "Cancelled", message: str = "", now: bool = False
    ) -> bool:
        """End a running run, with its `onCancel` and `finally` unless `now`; false: not here."""
        execution = self._executions.get(run_id)
        if execution is None:
            return False
        if now:  # what it calls would hear of it as of a cancel with grace, and begin to tidy up
            for one in [one.run for one in self._executions.values() if one.run.parent == run_id]:
                self.cancel(one.id, reason=reason, message="its caller was ended", now=True)
        execution.cancel(Verdict(Phase.CANCELLED, reason, message), now=now)
        return True

    async def recover(
        self,
        run: Run,
        workflow: Workflow,
        steps: Sequence[StepRun],
        attempts: Sequence[Attempt],
        *,
        answer: Run | None = None,
        verdict: Verdict = LOST,
    ) -> Phase:
        """Settle a run that nobody executes any more, as Interrupted: its instance is gone.

        What still runs of it is killed, its logs are sealed, its `onFailure` hooks and finally
        steps that had not started run once. `verdict` may say something else. `answer` runs in its
        place: it is created by the transaction that ends the lost one, so that no crash can come
        between.
        """
        open_attempts = [one for one in attempts if not one.phase.terminal]
        await asyncio.to_thread(sweep, {one.nonce for one in open_attempts})
        ledger = RunLedger(self._house.ledger, self._house.blobs)
        seal_left(self._house.state_dir, ledger, attempts)
        now = self._house.clock.now()
        rows = [broken_off(row, verdict, now) for row in steps]
        changes: list[Change] = [
            *(FinishAttempt(attempt=broken_off(one, verdict, now)) for one in open_attempts),
            *(
                PutStep(step=row, at=now)
                for row, old in zip(rows, steps, strict=True)
                if row != old
            ),
        ]
        await ledger.settled()
        await ledger.record(*changes)
        drop_empty(self._house.state_dir, run.id)
        execution = self._execution(run, workflow)
        self._executions[run.id] = execution
        try:
            return await execution.settle_lost(rows, verdict, answer)
        finally:
            del self._executions[run.id]


Row = TypeVar("Row", StepRun, Attempt)


def broken_off(row: Row, verdict: Verdict, now: datetime) -> Row:
    """Return how a row ends that was Running; another stays, also one with attempts of old."""
    if row.phase is not Phase.RUNNING:
        return row
    return replace(row, phase=verdict.phase, reason=verdict.reason, finished_at=now)
