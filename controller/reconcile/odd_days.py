"""Days that a schedule loses or repeats because the clock changes.

Only schedules that follow real time do: whose minute or hour begins with `*`, and all of whose
slots on some day lie in an hour that is skipped, or comes twice. The others run once on every day
they match (see `schedule`).
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from itertools import takewhile
from typing import NamedTuple

from controller.model.workflow import Schedule
from controller.reconcile.schedule import matches, read
from controller.reconcile.zone import DAY, SECOND, first_change, offset_at, wall_at

AHEAD = timedelta(days=2 * 365)


class OddDay(NamedTuple):
    """A day of the schedule's zone on which none of its slots occur, or all of them twice."""

    day: date
    lost: bool  # else repeated


def odd_days(schedule: Schedule, after: datetime) -> Iterator[OddDay]:
    """Yield the odd days of the two years after `after`, in order.

    Raises:
        ValueError: cron text that `manifest` would have refused.
    """
    if not read(schedule.cron).real_time:
        return
    until, change = after + AHEAD, first_change(schedule.time_zone, after, after + AHEAD)
    while change is not None:
        yield from odd_days_of(schedule, change)
        change = first_change(schedule.time_zone, change, until)


def odd_days_of(schedule: Schedule, change: datetime) -> Iterator[OddDay]:
    """Yield the days whose matches lie all in what one change of the clock skips or repeats."""
    new = wall_at(schedule.time_zone, change)
    old = new - shift(schedule.time_zone, change)
    low, high = min(old, new), max(old, new)
    day = low.replace(hour=0, minute=0, second=0)
    while day < high:
        if falls_within(schedule, day, low, high):
            yield OddDay(day.date(), lost=new > old)
        day += DAY


def shift(zone: str, change: datetime) -> timedelta:
    """Return how far the clock is moved on; below zero when it is set back."""
    return offset_at(zone, change) - offset_at(zone, change - SECOND)


def falls_within(schedule: Schedule, day: datetime, low: datetime, high: datetime) -> bool:
    """Tell whether the schedule matches on that day, and never outside `[low, high)`."""
    any_match = False
    for match in takewhile(lambda one: one < day + DAY, matches(read(schedule.cron), day - SECOND)):
        if not low <= match < high:
            return False
        any_match = True
    return any_match
