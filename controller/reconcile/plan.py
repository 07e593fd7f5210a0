"""Desired x observed x now -> changes, for one workflow. Pure, total, sorted, silent.

Applying a plan and planning again at the same moment gives nothing to do.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.model.changes import (
    AnswerSchedule,
    Change,
    CreateRun,
    FinishRun,
    ForgetSchedule,
    PutWorkflow,
)
from controller.model.condition import WorkflowStatus
from controller.model.run import Event, Phase, Run, Trigger
from controller.model.source import Declaration, Fault
from controller.model.workflow import ConcurrencyPolicy, Schedule
from controller.reconcile import schedule as cron
from controller.reconcile.conditions import judged
from controller.reconcile.runs import run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is known of one workflow at this moment."""

    key: tuple[str, str]  # source, workflow
    status: WorkflowStatus | None
    active: tuple[Run, ...] = ()  # Pending and Running
    inputs: Mapping[str, str] = field(default_factory=dict)  # digests as they are now
    revision: str = ""
    fault: Fault | None = None  # of its newest text


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    changes: tuple[Change, ...] = ()
    cancels: tuple[tuple[str, str], ...] = ()  # (run id, reason)
    wake_at: datetime | None = None


def plan(declaration: Declaration | None, observed: Observed, now: datetime) -> Plan:
    """Return what brings `observed` to what is declared, and when to look again.

    Args:
        declaration: the last valid text of the workflow; None when its manifest was removed, or
            was never valid (then `observed.fault` says why).
        observed: its state, whole.
        now: the pass's single reading of the clock, in UTC.
    """
    if declaration is not None:
        return Pass(declaration, observed, now).plan()
    if observed.fault is not None:
        return never_valid(observed, observed.fault, now)
    return retire(observed, now)


def never_valid(observed: Observed, fault: Fault, now: datetime) -> Plan:
    """A name that can be read, on a manifest that can't be used."""
    source, name = observed.key
    status = observed.status or WorkflowStatus(source=source, name=name, file=fault.file)
    return Plan(changes=tuple(put_if_new(observed.status, judged(status, fault, now), now)))


def retire(observed: Observed, now: datetime) -> Plan:
    """Nothing new starts, running runs end, history stays; coming back continues its numbers."""
    status = observed.status
    if status is None or status.retired:
        return Plan()
    waiting = [run for run in observed.active if is_waiting(run)]
    gone = replace(status, retired=True, suspended=False)
    return Plan(
        changes=(
            *(skip_waiting(run, "Retired", now) for run in waiting),
            *(forget(status, identity) for identity in sorted(status.answered)),
            *put_if_new(status, judged(gone, None, now), now),
        )
    )


