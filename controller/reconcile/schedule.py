"""Cron text to slots: UTC instants, in order, with Debian cron's rule for daylight saving.

When the minute or hour field begins with `*`, a schedule follows real time: slots inside a gap
don't occur, slots in an overlap occur twice. Otherwise a slot inside a gap runs once at the first
instant after it, and one in an overlap runs the first time only.

cronsim walks the plain calendar; what a change of the clock does to it is decided here, because
its own walk over real time loses minutes where a clock changes by half an hour or at midnight.
"""

from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from controller.manifest import cron
from controller.model.source import Declaration
from controller.model.workflow import CatchUp, Schedule
from controller.reconcile.retry import fraction
from controller.reconcile.zone import SECOND, first_change, first_instant, offset_at, wall_at

if TYPE_CHECKING:
    from cronsim import CronSim


class Due(NamedTuple):
    """Slots to start, oldest first; the newest of all, when that came too late; and the newest."""

    start: tuple[datetime, ...]
    missed: datetime | None
    newest: datetime


DEFAULT_DEADLINE = timedelta(minutes=5)
PLENTY = 4  # so many times what is wanted are still read one by one
ANY_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - a day of the plain calendar has no zone


class Text(NamedTuple):
    """Cron text, read once for every schedule that is written alike."""

    calendar: "CronSim"  # copied, never moved
    seconds: tuple[int, ...]
    real_time: bool  # the minute or hour field begins with `*`


@lru_cache(maxsize=4096)
def read(text: str) -> Text:
    parsed = cron.parse(text)
    minute, hour, *_ = parsed.fields.split()
    real_time = minute.startswith("*") or hour.startswith("*")
    from cronsim import CronSim  # noqa: PLC0415 - only where there is a schedule

    return Text(CronSim(parsed.fields, ANY_DAY), parsed.seconds, real_time)


