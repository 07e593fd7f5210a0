"""Slots against a second implementation: every minute of a year looked at by hand."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.manifest import cron
from controller.model.source import Declaration
from controller.model.workflow import CatchUp, Schedule
from controller.reconcile.schedule import due, jitter, newest_due, next_slot, slots

MINUTE = timedelta(minutes=1)
ZONES = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"),
    *("Asia/Kolkata", "UTC"),
)
ALL = (range(60), range(24), range(1, 32), range(1, 13), range(7))


def field(text: str, number: int) -> set[int]:
    """A cron field the slow way; names are not used here."""
    found = set()
    for part in text.split(","):
        body, _, step = part.partition("/")
        low, _, high = body.partition("-")
        if body == "*":
            values = list(ALL[number])
        elif high:
            values = list(range(int(low), int(high) + 1))
        elif step:
            values = list(range(int(low), ALL[number][-1] + 1))
        else:
            values = [int(low)]
        found |= {value % 7 if number == 4 else value for value in values[:: int(step or 1)]}
    return found


def wall_matches(text: str, wall: datetime) -> bool:
    minute, hour, day, month, weekday = text.split()
    if wall.minute not in field(minute, 0) or wall.hour not in field(hour, 1):
        return False
    if wall.month not in field(month, 3):
        return False
    by_day = wall.day in field(day, 2)
    by_weekday = (wall.weekday() + 1) % 7 in field(weekday, 4)
    if day.startswith("*") or weekday.startswith("*"):
        return by_day and by_weekday
    return by_day or by_weekday


def by_hand(text: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """Debian cron's rule, minute by minute through real time."""
    place = ZoneInfo(zone)
    minute, hour, *_ = text.split()
    real_time = minute.startswith("*") or hour.startswith("*")
    found: list[datetime] = []
    moment = begin
    while moment <= end:
        local = moment.astimezone(place)
        before = (moment - MINUTE).astimezone(place)
        jump = (local.replace(tzinfo=None) - before.replace(tzinfo=None)) - MINUTE
        matched = wall_matches(text, local.replace(tzinfo=None))
        if real_time:
            hit = matched
        else:
            repeated = local.fold == 1
            hit = matched and not repeated
            skipped = int(jump / MINUTE) if jump > timedelta(0) else 0
            inside = (before.replace(tzinfo=None) + MINUTE * (i + 1) for i in range(skipped))
            hit = hit or any(wall_matches(text, wall) for wall in inside)
        if hit:
            found.append(moment)
        moment += MINUTE
    return found


CHANGES = {  # a few days around a change of the clock
    "Europe/Berlin": [datetime(2027, 3, 27, tzinfo=UTC), datetime(2027, 10, 30, tzinfo=UTC)],
    "America/New_York": [datetime(2027, 3, 13, tzinfo=UTC), datetime(2027, 11, 6, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2027, 4, 3, tzinfo=UTC), datetime(2027, 10, 2, tzinfo=UTC)],
    "Africa/Cairo": [datetime(2027, 4, 29, tzinfo=UTC), datetime(2027, 10, 28, tzinfo=UTC)],
    "Asia/Kolkata": [datetime(2027, 1, 1, tzinfo=UTC)],
    "UTC": [datetime(2028, 2, 28, tzinfo=UTC)],
}
MINUTES = st.sampled_from(["*", "0", "30", "*/15", "5,35", "10-20/5", "59", "15"])
HOURS = st.sampled_from(["*", "0", "1", "2", "*/2", "1-3", "0,2,23", "3"])
DAYS = st.sampled_from(["*", "1", "13", "28-31", "*/2"])
WEEKDAYS = st.sampled_from(["*", "0", "7", "1-5", "5,6"])