class Pass:
    """One pass over one declared workflow."""

    def __init__(self, declaration: Declaration, observed: Observed, now: datetime) -> None:
        self.declaration = declaration
        self.observed = observed
        self.now = now
        self.before = observed.status or WorkflowStatus(
            source=declaration.source, name=declaration.name
        )
        self.after = sighted(self.before, declaration, observed)
        self.cancels: list[tuple[str, str]] = []

    def plan(self) -> Plan:
        changes = (*self.on_change(), *self.on_schedules(), *self.forbidden_now())
        status = judged(self.after, self.observed.fault, self.now)
        return Plan(
            changes=(*put_if_new(self.observed.status, status, self.now), *changes),
            cancels=tuple(self.cancels),
            wake_at=self.wake_at(),
        )

    # Changes of the spec or of declared inputs.

    def on_change(self) -> Iterator[Change]:
        """Start the run of the newest unanswered change; an older one that waits is superseded."""
        if self.after.suspended or self.after.answered_change >= self.after.change:
            return
        self.after = replace(self.after, answered_change=self.after.change)
        if not wants(self.declaration, self.before, self.after):
            return
        if self.declaration.concurrency_policy is not ConcurrencyPolicy.ALLOW:
            for run in self.observed.active:
                if run.trigger is Trigger.CHANGE and is_waiting(run):
                    yield skip_waiting(run, "Superseded", self.now)
        if self.declaration.on_change and self.declaration.on_change.cancel_in_progress:
            self.cancel_running(Trigger.CHANGE)
        yield self.start(Trigger.CHANGE, f"change:{self.after.change}")

    # Schedules.

    def on_schedules(self) -> Iterator[Change]:
        declared = {one.identity: one for one in self.declaration.schedules}
        for identity in sorted({*self.before.answered} - {*declared}):
            yield forget(self.before, identity)
        for identity, one in sorted(declared.items()):
            answered = self.before.answered.get(identity)
            if answered is None:
                yield self.answer(identity, self.now)  # slots count from the first sighting
            else:
                yield from self.on_schedule(one, answered)

    def on_schedule(self, schedule: Schedule, answered: datetime) -> Iterator[Change]:
        newest = cron.newest_due(schedule, answered, self.now)
        if newest is None:
            return
        yield self.answer(schedule.identity, newest)
        if self.after.suspended:
            return  # resuming replays no slot
        due = cron.due(self.declaration, schedule, answered, self.now)
        if due.missed is not None:
            yield self.start_slot(schedule, due.missed, skipped="DeadlineExceeded")
        for position, slot in enumerate(due.start):
            yield from self.on_slot(schedule, slot, first=position == 0)

    def on_slot(self, schedule: Schedule, slot: datetime, *, first: bool) -> Iterator[Change]:
        policy = self.declaration.concurrency_policy
        waits = cron.judged(self.declaration, schedule, slot) > self.now
        if policy is ConcurrencyPolicy.FORBID and first and not waits and self.busy():
            yield self.start_slot(schedule, slot, skipped="ConcurrencyForbidden")
            return
        if policy is ConcurrencyPolicy.REPLACE and not waits:
            self.cancel_running()
        yield self.start_slot(schedule, slot)

    def forbidden_now(self) -> Iterator[Change]:
        """A slot whose jitter is over is judged like any other: at slot + jitter."""
        if self.declaration.concurrency_policy is not ConcurrencyPolicy.FORBID:
            return
        for run in self.observed.active:
            if self.jitter_over(run) and self.busy(but=run.id):
                yield skip_waiting(run, "ConcurrencyForbidden", self.now)

    def jitter_over(self, run: Run) -> bool:
        return (
            run.trigger is Trigger.SCHEDULE
            and is_waiting(run)
            and run.not_before is not None
            and run.not_before <= self.now
        )

    def busy(self, but: str = "") -> bool:
        """Tell whether a run of this workflow is active, or about to be."""
        return any(
            run.id != but and not (run.not_before is not None and is_waiting(run))
            for run in self.observed.active
        )

    # Building blocks.

    def cancel_running(self, trigger: Trigger | None = None) -> None:
        for run in self.observed.active:
            if not is_waiting(run) and trigger in {None, run.trigger}:
                self.cancels.append((run.id, "Replaced"))

    def answer(self, identity: str, through: datetime) -> AnswerSchedule:
        return AnswerSchedule(
            source=self.declaration.source,
            workflow=self.declaration.name,
            schedule=identity,
            through=through,
        )

    def start_slot(self, schedule: Schedule, slot: datetime, skipped: str = "") -> CreateRun:
        identity = f"slot:{schedule.identity}:{slot.isoformat()}"
        change = self.start(Trigger.SCHEDULE, identity, skipped)
        moment = cron.judged(self.declaration, schedule, slot)
        run = replace(
            change.run,
            schedule=schedule.identity,
            scheduled_time=slot,
            time_zone=schedule.time_zone,
            params=dict(schedule.params),
            not_before=moment if moment > self.now else None,
        )
        return CreateRun(run=run)

    def start(self, trigger: Trigger, identity: str, skipped: str = "") -> CreateRun:
        source, name = self.declaration.key
        return CreateRun(
            run=Run(
                id=run_id(source, name, identity),
                source=source,
                workflow=name,
                trigger=trigger,
                identity=identity,
                phase=Phase.SKIPPED if skipped else Phase.PENDING,
                reason=skipped,
                revision=self.observed.revision,
                spec_digest=self.declaration.spec_digest,
                generation=self.after.generation,
                change=self.after.change,
                priority=self.declaration.priority,
                inputs={} if skipped else dict(self.observed.inputs),
                created_at=self.now,
                finished_at=self.now if skipped else None,
            )
        )

    def wake_at(self) -> datetime | None:
        coming = [cron.next_slot(one, self.now) for one in self.declaration.schedules]
        waiting = [run.not_before for run in self.observed.active if is_waiting(run)]
        moments = [one for one in (*coming, *waiting) if one is not None and one > self.now]
        return min(moments, default=None)


