"""Backfills: one run for each slot of a span of time, at a person's wish.

A backfill's id is derived from its request and each run's id from the backfill and the slot: the
same request makes the same runs, another one makes others.

Its runs are written in batches. A mark among the rows of the schedules says how far that has come;
it goes with the last batch: a repeated request knows whether there is more to do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice, takewhile
from typing import NamedTuple

from controller import digest
from controller.errors import RefusedError, UsageError
from controller.manifest.names import nearest
from controller.model.changes import AnswerSchedule, Change, CreateRun, ForgetSchedule
from controller.model.run import Run, Trigger
from controller.model.source import Declaration
from controller.model.workflow import Schedule
from controller.reconcile.runs import ID_DIGITS, run_id
from controller.reconcile.schedule import slots
from controller.reconcile.zone import first_instant

LIMIT = 1_000
"""Slots of one backfill unless its request says otherwise."""

MOST = 10_000
"""What a request may say at most."""

BATCH = 200
"""Runs in one transaction, so that others' passes and claims come between."""

OPEN = "backfill:"
MARK = ".backfill-"  # no run's id has it: names of workflows have no dot
TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be filled: the slots in [begin, end)."""

    begin: str  # RFC 3339; a date, or a time without a zone, is in the schedule's zone
    end: str
    key: str  # tells one wish from another
    schedule: str | None = None  # all of the workflow's schedules
    limit: int = LIMIT


class Slot(NamedTuple):
    """One slot of a backfill."""

    time: datetime  # UTC
    identity: str  # the schedule's
    schedule: Schedule


def backfill_id(source: str, workflow: str, wish: Wish) -> str:
    """Return the id of the backfill that a wish makes: the same wish, the same id."""
    words = [source, workflow, wish.key, wish.begin, wish.end, wish.schedule]
    return f"{workflow}{MARK}{digest.of_value(words).removeprefix('sha256:')[:ID_DIGITS]}"


def identity_prefix(backfill: str) -> str:
    """Return how the identities of the backfill's runs begin."""
    return f"backfill:{backfill}:"


def backfill_of(run: Run) -> str | None:
    """Return the id of the backfill that a run belongs to; None when it belongs to none."""
    return run.identity.split(":")[1] if run.trigger is Trigger.BACKFILL else None


def open_name(backfill: str) -> str:
    """Return the name of the mark of a backfill that is being written; no schedule has such."""
    return f"{OPEN}{backfill}"


def is_open_name(name: str) -> bool:
    return name.startswith(OPEN)


def batches(runs: Sequence[Run]) -> Iterator[tuple[Change, ...]]:
    """Yield what is written together: runs, oldest slot first, and how far that comes."""
    for start in range(0, len(runs), BATCH):
        batch = runs[start : start + BATCH]
        is_last = start + BATCH >= len(runs)
        mark = closed(batch[-1]) if is_last else reached(batch[-1])
        yield (*(CreateRun(run=run) for run in batch), mark)


def reached(run: Run) -> AnswerSchedule:
    """Return the mark that a backfill is written up to the slot of this run of it."""
    return AnswerSchedule(
        source=run.source,
        workflow=run.workflow,
        schedule=open_name(backfill_of(run) or ""),
        through=run.logical_time,
    )


def closed(run: Run) -> ForgetSchedule:
    """Return the end of the writing of the backfill that a run belongs to."""
    return ForgetSchedule(
        source=run.source, workflow=run.workflow, schedule=open_name(backfill_of(run) or "")
    )


def slots_of(declaration: Declaration, wish: Wish) -> tuple[Slot, ...]:
    """Return the slots to fill, oldest first; one more than the limit is looked for at most.

    Raises:
        UsageError: no such schedule, a time that is none, or no time between the two.
        RefusedError: there are more slots than the limit.
    """
    if not 1 <= wish.limit <= MOST:
        raise UsageError(f"limit {wish.limit} is not between 1 and {MOST}")
    found = tuple(islice(merge(*series(declaration, wish)), wish.limit + 1))
    if len(found) > wish.limit:
        raise RefusedError(
            f"there are more than {wish.limit} slots from {wish.begin} to {wish.end}",
            where="/".join(declaration.key),
            remedy=f"fill a shorter time, or raise the limit (--limit, at most {MOST})",
        )
    return found


def series(declaration: Declaration, wish: Wish) -> list[Iterator[Slot]]:
    return [
        slots_between(one, *span(wish, one.time_zone)) for one in chosen(declaration, wish.schedule)
    ]


def slots_between(schedule: Schedule, begin: datetime, end: datetime) -> Iterator[Slot]:
    coming = takewhile(lambda slot: slot < end, slots(schedule, begin - TICK))
    return (Slot(slot, schedule.identity, schedule) for slot in coming)


def chosen(declaration: Declaration, name: str | None) -> list[Schedule]:
    """Return the schedules that are meant: all, or the one of that name or cron text."""
    where = "/".join(declaration.key)
    if not declaration.schedules:
        raise UsageError("it has no schedule to fill", where=where, remedy=f"rondel run {where}")
    if name is None:
        return list(declaration.schedules)
    found = [one for one in declaration.schedules if name in {one.identity, one.cron}]
    if len(found) == 1:
        return found
    known = [one.name or one.cron for one in declaration.schedules]
    if found:
        raise UsageError(f"{name!r} is several schedules", where=where, remedy="give them names")
    raise UsageError(f"there is no schedule {name!r}", where=where, remedy=nearest(name, known))


def span(wish: Wish, time_zone: str) -> tuple[datetime, datetime]:
    """Return [begin, end) in UTC, as a schedule of that zone reads it."""
    begin, end = moment(wish.begin, time_zone), moment(wish.end, time_zone)
    if begin >= end:
        raise UsageError(
            f"no time lies from {wish.begin} to {wish.end}", remedy="the later time goes to --to"
        )
    return begin, end


def moment(text: str, time_zone: str) -> datetime:
    """Return a time in UTC; without a zone it is what the clock of `time_zone` shows."""
    try:
        read = datetime.fromisoformat(text)
        return first_instant(time_zone, read) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no time", remedy="write 2026-11-01 or 2026-11-01T02:30:00Z"
        ) from error


def runs_of(declaration: Declaration, wish: Wish, now: datetime) -> tuple[Run, ...]:
    """Return the Pending runs of a wish, oldest slot first, without spec and revision.

    Raises:
        UsageError, RefusedError: as `slots_of`.
    """
    source, name = declaration.key
    prefix = identity_prefix(backfill_id(source, name, wish))
    blank = Run(
        id="",
        source=source,
        workflow=name,
        trigger=Trigger.BACKFILL,
        identity="",
        priority=declaration.priority,
        created_at=now,
    )
    return tuple(
        replace(
            blank,
            id=run_id(source, name, identity),
            identity=identity,
            schedule=slot.identity,
            scheduled_time=slot.time,
            time_zone=slot.schedule.time_zone,
            params=dict(slot.schedule.params),
        )
        for slot in slots_of(declaration, wish)
        for identity in (f"{prefix}{slot.identity}:{slot.time.isoformat()}",)
    )