def slots(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the schedule's slots strictly after `after`, in UTC.

    It ends when cronsim sees no match for 50 years: nothing looks ahead without a bound.

    Raises:
        ValueError: cron text that `manifest` would have refused.
    """
    text, after = read(schedule.cron), after.astimezone(UTC)
    follow = real_time if text.real_time else fixed_time
    return follow(text, schedule.time_zone, after)


def real_time(text: Text, zone: str, after: datetime) -> Iterator[datetime]:
    """Each stretch of time between two changes of the clock has a calendar of its own."""
    begin: datetime | None = after
    wall = wall_at(zone, after)
    while begin is not None:
        offset, stretch, begin = offset_at(zone, begin), begin, None
        for match in matches(text, wall):
            slot = (match - offset).replace(tzinfo=UTC)
            begin = first_change(zone, stretch, slot)
            if begin is not None:
                wall = wall_at(zone, begin) - SECOND  # the change's own instant may match
                break
            yield slot


def fixed_time(text: Text, zone: str, after: datetime) -> Iterator[datetime]:
    last = after
    for match in matches(text, wall_at(zone, after)):
        slot = first_instant(zone, match)
        if slot > last:  # several inside a gap become one; a repeated wall time has had its turn
            last = slot
            yield slot


def matches(text: Text, wall: datetime) -> Iterator[datetime]:
    """Yield what matches strictly after `wall`, on a calendar without zone or changes."""
    if text.seconds == (0,):
        yield from from_wall(text.calendar, wall)
        return
    this_minute = wall.replace(second=0)  # may have seconds left
    for minute in from_wall(text.calendar, this_minute - SECOND):
        for second in text.seconds:
            if (match := minute.replace(second=second)) > wall:
                yield match


def from_wall(calendar: "CronSim", wall: datetime) -> Iterator[datetime]:
    walk = copy(calendar)
    walk.dt = wall.replace(microsecond=0)
    yield from walk


def next_slot(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first slot after `after`; None when there is none."""
    return remembered_slot(schedule.cron, schedule.time_zone, after)


@lru_cache(maxsize=32768)
def remembered_slot(text: str, time_zone: str, after: datetime) -> datetime | None:
    """Every look at a schedule at rest asks for the slot after the same answered one."""
    return next(slots(Schedule(cron=text, time_zone=time_zone), after), None)


def newest_due(schedule: Schedule, answered: datetime, now: datetime) -> datetime | None:
    """Return the newest slot in `(answered, now]`; None when there is none."""
    return next(iter(recent(schedule, answered, now, 1)), None)


def recent(
    schedule: Schedule, answered: datetime, now: datetime, most: int
) -> tuple[datetime, ...]:
    """Return the newest `most` slots in `(answered, now]`, oldest first.

    The past is searched, never enumerated: a year of seconds costs some fifty look-ups.
    """
    few = upto(schedule, answered, now, most * PLENTY)
    if len(few) < most * PLENTY:
        return few[-most:]
    low, high, step = answered, now, SECOND
    while now - step > answered:  # from now backwards, in growing steps
        if len(upto(schedule, now - step, now, most)) == most:
            low = now - step
            break
        high, step = now - step, step * 2
    few = upto(schedule, low, now, most * PLENTY)
    if len(few) < most * PLENTY:
        return few[-most:]
    return bisected(schedule, (low, high), now, most)


def bisected(
    schedule: Schedule, between: tuple[datetime, datetime], now: datetime, most: int
) -> tuple[datetime, ...]:
    """Find the newest `most` slots; at least so many follow the first moment, fewer the second."""
    low, high = between
    while high - low > SECOND:  # slots are whole seconds: one second holds one
        middle = low + (high - low) / 2
        if len(upto(schedule, middle, now, most)) == most:
            low = middle
        else:
            high = middle
    return upto(schedule, low, now, most + 1)[-most:]


def upto(schedule: Schedule, after: datetime, now: datetime, most: int) -> tuple[datetime, ...]:
    """Return the first slots in `(after, now]`, at most so many."""
    coming = takewhile(lambda slot: slot <= now, slots(schedule, after))
    return tuple(islice(coming, most))


def due(declaration: Declaration, schedule: Schedule, answered: datetime, now: datetime) -> Due:
    """Return what becomes of the slots in `(answered, now]`; there must be one.

    Lateness counts from slot + jitter. With `catchUp: All` the newest `maxCatchUp` start, else
    the newest one alone.
    """
    in_time = in_time_for(declaration, schedule, answered, now)
    (newest,) = recent(schedule, answered, now, 1)
    missed = None if in_time else newest
    return Due(in_time if declaration.catch_up is CatchUp.ALL else in_time[-1:], missed, newest)


def in_time_for(
    declaration: Declaration, schedule: Schedule, answered: datetime, now: datetime
) -> tuple[datetime, ...]:
    deadline = deadline_of(declaration)
    if deadline is None:
        most = declaration.max_catch_up if declaration.catch_up is CatchUp.ALL else 1
        return recent(schedule, answered, now, most)
    earliest = now - deadline
    begin = max(answered, earliest - schedule.jitter - SECOND)
    found = recent(schedule, begin, now, declaration.max_catch_up)
    return tuple(slot for slot in found if judged(declaration, schedule, slot) >= earliest)


def deadline_of(declaration: Declaration) -> timedelta | None:
    """How late a slot may start; by default 5 minutes with catchUp None, else for ever."""
    if declaration.starting_deadline is not None:
        return declaration.starting_deadline
    return DEFAULT_DEADLINE if declaration.catch_up is CatchUp.NONE else None


def judged(declaration: Declaration, schedule: Schedule, slot: datetime) -> datetime:
    """When a slot starts, and when lateness and concurrency are judged: slot + jitter."""
    return slot + jitter(declaration.source, declaration.name, schedule, slot)


def jitter(source: str, workflow: str, schedule: Schedule, slot: datetime) -> timedelta:
    """Return the slot's delay below `schedule.jitter`, always the same for the same slot."""
    if not schedule.jitter:
        return timedelta(0)
    share = fraction(source, workflow, schedule.identity, slot.isoformat())
    return timedelta(seconds=round(schedule.jitter.total_seconds() * share, 3))