def sighted(before: WorkflowStatus, declaration: Declaration, observed: Observed) -> WorkflowStatus:
    """Return the status with the declaration taken in: numbers rise with what differs."""
    new_spec = before.spec_digest != declaration.spec_digest
    new_inputs = dict(before.inputs) != dict(observed.inputs)
    return replace(
        before,
        file=declaration.file,
        blob=declaration.blob,
        document=declaration.document,
        generation=before.generation + new_spec,
        change=before.change + (new_spec or new_inputs),
        spec_digest=declaration.spec_digest,
        inputs=dict(observed.inputs),
        revision=observed.revision,
        suspended=suspended(before, declaration),
        retired=False,
    )


def suspended(before: WorkflowStatus, declaration: Declaration) -> bool:
    if before.suspend_override is not None:
        return before.suspend_override
    return declaration.suspended


def wants(declaration: Declaration, before: WorkflowStatus, after: WorkflowStatus) -> bool:
    """Tell whether the trigger `onChange` asks for a run of this change.

    A change that was held back by suspension is asked for whatever it was.
    """
    trigger = declaration.on_change
    if trigger is None:
        return False
    held_back = before.answered_change < before.change
    new_spec = before.spec_digest != after.spec_digest
    new_inputs = dict(before.inputs) != dict(after.inputs)
    return (trigger.spec and new_spec) or (trigger.inputs and new_inputs) or held_back


def is_waiting(run: Run) -> bool:
    return run.phase is Phase.PENDING and run.instance is None


def skip_waiting(run: Run, reason: str, now: datetime) -> FinishRun:
    return FinishRun(run=run.id, phase=Phase.SKIPPED, reason=reason, at=now)


def forget(status: WorkflowStatus, identity: str) -> ForgetSchedule:
    return ForgetSchedule(source=status.source, workflow=status.name, schedule=identity)


def put_if_new(
    before: WorkflowStatus | None, after: WorkflowStatus, now: datetime
) -> Iterator[PutWorkflow]:
    """Write the status only when something but the revision differs: at rest nothing is written."""
    if before is not None and replace(after, revision=before.revision) == before:
        return
    yield PutWorkflow(status=after, event=told(before, after, now))


def told(before: WorkflowStatus | None, after: WorkflowStatus, now: datetime) -> Event | None:
    """Return the event worth keeping, if any."""
    reason = message = ""
    if before is None or before.generation == 0 < after.generation:
        reason, message = "WorkflowLoaded", after.file
    elif after.retired and not before.retired:
        reason = "WorkflowRetired"
    elif before.valid and not after.valid:
        reason = "InvalidManifest"
        message = next((one.message for one in after.conditions if one.type == "Ready"), "")
    elif after.generation > before.generation:
        reason, message = "SpecChanged", f"generation {after.generation}"
    elif after.change > before.change:
        reason, message = "InputsChanged", f"change {after.change}"
    elif after.suspended != before.suspended:
        reason = "Suspended" if after.suspended else "Resumed"
    if not reason:
        return None
    return Event(at=now, reason=reason, source=after.source, workflow=after.name, message=message)
