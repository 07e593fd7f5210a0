"""Desired x observed x now -> changes, for one workflow. Pure, total, sorted, silent.

Applying a plan and planning again at the same moment gives nothing to do.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from controller.model.changes import AnswerSchedule, Change, CreateRun, FinishRun, ForgetSchedule
from controller.model.condition import MISSED, ORPHANED, SUSPENDED, WorkflowStatus, drop
from controller.model.run import Phase, Run, Trigger
from controller.model.source import Declaration, Fault
from controller.model.workflow import ConcurrencyPolicy, RunPolicy, Schedule
from controller.reconcile import backfill, expectation, suspension, upstream
from controller.reconcile import schedule as cron
from controller.reconcile.conditions import health_of, judged
from controller.reconcile.observed import CLOCK_ERROR, Observed, Plan, is_delayed, is_waiting
from controller.reconcile.rerun import is_again, is_by_policy
from controller.reconcile.runs import run_id, slot_identity
from controller.reconcile.status import at_rest, put_if_new, sighted

__all__ = ["Observed", "Plan", "plan"]


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
    return Plan() if observed.held else retire(observed, now)


def never_valid(observed: Observed, fault: Fault, now: datetime) -> Plan:
    """A name that can be read, on a manifest that can't be used."""
    source, name = observed.key
    status = observed.status or WorkflowStatus(source=source, name=name, file=fault.file)
    listed = judged(replace(status, retired=False), fault, now)
    return Plan(changes=tuple(put_if_new(observed.status, listed, now)))


def retire(observed: Observed, now: datetime) -> Plan:
    """Nothing new starts, running runs end, history stays; coming back continues its numbers."""
    status = observed.status
    if status is None:
        return Plan()
    gone = replace(
        status,
        retired=True,
        suspended=False,
        answered_change=status.change,
        watched_since=None,
        conditions=drop(status.conditions, MISSED, ORPHANED, SUSPENDED),
    )
    changes: list[Change] = [
        *(skip(run, "Retired", now) for run in observed.active if is_to_go(run)),
        *(forget(status, identity) for identity in sorted(status.answered)),
    ]
    if not status.retired:
        changes += put_if_new(status, judged(gone, None, now), now)
    return Plan(changes=tuple(changes))


