"""Cron text to slots: UTC instants, in order, with Debian cron's rule for daylight saving.

When the minute or hour field begins with `*`, a schedule follows real time: slots inside a gap
don't occur, slots in an overlap occur twice. Otherwise a slot inside a gap runs once at the first
instant after it, and one in an overlap runs the first time only.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim

from controller.manifest import cron
from controller.model.source import Declaration
from controller.model.workflow import CatchUp, Schedule
from controller.reconcile.retry import fraction


class Due(NamedTuple):
    """Slots to start, oldest first; and the newest one that came too late, when none starts."""

    start: tuple[datetime, ...]
    missed: datetime | None


MINUTE = timedelta(minutes=1)
DEFAULT_DEADLINE = timedelta(minutes=5)
LOOK_BACKS = (timedelta(hours=1), timedelta(days=1), timedelta(days=35), timedelta(days=400))


@lru_cache(maxsize=4096)
def read(text: str) -> cron.CronText:
    return cron.parse(text)


@lru_cache(maxsize=512)
def zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def slots(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Yield the schedule's slots strictly after `after`, in UTC; ends when none follows in years.

    Raises:
        ValueError: cron text that `manifest` would have refused.
    """
    text = read(schedule.cron)
    if text.seconds == (0,):
        return minutes(text.fields, schedule.time_zone, after)
    return with_seconds(text, schedule.time_zone, after)


def minutes(fields: str, time_zone: str, after: datetime) -> Iterator[datetime]:
    """Yield whole-minute slots. cronsim follows the rule above and gives up after 50 years."""
    last = after
    for local in CronSim(fields, after.astimezone(zone(time_zone))):
        slot = local.astimezone(UTC)
        if slot > last:  # an overlap may repeat a wall time, never an instant
            last = slot
            yield slot


def with_seconds(text: cron.CronText, time_zone: str, after: datetime) -> Iterator[datetime]:
    begin = after - MINUTE  # the minute that `after` is in may have seconds left
    for minute in minutes(text.fields, time_zone, begin):
        for second in text.seconds:
            slot = minute + timedelta(seconds=second)
            if slot > after:
                yield slot


def next_slot(schedule: Schedule, after: datetime) -> datetime | None:
    """Return the first slot after `after`; None when there is none."""
    return next(slots(schedule, after), None)


def newest_due(schedule: Schedule, answered: datetime, now: datetime) -> datetime | None:
    """Return the newest slot in `(answered, now]`; None when there is none.

    It looks back in growing steps, so that a year of minutes is never enumerated.
    """
    for span in (*LOOK_BACKS, now - answered):
        begin = max(answered, now - span)
        newest = None
        for slot in slots(schedule, begin):
            if slot > now:
                break
            newest = slot
        if newest is not None or begin == answered:
            return newest
    return None


def due(declaration: Declaration, schedule: Schedule, answered: datetime, now: datetime) -> Due:
    """Return the slots in `(answered, now]` that start now, and the newest that came too late."""
    earliest = max(answered, now - deadline) if (deadline := deadline_of(declaration)) else answered
    newest = newest_due(schedule, answered, now)
    if newest is None:
        return Due((), None)
    if deadline is not None and judged(declaration, schedule, newest) < now - deadline:
        return Due((), newest)
    if declaration.catch_up is CatchUp.ALL:
        start = earliest - schedule.jitter if deadline else answered
        return Due(backlog(schedule, max(start, answered), now, declaration.max_catch_up), None)
    return Due((newest,), None)


def backlog(
    schedule: Schedule, answered: datetime, now: datetime, most: int
) -> tuple[datetime, ...]:
    """Return the newest `most` slots in `(answered, now]`, oldest first, however many there are."""
    found: tuple[datetime, ...] = ()
    for span in (*LOOK_BACKS, now - answered):
        begin = max(answered, now - span)
        found = tuple(upto(schedule, begin, now))[-most:]
        if len(found) >= most or begin == answered:
            break
    return found


def upto(schedule: Schedule, after: datetime, now: datetime) -> Iterator[datetime]:
    for slot in slots(schedule, after):
        if slot > now:
            return
        yield slot


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