@settings(max_examples=60, deadline=None)
@given(
    st.builds("{} {} {} * {}".format, MINUTES, HOURS, DAYS, WEEKDAYS),
    st.sampled_from(ZONES),
    st.integers(0, 1),
)
def test_slots_agree_with_a_walk_through_every_minute(text, zone, which):
    begin = CHANGES[zone][which % len(CHANGES[zone])]
    end = begin + timedelta(days=3)
    expected = [one for one in by_hand(text, zone, begin, end) if one > begin]
    schedule = Schedule(cron=text, time_zone=zone)
    found = []
    for slot in slots(schedule, begin):
        if slot > end:
            break
        found.append(slot)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2027-03-27T12:00Z",
            "2027-03-28T01:00Z",
            id="a-slot-in-the-gap-runs-at-its-end",
        ),
        pytest.param(
            "30 2 * * *",
            "Europe/Berlin",
            "2027-10-31T00:30Z",
            "2027-11-01T01:30Z",
            id="a-slot-in-the-overlap-runs-the-first-time-only",
        ),
        pytest.param(
            "0 0 * * 0", "UTC", "2027-03-10T00:00Z", "2027-03-14T00:00Z", id="weekday-0-is-sunday"
        ),
        pytest.param("0 0 * * 7", "UTC", "2027-03-10T00:00Z", "2027-03-14T00:00Z", id="so-is-7"),
        pytest.param(
            "30 4 1,15 * 5",
            "UTC",
            "2027-03-10T00:00Z",
            "2027-03-12T04:30Z",
            id="day-of-month-or-day-of-week",
        ),
        pytest.param(
            "0 0 29 2 *", "UTC", "2097-01-01T00:00Z", "2104-02-29T00:00Z", id="over-a-century"
        ),
        pytest.param(
            "0 0 30 12 *",
            "Pacific/Apia",
            "2011-12-01T00:00Z",
            "2011-12-30T10:00Z",
            id="a-day-that-never-was-runs-after-it",
        ),
        pytest.param(
            "15 0 12 * * *",
            "UTC",
            "2027-03-10T12:00Z",
            "2027-03-10T12:00:15Z",
            id="a-leading-seconds-field",
        ),
        pytest.param("@hourly", "UTC", "2027-03-10T12:00Z", "2027-03-10T13:00Z", id="a-macro"),
    ],
)
def test_the_next_slot(text, zone, after, expected):
    schedule = Schedule(cron=text, time_zone=zone)
    assert next_slot(schedule, datetime.fromisoformat(after)) == datetime.fromisoformat(expected)


def test_the_newest_slot_of_a_year_of_seconds_is_found_at_once():
    every_second = Schedule(cron="* * * * * *")
    now = datetime(2027, 3, 10, 12, tzinfo=UTC)
    assert newest_due(every_second, now - timedelta(days=366), now) == now


def test_a_backlog_is_bounded_and_in_order():
    now = datetime(2027, 3, 10, 12, tzinfo=UTC)
    declaration = Declaration(
        source="s",
        name="w",
        file="f",
        document=0,
        blob="b",
        spec_digest="d",
        catch_up=CatchUp.ALL,
        max_catch_up=100,
    )
    schedule = Schedule(cron="* * * * *")
    found = due(declaration, schedule, now - timedelta(days=400), now).start
    assert len(found) == 100
    assert list(found) == sorted(found)
    assert found[-1] == now


@given(st.integers(0, 10_000))
def test_jitter_is_below_its_bound_and_always_the_same(number):
    schedule = Schedule(cron="0 * * * *", jitter=timedelta(minutes=10))
    slot = datetime(2027, 1, 1, tzinfo=UTC) + timedelta(hours=number)
    first = jitter("s", "w", schedule, slot)
    assert timedelta(0) <= first <= timedelta(minutes=10)
    assert first == jitter("s", "w", schedule, slot)


def test_an_impossible_date_is_refused():
    with pytest.raises(ValueError, match="never"):
        cron.parse("0 0 31 2 *")


def test_slots_never_repeat_an_instant():
    schedule = Schedule(cron="*/10 * * * *", time_zone="Europe/Berlin")
    found = list(islice(slots(schedule, datetime(2027, 10, 30, 22, tzinfo=UTC)), 60))
    assert all(later > earlier for earlier, later in pairwise(found))