class Pass:
    """One pass over one declared workflow."""

    def __init__(self, declaration: Declaration, observed: Observed, now: datetime) -> None:
        self.declaration = declaration
        self.observed = observed
        self.now = now
        self.policy = declaration.concurrency_policy
        before = observed.status or WorkflowStatus(source=declaration.source, name=declaration.name)
        self.suspension = suspension.due(before, declaration, now)
        if self.suspension is not None:
            before = replace(before, suspension=self.suspension.suspension)
            observed = replace(observed, status=before)
        self.before = before
        self.rests = at_rest(declaration, observed)
        self.after = before if self.rests else sighted(before, declaration, observed, now)
        self.waiting = [run for run in observed.active if is_waiting(run)]
        self.starting: list[Run] = []  # created by this pass
        self.moments: list[datetime] = []  # when to look again

    def plan(self) -> Plan:
        quiet = self.rests and not self.waiting
        changes = [*(() if quiet else self.on_change()), *self.on_schedules(), *self.on_upstreams()]
        if self.left():
            changes += self.on_waiting()
            self.moments += [run.not_before for run in self.left() if run.not_before]
        self.look_at(self.before.suspension.until if self.before.suspension else None)
        self.look_at(expectation.moment(self.after, self.declaration))
        return Plan(
            changes=(*filter(None, (self.suspension,)), *self.status(), *changes),
            cancels=tuple(self.cancels()),
            wake_at=min((one for one in self.moments if one > self.now), default=None),
        )

    def status(self) -> Iterator[Change]:
        after = expectation.noted(self.after, self.declaration, self.now)
        if self.rests and after is self.before and after.health is health_of(after):
            return
        status = judged(after, self.observed.fault, self.now)
        yield from put_if_new(self.observed.status, status, self.now)

    # Changes of the spec or of declared inputs.

    def on_change(self) -> Iterator[Change]:
        """Start the run of the newest unanswered change; older ones that wait are superseded."""
        due = self.after.answered_change < self.after.change and not self.after.suspended
        if self.policy is not ConcurrencyPolicy.ALLOW:
            older = sorted(filter(is_superseded, self.waiting), key=change_order)
            yield from self.skip_all(older if due else older[:-1], "Superseded")
        if due:
            self.after = replace(self.after, answered_change=self.after.change)
            yield self.create(self.run(Trigger.CHANGE, f"change:{self.after.change}"))

    # Ends of upstreams.

    def on_upstreams(self) -> Iterator[Change]:
        """Start a run for each wanted end; but for Allow the newest takes the place of others."""
        marks, due = upstream.answers(self.declaration, self.after, self.observed.ends, self.now)
        yield from marks
        alone = bool(due) and self.policy is not ConcurrencyPolicy.ALLOW
        if alone:
            yield from self.skip_all([*upstream.superseded(self.waiting)], "Superseded")
        for one in due:
            run = upstream.triggered(self.run(Trigger.UPSTREAM, upstream.identity(one.end)), one)
            yield self.create(run, skipped="Superseded" if alone and one is not due[-1] else "")

    # Schedules.

    def on_schedules(self) -> Iterator[Change]:
        declared = {one.identity: one for one in self.declaration.schedules}
        kept = {*declared, *upstream.names(self.declaration, self.observed.ends)}
        for identity in sorted({*self.before.answered} - kept):
            if not backfill.is_open_name(identity):
                yield forget(self.before, identity)
        for identity, one in sorted(declared.items()):
            answered = self.before.answered.get(identity)
            if answered is None:
                yield self.count_from_now(one)
            elif answered - self.now > CLOCK_ERROR:
                yield forget(self.before, identity)
                yield self.count_from_now(one)
            else:
                yield from self.on_schedule(one, answered)

    def on_schedule(self, schedule: Schedule, answered: datetime) -> Iterator[Change]:
        coming = cron.next_slot(schedule, answered)
        if coming is None or coming > self.now:
            self.look_at(coming)
            return
        due = cron.due(self.declaration, schedule, answered, self.now)
        self.look_at(cron.next_slot(schedule, self.now))
        yield self.answer(schedule, due.newest)
        if self.before.suspended or self.after.suspended:
            return  # resuming replays no slot
        if due.missed is not None:
            yield self.create(self.slot(schedule, due.missed), skipped="DeadlineExceeded")
        yield from self.on_slots(schedule, due.start)

    def on_slots(self, schedule: Schedule, slots: tuple[datetime, ...]) -> Iterator[Change]:
        """Slots that are caught up together wait in turn; each would replace the one before it."""
        if self.policy is ConcurrencyPolicy.REPLACE:
            slots = slots[-1:]
        alone = len(slots) == 1
        for run in [self.slot(schedule, slot) for slot in slots]:
            forbidden = alone and self.is_forbidden(run)
            yield self.create(run, skipped="ConcurrencyForbidden" if forbidden else "")

    # Runs that wait.

    def on_waiting(self) -> Iterator[Change]:
        slots = [run for run in self.left() if is_by_policy(run)]
        created = {run.id for run in self.starting}
        late = [run for run in slots if self.is_too_late(run)]
        yield from self.skip_all(late, "QueueTimeout")
        slots = [run for run in slots if run not in late]
        if self.after.suspended:
            yield from self.skip_all(slots, "Suspended")
        elif self.policy is ConcurrencyPolicy.REPLACE:
            ripe = sorted((run for run in slots if self.is_ripe(run)), key=slot_order)
            yield from self.skip_all(ripe[:-1], "Superseded")
        elif self.policy is ConcurrencyPolicy.FORBID:
            for run in sorted(filter(is_delayed, slots), key=slot_order):
                if run.id not in created and self.is_forbidden(run):
                    yield from self.skip_all([run], "ConcurrencyForbidden")

    def is_forbidden(self, run: Run) -> bool:
        """A slot never starts late: at its moment no other run may be active, or about to be."""
        if self.policy is not ConcurrencyPolicy.FORBID or not self.is_ripe(run):
            return False
        moment = run.not_before or self.now
        return any(self.is_in_the_way(other, run, moment) for other in self.unfinished())

    def is_in_the_way(self, other: Run, run: Run, moment: datetime) -> bool:
        if other.id == run.id or other.created_at > moment or other.trigger is Trigger.BACKFILL:
            return False  # a slot waits for a backfill's run, and is not lost to it
        return not is_delayed(other) or (other.not_before or moment, other.id) < (moment, run.id)

    def is_too_late(self, run: Run) -> bool:
        """A slot waits so long for its turn and no longer; one that had its turn has it again."""
        if self.declaration.queue_timeout is None or run.reason:
            return False
        end = (run.not_before or run.created_at) + self.declaration.queue_timeout
        self.look_at(end)
        return end <= self.now

    def is_ripe(self, run: Run) -> bool:
        return run.not_before is None or run.not_before <= self.now

    def left(self) -> list[Run]:
        """Return the runs that wait when this pass is over, as far as it has come."""
        return [*self.waiting, *self.starting]

    def unfinished(self) -> list[Run]:
        claimed = [run for run in self.observed.active if not is_waiting(run)]
        return [*claimed, *self.left()]

    def cancels(self) -> Iterator[tuple[str, str]]:
        """Yield the claimed runs that a waiting one replaces, in every pass until they end."""
        for run in self.observed.active:
            if not is_waiting(run) and any(self.replaces(new, run) for new in self.left()):
                yield run.id, "Replaced"

    def replaces(self, new: Run, old: Run) -> bool:
        if is_by_policy(new):
            replacing = self.policy is ConcurrencyPolicy.REPLACE and self.is_ripe(new)
            return replacing and old.trigger is not Trigger.BACKFILL
        trigger = self.declaration.on_change
        both = new.trigger is old.trigger is Trigger.CHANGE
        return both and trigger is not None and trigger.cancel_in_progress and is_older(old, new)

    # Building blocks.

    def skip_all(self, runs: list[Run], reason: str) -> Iterator[Change]:
        gone = {run.id for run in runs}
        self.waiting = [run for run in self.waiting if run.id not in gone]
        self.starting = [run for run in self.starting if run.id not in gone]
        yield from (skip(run, reason, self.now) for run in runs)

    def look_at(self, moment: datetime | None) -> None:
        if moment is not None:
            self.moments.append(moment)

    def count_from_now(self, schedule: Schedule) -> AnswerSchedule:
        self.look_at(cron.next_slot(schedule, self.now))
        return self.answer(schedule, self.now)

    def answer(self, schedule: Schedule, through: datetime) -> AnswerSchedule:
        source, name = self.declaration.key
        return AnswerSchedule(
            source=source, workflow=name, schedule=schedule.identity, through=through
        )

    def create(self, run: Run, skipped: str = "") -> CreateRun:
        if skipped:
            return CreateRun(run=as_skipped(run, skipped, self.now))
        if not run.phase.terminal:
            self.starting.append(run)
        return CreateRun(run=run)

    def slot(self, schedule: Schedule, slot: datetime) -> Run:
        moment = cron.judged(self.declaration, schedule, slot)
        return replace(
            self.run(Trigger.SCHEDULE, slot_identity(schedule, slot)),
            schedule=schedule.identity,
            scheduled_time=slot,
            time_zone=schedule.time_zone,
            params=dict(schedule.params),
            not_before=moment if moment > self.now else None,
        )

    def run(self, trigger: Trigger, identity: str) -> Run:
        source, name = self.declaration.key
        return Run(
            id=run_id(source, name, identity),
            source=source,
            workflow=name,
            trigger=trigger,
            identity=identity,
            revision=self.observed.revision,
            spec_digest=self.declaration.spec_digest,
            generation=self.after.generation,
            change=self.after.change,
            priority=self.declaration.priority,
            inputs=dict(self.observed.inputs),
            created_at=self.now,
        )


