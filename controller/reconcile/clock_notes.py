"""What a change of the clock does to one slot, in words."""

from datetime import datetime, timedelta
from itertools import takewhile

from controller.model.workflow import Schedule
from controller.reconcile.odd_days import shift
from controller.reconcile.schedule import matches, read
from controller.reconcile.zone import SECOND, first_change, wall_at, zone


def note(schedule: Schedule, slot: datetime) -> str:
    """Return what is odd about a slot (UTC) because the clock changes; "" when nothing is."""
    return moved(schedule, slot) or doubled(schedule, slot)


def moved(schedule: Schedule, slot: datetime) -> str:
    """A slot that stands for wall times inside a gap, at its end."""
    text, name = read(schedule.cron), schedule.time_zone
    if text.real_time or first_change(name, slot - SECOND, slot) is None:
        return ""
    gap = shift(name, slot)
    end = wall_at(name, slot)
    if gap <= timedelta(0):
        return ""
    missing = takewhile(lambda one: one < end, matches(text, end - gap - SECOND))
    first = next(missing, None)
    if first is None:
        return ""
    return f"{clock(first)} doesn't exist on {first:%Y-%m-%d} in {name}: runs at {clock(end)}"


def doubled(schedule: Schedule, slot: datetime) -> str:
    """A slot whose wall time occurs twice."""
    name = schedule.time_zone
    local = slot.astimezone(zone(name))
    if local.replace(fold=0).utcoffset() == local.replace(fold=1).utcoffset():
        return ""
    twice = f"{clock(local)} occurs twice on {local:%Y-%m-%d} in {name}"
    if not read(schedule.cron).real_time:
        return f"{twice}: runs the first time only"
    return f"{twice}: this is the {'second' if local.fold else 'first'}"


def clock(wall: datetime) -> str:
    return f"{wall:%H:%M:%S}" if wall.second else f"{wall:%H:%M}"
