"""Why a slot started or did not: told from what is kept; what is not kept is not guessed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from controller.model.condition import WorkflowStatus
from controller.model.run import Event, Phase, Run
from controller.model.source import Declaration
from controller.model.workflow import Schedule
from controller.reconcile.runs import run_id, slot_identity
from controller.reconcile.schedule import deadline_of, jitter, judged, newest_due, next_slot
from controller.reconcile.zone import SECOND

YEAR = timedelta(days=366)  # how far back a nearest slot is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the store has of one workflow."""

    declaration: Declaration
    status: WorkflowStatus
    runs: Sequence[Run]
    events: Sequence[Event]  # oldest first
    controllers: bool  # whether one is registered
    now: datetime


class Story(NamedTuple):
    """What became of one slot of one schedule."""

    answer: str  # NoSlot, Ahead, Unknown, ..., or the run's reason or phase
    schedule: str
    run: str | None
    words: str


def slot_run_id(declaration: Declaration, schedule: Schedule, slot: datetime) -> str:
    source, name = declaration.key
    return run_id(source, name, slot_identity(schedule, slot))


def is_slot(schedule: Schedule, at: datetime) -> bool:
    return next_slot(schedule, at - SECOND) == at


def story(facts: Facts, schedule: Schedule, at: datetime) -> Story:
    """Return what became of the moment `at` (UTC) for one schedule."""
    if not is_slot(schedule, at):
        return Story("NoSlot", schedule.identity, None, nearest_slots(schedule, at))
    wanted = slot_run_id(facts.declaration, schedule, at)
    run = next((one for one in facts.runs if one.id == wanted), None)
    if run is not None:
        return Story(run.reason or str(run.phase), schedule.identity, run.id, told(facts, run, at))
    answer, words = without_run(facts, schedule, at)
    return Story(answer, schedule.identity, None, words + filled(facts, schedule, at))


def nearest_slots(schedule: Schedule, at: datetime) -> str:
    before, after = newest_due(schedule, at - YEAR, at), next_slot(schedule, at)
    return (
        f"no slot of {schedule.cron} ({schedule.time_zone});"
        f" the nearest are {stamp(before)} and {stamp(after)}"
    )


# A slot that has a run.


def told(facts: Facts, run: Run, slot: datetime) -> str:
    if run.phase is Phase.SKIPPED:
        return skipped(facts, run, slot)
    if run.phase is Phase.PENDING:
        return f"run {run.id} waits: {awaited(facts, run)}"
    if run.started_at is None:
        return f"run {run.id} ended before it started: {run.phase} {run.message}".rstrip()
    return f"run {run.id} is {run.phase}; {lateness(facts, run, slot, run.started_at)}"


def lateness(facts: Facts, run: Run, slot: datetime, started: datetime) -> str:
    schedule = next((s for s in facts.declaration.schedules if s.identity == run.schedule), None)
    source, name = facts.declaration.key
    delay = jitter(source, name, schedule, slot) if schedule else timedelta(0)
    late = (started - slot - delay).total_seconds()
    return f"started {stamp(started)}: jitter {delay.total_seconds():g} s, then {late:.3f} s late"


def skipped(facts: Facts, run: Run, slot: datetime) -> str:
    at = run.finished_at or run.created_at
    if run.reason == "DeadlineExceeded":
        return f"it was met at {stamp(run.created_at)}{overdue(facts, run, slot)}"
    if run.reason == "ConcurrencyForbidden":
        return f"{in_the_way(facts, run, at)} was active at {stamp(at)} (Forbid)"
    words = WHY_SKIPPED.get(run.reason, f"{run.reason} {run.message}".rstrip())
    return f"created {stamp(run.created_at)}, skipped {stamp(at)}: {words}"


WHY_SKIPPED = {
    "QueueTimeout": "it waited for its turn longer than queueTimeout",
    "Unchanged": "nothing differed from this schedule's last success (runPolicy IfChanged)",
    "Suspended": "the workflow was suspended while it waited",
    "Superseded": "a newer slot took its place (Replace)",
    "Retired": "the workflow was removed while it waited",
}


