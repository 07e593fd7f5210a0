"""One step from its first attempt to its end: attempts, retries, timeouts, results."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypeVar

from controller import ids
from controller.clock import Clock
from controller.disk import room_for
from controller.errors import StalledError, TransientError
from controller.execute import results, rules
from controller.execute.cached import WRITE_FAILED, Asked, Cached, takes_part
from controller.execute.house import AlertProblem
from controller.execute.logs import LogSegment
from controller.execute.ports import Blobs, Outcome, Session, Verdict
from controller.execute.request import Materials
from controller.execute.run_ledger import RunLedger, Sealing
from controller.model.changes import Change, FinishAttempt, PutStep, StartAttempt
from controller.model.run import Attempt, Phase, StepRun
from controller.model.settings import InfrastructureRetry
from controller.model.workflow import Backoff, CacheMode, Json, Step, WorkflowCall
from controller.reconcile.retry import Ending, again, delay


@dataclass(frozen=True, slots=True)
class Done:
    """A step that has ended: its row, and the changes that say so, not yet written."""

    step: StepRun
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How one attempt ended."""

    phase: Phase
    reason: str = ""
    error: str = ""
    exit_code: int | None = None
    transient: bool = False
    outputs: Mapping[str, Json] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)  # name -> blob digest


class StepTimeoutError(Exception):
    """A step's work took longer than its timeout."""


class Interruption:
    """Why the running steps of a section are being ended, once they are."""

    def __init__(self) -> None:
        self.phase: Phase | None = None
        self.reason = ""

    def set(self, phase: Phase, reason: str) -> None:
        if self.phase is None:
            self.phase, self.reason = phase, reason


Result = TypeVar("Result")
Call: TypeAlias = Callable[
    [WorkflowCall, Attempt], Awaitable[tuple[str, rules.Verdict, Mapping[str, Json]]]
]
"""Runs a workflow to its end; returns the run's id, its verdict and its outputs."""


@dataclass(frozen=True, slots=True)
class Shop:
    """What attempts need of the run they belong to."""

    ledger: RunLedger
    blobs: Blobs
    clock: Clock
    materials: Materials
    infrastructure: InfrastructureRetry
    is_transient: Callable[[str], bool]  # the operator's own patterns
    session: Callable[[], Awaitable[Session]]
    drop: Callable[[Session], Awaitable[None]]  # one that was lost; `session` opens another
    segment: Callable[[Attempt, str], LogSegment]  # and its step as people read it
    seal: Callable[[LogSegment, Attempt], Sealing | None]
    scrub: Callable[[str], str]  # an error may quote what a step said
    call: Call  # runs another workflow as a step
    alert_problem: AlertProblem
    cached: Cached | None = None  # None: no step of this run takes part


