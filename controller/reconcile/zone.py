"""Wall time to instants: when a zone's clock changes, and what each change does to a wall time."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def wall_at(name: str, moment: datetime) -> datetime:
    """Return what the zone's clock shows at a moment, without a zone."""
    return moment.astimezone(zone(name)).replace(tzinfo=None, fold=0)


def offset_at(name: str, moment: datetime) -> timedelta:
    return moment.astimezone(zone(name)).utcoffset() or timedelta(0)


def first_instant(name: str, wall: datetime) -> datetime:
    """Return the first moment, in UTC, at which the zone's clock shows `wall` or later.

    Inside a gap that is the gap's end; in an overlap it is the first time.
    """
    moment = wall.replace(tzinfo=zone(name)).astimezone(UTC)
    if wall_at(name, moment) == wall:
        return moment
    return last_change(name, moment) or moment


def first_change(name: str, after: datetime, until: datetime) -> datetime | None:
    """Return the first change of the zone's clock in `(after, until]`."""
    for year in range(after.year, until.year + 1):
        found = changes(name, year)
        position = bisect_right(found, after)
        if position < len(found):
            return found[position] if found[position] <= until else None
    return None


def last_change(name: str, until: datetime) -> datetime | None:
    """Return the newest change at `until` or in the year before it."""
    for year in (until.year, until.year - 1):
        found = changes(name, year)
        position = bisect_right(found, until)
        if position:
            return found[position - 1]
    return None


@lru_cache(maxsize=4096)
def changes(name: str, year: int) -> tuple[datetime, ...]:
    """Return the moments of one UTC year at which the zone's offset becomes another one.

    zoneinfo doesn't list them, so each day's ends are compared: a change that is undone within
    the day is not seen, and no zone has had one.
    """
    begin = datetime(year, 1, 1, tzinfo=UTC) - SECOND
    days = [begin + number * DAY for number in range(367)]
    found = [
        change_between(name, day, day + DAY)
        for day in days
        if offset_at(name, day) != offset_at(name, day + DAY)
    ]
    return tuple(moment for moment in found if moment.year == year)


def change_between(name: str, low: datetime, high: datetime) -> datetime:
    """Return the second at which the offset becomes that of `high`."""
    target = offset_at(name, high)
    while high - low > SECOND:
        middle = low + timedelta(seconds=(high - low) // SECOND // 2)
        if offset_at(name, middle) == target:
            high = middle
        else:
            low = middle
    return high