def overdue(facts: Facts, run: Run, slot: datetime) -> str:
    """Return by how much; the deadline is that of the manifest as it is now."""
    schedule = next((s for s in facts.declaration.schedules if s.identity == run.schedule), None)
    deadline = deadline_of(facts.declaration)
    if schedule is None or deadline is None:
        return ", too late then"
    late = run.created_at - judged(facts.declaration, schedule, slot)
    over = (late - deadline).total_seconds()
    limit = f"startingDeadline of {deadline.total_seconds():g} s"
    return f", {late.total_seconds():.0f} s late: {over:.0f} s beyond the {limit}"


def in_the_way(facts: Facts, run: Run, at: datetime) -> str:
    others = [one for one in facts.runs if one.id != run.id and was_active(one, at)]
    if not others:
        return "another run, which is not kept,"
    return f"run {others[-1].id} ({others[-1].trigger})"


def was_active(run: Run, at: datetime) -> bool:
    if run.phase is Phase.SKIPPED or run.created_at > at:
        return False
    return run.finished_at is None or run.finished_at > at


def awaited(facts: Facts, run: Run) -> str:
    if run.not_before is not None and run.not_before > facts.now:
        return f"it starts at {stamp(run.not_before)} (jitter)"
    active = [one for one in facts.runs if one.phase is Phase.RUNNING and one.id != run.id]
    if active:
        return f"run {active[0].id} is active"
    return "for a place (maxParallel.runs, its group), or for a controller"


# A slot that has none.


def filled(facts: Facts, schedule: Schedule, at: datetime) -> str:
    """Return the run that people have made for the slot, if one is kept."""
    own = [
        one for one in facts.runs if (one.schedule, one.scheduled_time) == (schedule.identity, at)
    ]
    return f"; run {own[0].id} ({own[0].trigger}) is {own[0].phase}" if own else ""


def without_run(facts: Facts, schedule: Schedule, at: datetime) -> tuple[str, str]:
    if at > facts.now:
        return "Ahead", f"it is to come, in {(at - facts.now).total_seconds():.0f} s"
    state = state_at(facts.events, at)
    if (answer := state.get("answer")) is not None:
        return answer, state["words"]
    answered = facts.status.answered.get(schedule.identity)
    if answered is None or answered < at:
        return unseen(facts, answered)
    return "Unknown", (
        "unknown: no run of it is kept, and no event tells why. A newer slot may have been caught"
        f" up instead of it (catchUp {facts.declaration.catch_up}), the schedule may have been"
        " seen first later, or its run has left the history"
    )


def unseen(facts: Facts, answered: datetime | None) -> tuple[str, str]:
    who = "a controller is registered" if facts.controllers else "no controller is running"
    if answered is None:
        return "NotSeen", f"no controller has seen this schedule yet; {who}"
    return "NotLookedAt", f"slots after {stamp(answered)} have not been dealt with yet; {who}"


CAUSES = {
    "Suspended": ("Suspended", "suspended since"),
    "WorkflowRetired": ("Retired", "removed from its source at"),
}
ENDS = {"Resumed": "Suspended", "WorkflowRestored": "WorkflowRetired"}
AGAIN = {"SuspensionChanged": "Suspended"}  # goes on, for other reasons


def state_at(events: Sequence[Event], at: datetime) -> Mapping[str, str]:
    """Return why nothing could start at a moment, as the workflow's events tell; {}: no reason."""
    own = [one for one in events if not one.run]
    if not own or own[0].at > at:
        return before_history(own)
    standing: dict[str, Event] = {}
    for one in own:
        if one.at > at:
            break
        if one.reason in CAUSES:
            standing[one.reason] = one
        standing.pop(ENDS.get(one.reason, ""), None)
        if (first := standing.get(AGAIN.get(one.reason, ""))) is not None:
            standing[first.reason] = replace(first, message=one.message)
    for reason, event in standing.items():
        answer, words = CAUSES[reason]
        why = f": {event.message}" if event.message else ""
        return {"answer": answer, "words": f"it was {words} {stamp(event.at)}{why}"}
    return {}


def before_history(own: Sequence[Event]) -> Mapping[str, str]:
    if own and own[0].reason == "WorkflowLoaded":
        return {"answer": "FirstSeenLater", "words": f"it was first seen at {stamp(own[0].at)}"}
    if own and own[0].reason == "InvalidManifest":
        return {"answer": "InvalidManifest", "words": f"never valid before {stamp(own[0].at)}"}
    since = stamp(own[0].at) if own else "now"
    return {"answer": "Unknown", "words": f"unknown: history before {since} is gone"}


def stamp(moment: datetime | None) -> str:
    return "none" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