class StepAttempts:
    """Runs one row: a step, or one combination of a matrix step."""

    def __init__(
        self,
        shop: Shop,
        step: Step,
        row: StepRun,
        interruption: Interruption,
        asked: Asked | None = None,
    ) -> None:
        self._shop = shop
        self._step = step
        self._row = row
        self.interruption = interruption
        self._asked = asked  # under what its result is kept
        self._sealing: Sealing | None = None  # of the last attempt's log
        self._infrastructure = 0  # retries spent on what the step is not to blame for
        self._own = 0  # attempts that count against the step's own limit
        self._began: datetime | None = None
        self._task: asyncio.Task[Any] | None = None  # set while it may be cancelled
        self.name, self.index = row.name, row.index
        self.calls = step.uses is not None

    def interrupt(self) -> None:
        """End what is going on, if it may be ended: a record or a blob being written may not.

        The interruption's words are set before; everything else looks at them by itself.
        """
        if self._task is not None:
            self._task.cancel()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Here `interrupt` cancels: a process runs, or the next attempt is awaited."""
        if self.interruption.phase is not None:
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        try:
            yield
        finally:
            self._task = None

    def start(self) -> StartAttempt:
        """Return the next attempt, to be committed before it is run."""
        now = self._shop.clock.now()
        self._began = self._began or now
        self._row = replace(
            self._row,
            phase=Phase.RUNNING,
            reason="",
            attempts=self._row.attempts + 1,
            started_at=self._row.started_at or now,
        )
        attempt = Attempt(
            run=self._row.run,
            step=self._row.name,
            index=self._row.index,
            number=self._row.attempts,
            nonce=ids.nonce(),
            started_at=now,
        )
        return StartAttempt(attempt=attempt)

    async def run(self, begun: StartAttempt) -> Done:
        """Attempt until it succeeds, may not be tried again, or is interrupted."""
        while True:
            attempt = begun.attempt
            ended = await self._attempt(attempt)
            finish = self._finish(attempt, ended)
            wait = None if self.interruption.phase else self._wait(attempt, ended)
            if wait is None:
                if self._keeps and ended.phase is Phase.SUCCEEDED:
                    return await self._done_and_kept(attempt, ended)
                return self._done(ended, finish)
            await self._shop.ledger.record(finish)
            try:
                with self.interruptible():
                    await asyncio.sleep(wait.total_seconds())
            except asyncio.CancelledError:
                if self.interruption.phase is None:
                    raise
                return self._done(self._interrupted(), None)
            begun = self.start()
            await self._shop.ledger.record(begun)

    async def _attempt(self, attempt: Attempt) -> Ended:
        segment = self._shop.segment(attempt, self._row.label)
        try:
            with room_for(self._shop.materials.folder):
                return await self._attempt_logged(attempt, segment)
        except asyncio.CancelledError:
            if self.interruption.phase is None:
                raise
            return self._interrupted()
        except StepTimeoutError as error:
            segment.note(str(error))
            return Ended(Phase.FAILED, "Timeout", str(error))
        except StalledError as error:
            segment.note(str(error))
            return Ended(Phase.ERROR, error.reason, str(error))
        except TransientError as error:
            segment.note(str(error))
            return Ended(Phase.ERROR, error.reason, str(error), transient=True)
        except Exception as error:  # noqa: BLE001 - a defect fails this step, never the daemon
            segment.note(f"internal error:\n{traceback.format_exc()}")
            return Ended(Phase.ERROR, "InternalError", repr(error))
        finally:
            segment.close()
            self._sealing = self._shop.seal(segment, attempt)

    async def _attempt_logged(self, attempt: Attempt, segment: LogSegment) -> Ended:
        evaluate = self._shop.materials.evaluate
        step = self._asked.step if self._asked else evaluate(self._step, self._row.matrix)
        if step.uses is not None:
            return await self._called(step, step.uses, attempt, segment)
        request = await self._shop.materials.request(step, attempt)
        if request.collect:
            request.staging.mkdir(parents=True)
        with self.interruptible():
            session = await self._shop.session()
        outcome = await self._in_time(step, lambda: session.attempt(request, segment))
        if outcome.verdict is not Verdict.COMPLETED:
            segment.note(f"{outcome.reason}: {outcome.error}")
            return await self._not_completed(session, outcome)
        return await self._completed(step, outcome)

    async def _called(
        self, step: Step, wanted: WorkflowCall, attempt: Attempt, segment: LogSegment
    ) -> Ended:
        """Run another workflow; what it has come to is what the step has come to."""
        run, verdict, outputs = await self._in_time(step, lambda: self._shop.call(wanted, attempt))
        segment.note(f"{wanted.workflow} ran as {run}: {verdict.phase}")
        if verdict.phase in {Phase.SUCCEEDED, Phase.SKIPPED}:
            return Ended(verdict.phase, verdict.reason, verdict.message, outputs=outputs)
        words = f"run {run}: {verdict.reason or verdict.phase}: {verdict.message}".rstrip(": ")
        return Ended(verdict.phase, f"Called{verdict.phase}", words)

    async def _in_time(self, step: Step, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do the step's work, which may be interrupted. Raises StepTimeoutError."""
        limit = asyncio.timeout(seconds(step.timeout))
        try:
            with self.interruptible():
                async with limit:
                    return await work()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StepTimeoutError(f"timed out after {step.timeout}") from error

    async def _not_completed(self, session: Session, outcome: Outcome) -> Ended:
        transient = outcome.verdict is Verdict.TRANSIENT or self._shop.is_transient(outcome.error)
        if outcome.reason in {"SessionLost", "KeeperLost"}:
            with self.interruptible():
                await self._shop.drop(session)
        return Ended(Phase.ERROR, outcome.reason, outcome.error, transient=transient)

    async def _completed(self, step: Step, outcome: Outcome) -> Ended:
        """Judge a process that has ended by itself; keep what it wrote, also when it failed."""
        code, found = outcome.exit_code, outcome.collected
        artifacts = {
            one.name: await self._shop.blobs.put_path(found[one.path])
            for one in step.artifacts
            if one.path in found
        }
        outputs, problem = results.read_outputs(step, found)
        if code not in step.success_exit_codes:
            problem = results.OutputError(rules.EXIT_CODE, f"exit code {code}")
        elif problem is None:
            problem = results.missing_artifact(step, found)
        return Ended(
            phase=Phase.SUCCEEDED if problem is None else Phase.FAILED,
            reason="" if problem is None else problem.reason,
            error="" if problem is None else str(problem),
            exit_code=code,
            outputs=outputs,
            artifacts=artifacts,
        )

    @property
    def _keeps(self) -> bool:
        return self._shop.cached is not None and takes_part(self._step)

    async def _done_and_kept(self, attempt: Attempt, ended: Ended) -> Done:
        """End a step that has succeeded; its result is kept by the transaction that says so."""
        cached = self._shop.cached
        assert cached is not None  # noqa: S101 - else nothing is kept
        # Its key may be known only now.
        asked = self._asked or await cached.keyed(self._step, self._row)
        log = None if self._sealing is None else await self._sealing
        if asked is None or (log is None and self._sealing is not None):
            return self._done_unkept(attempt, ended, "its key" if asked is None else "its log")
        self._row = replace(self._row, cache=asked.told)
        done = self._done(ended, self._finish(attempt, ended))
        return Done(done.step, (*done.changes, cached.kept(asked, self._step, done.step, log)))

    def _done_unkept(self, attempt: Attempt, ended: Ended, what: str) -> Done:
        """A result that can't be kept fails a step that requires it."""
        if self._step.cache.mode is CacheMode.REQUIRE:
            problem = f"the result can't be kept: {what} could not be recorded"
            ended = replace(ended, phase=Phase.FAILED, reason=WRITE_FAILED, error=problem)
        return self._done(ended, self._finish(attempt, ended))

    def _interrupted(self) -> Ended:
        phase = self.interruption.phase or Phase.CANCELLED
        return Ended(phase, self.interruption.reason, self.interruption.reason)

    def _wait(self, attempt: Attempt, ended: Ended) -> timedelta | None:
        """Return how long to wait for another attempt; None when there is none."""
        if ended.phase in {Phase.SUCCEEDED, Phase.SKIPPED}:
            return None
        budget = self._shop.infrastructure
        if ended.transient and self._infrastructure < budget.limit:
            self._infrastructure += 1
            return self._delay(budget.backoff, attempt, self._infrastructure)
        self._own += 1
        ending = Ending.FAILED if ended.phase is Phase.FAILED else Ending.ERROR
        elapsed = self._shop.clock.now() - (self._began or attempt.started_at)
        if again(
            self._step.retry, ending, exit_code=ended.exit_code, tried=self._own, elapsed=elapsed
        ):
            return self._delay(self._step.retry.backoff, attempt, self._own)
        return None

    def _delay(self, backoff: Backoff, attempt: Attempt, number: int) -> timedelta:
        """Combinations that failed together don't come back together."""
        return delay(backoff, attempt.run, f"{attempt.step}.{attempt.index}", number)

    def _finish(self, attempt: Attempt, ended: Ended) -> FinishAttempt:
        return FinishAttempt(
            attempt=replace(
                attempt,
                phase=ended.phase,
                reason=ended.reason,
                exit_code=ended.exit_code,
                error=self._shop.scrub(ended.error),
                finished_at=self._shop.clock.now(),
            )
        )

    def _done(self, ended: Ended, finish: FinishAttempt | None) -> Done:
        now = self._shop.clock.now()
        row = replace(
            self._row,
            phase=ended.phase,
            reason=ended.reason,
            exit_code=ended.exit_code,
            error=self._shop.scrub(ended.error),
            outputs=ended.outputs,
            artifacts=ended.artifacts,
            finished_at=now,
        )
        put = PutStep(step=row, at=now)
        return Done(row, (put,) if finish is None else (finish, put))


def seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