def as_skipped(run: Run, reason: str, now: datetime) -> Run:
    """Return a run that is made for the record: it never starts."""
    return replace(
        run,
        phase=Phase.SKIPPED,
        reason=reason,
        spec="",
        inputs={},
        not_before=None,
        finished_at=now,
    )


def is_unchanged(declaration: Declaration, status: WorkflowStatus | None, run: Run) -> bool:
    """Tell whether a slot's run, its params resolved, would repeat its schedule's last success."""
    schedule = next((one for one in declaration.schedules if one.identity == run.schedule), None)
    if schedule is None or schedule.run_policy is not RunPolicy.IF_CHANGED or status is None:
        return False
    return run.trigger is Trigger.SCHEDULE and status.last_keys.get(schedule.identity) == run.key


def is_superseded(run: Run) -> bool:
    """Tell whether a newer change takes this one's place; a rerun of a lost run stays."""
    return run.trigger is Trigger.CHANGE and run.rerun_of is None


def is_older(old: Run, new: Run) -> bool:
    return change_order(old) < change_order(new)


def change_order(run: Run) -> tuple[int, datetime, str]:
    return run.change, run.created_at, run.id


def slot_order(run: Run) -> tuple[datetime, datetime, str]:
    return run.not_before or run.created_at, run.logical_time, run.id


def is_to_go(run: Run) -> bool:
    """A run that waits goes with its workflow, unless a person asked for just it again."""
    return is_waiting(run) and not is_again(run)


def skip(run: Run, reason: str, now: datetime) -> FinishRun:
    return FinishRun(run=run.id, phase=Phase.SKIPPED, reason=reason, at=now)


def forget(status: WorkflowStatus, identity: str) -> ForgetSchedule:
    return ForgetSchedule(source=status.source, workflow=status.name, schedule=identity)
