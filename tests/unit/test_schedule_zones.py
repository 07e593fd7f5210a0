"""Slots against an independent walk through the wall clock, where clocks do odd things."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.model.workflow import Schedule
from controller.reconcile.schedule import newest_due, next_slot, recent, slots, upto
from controller.reconcile.zone import changes, first_instant

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

CHANGES = [  # a zone and a day on which its clock changes, or doesn't
    ("Europe/Berlin", "2027-03-28"),
    ("Europe/Berlin", "2027-10-31"),
    ("America/New_York", "2027-03-14"),
    ("America/New_York", "2027-11-07"),
    ("Australia/Lord_Howe", "2027-04-04"),
    ("Australia/Lord_Howe", "2027-10-03"),
    ("Africa/Cairo", "2027-04-30"),
    ("Africa/Cairo", "2027-10-29"),
    ("Asia/Kolkata", "2027-06-01"),
    ("Pacific/Apia", "2011-12-30"),
]


class Wall:
    """Each minute of some days of real time, with what the zone's clock showed then."""

    def __init__(self, zone: str, day: str) -> None:
        middle = datetime.fromisoformat(day).replace(tzinfo=UTC)
        self.begin, self.end = middle - 2 * DAY, middle + 3 * DAY
        place = ZoneInfo(zone)
        count = int((self.end - self.begin) / MINUTE)
        self.moments = [self.begin + n * MINUTE for n in range(count + 1)]
        self.shown = [one.astimezone(place).replace(tzinfo=None, fold=0) for one in self.moments]

    def real_time(self, hit) -> list[datetime]:
        return [moment for moment, wall in zip(self.moments, self.shown, strict=True) if hit(wall)]

    def fixed_time(self, hit) -> list[datetime]:
        """Whatever minute the clock passes for the first time counts, also those it jumps over."""
        found, reached = [], self.shown[0]
        for moment, wall in zip(self.moments[1:], self.shown[1:], strict=True):
            passed = [reached + n * MINUTE for n in range(1, int((wall - reached) / MINUTE) + 1)]
            if any(map(hit, passed)):
                found.append(moment)
            reached = max(reached, wall)
        return found


WALLS = {change: Wall(*change) for change in CHANGES}
SIZES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


@st.composite
def a_field(draw, number):
    """A cron field and, by the way it was put together, the numbers it stands for."""
    low, high = SIZES[number]
    step = draw(st.integers(2, 7))
    first = draw(st.integers(low, high - 1))
    last = draw(st.integers(first + 1, high))
    return draw(
        st.sampled_from(
            [
                ("*", set(range(low, high + 1))),
                (f"*/{step}", set(range(low, high + 1, step))),
                (str(first), {first}),
                (f"{first},{last}", {first, last}),
                (f"{first}-{last}", set(range(first, last + 1))),
                (f"{first}-{last}/{step}", set(range(first, last + 1, step))),
            ]
        )
    )


NIGHT = st.sampled_from(
    [("0-3", set(range(4))), ("2", {2}), ("1", {1}), ("0", {0}), ("*", set(range(24)))]
)
ANY_MONTH = ("*", set(range(1, 13)))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(CHANGES),
    a_field(0),
    st.one_of(a_field(1), NIGHT, NIGHT),
    st.one_of(st.just(("*", set(range(1, 32)))), a_field(2)),
    st.one_of(st.just(("*", set(range(7)))), a_field(4)),
)
def test_slots_agree_with_a_walk_through_the_wall_clock(change, minute, hour, day, weekday):
    either = not day[0].startswith("*") and not weekday[0].startswith("*")

    def hit(wall: datetime) -> bool:
        by_day, by_weekday = wall.day in day[1], wall.isoweekday() % 7 in weekday[1]
        dated = by_day or by_weekday if either else by_day and by_weekday
        return dated and wall.minute in minute[1] and wall.hour in hour[1]

    wall = WALLS[change]
    real_time = minute[0].startswith("*") or hour[0].startswith("*")
    expected = wall.real_time(hit) if real_time else wall.fixed_time(hit)
    text = " ".join((minute[0], hour[0], day[0], ANY_MONTH[0], weekday[0]))
    schedule = Schedule(cron=text, time_zone=change[0])
    found = upto(schedule, wall.begin, wall.end, 100_000)
    assert list(found) == [one for one in expected if one > wall.begin], text
    for slot in found[:5]:
        assert next_slot(schedule, slot - timedelta(seconds=1)) == slot
        assert newest_due(schedule, wall.begin, slot) == slot


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        pytest.param(
            "* 2 * * *",
            "Australia/Lord_Howe",
            "2027-04-03T15:00Z",
            ["15:30", "15:31"],
            id="half-an-hour-back-loses-no-minute",
        ),
        pytest.param(
            "*/10 3 * * *",
            "Australia/Lord_Howe",
            "2027-10-02T15:30Z",
            ["16:00", "16:10"],
            id="half-an-hour-ahead-loses-no-minute",
        ),
        pytest.param(
            "*/30 0-1 * * 5",
            "Africa/Cairo",
            "2027-04-29T20:00Z",
            ["22:00", "22:30"],
            id="a-gap-at-midnight-has-no-midnight",
        ),
        pytest.param(
            "*/20 * 30 12 *",
            "Pacific/Apia",
            "2011-12-29T00:00Z",
            ["10:00", "10:20"],
            id="a-day-that-never-was-has-no-slots-in-real-time",
        ),
        pytest.param(
            "0 2-4 * * *",
            "Europe/Berlin",
            "2027-03-27T12:00Z",
            ["01:00", "02:00"],
            id="a-slot-of-the-gap-and-the-one-at-its-end-are-one",
        ),
        pytest.param(
            "10,20 2 * * *",
            "Europe/Berlin",
            "2027-03-27T12:00Z",
            ["01:00", "00:10"],
            id="several-in-the-gap-become-one",
        ),
        pytest.param(
            "30 * * * *",
            "Europe/Berlin",
            "2027-10-31T00:00Z",
            ["00:30", "01:30"],
            id="real-time-occurs-twice-in-the-overlap",
        ),
        pytest.param(
            "15,45 30 2 * * *",
            "Europe/Berlin",
            "2027-03-27T12:00Z",
            ["01:00", "00:30"],
            id="seconds-inside-the-gap-become-one",
        ),
        pytest.param(
            "15,45 * * * * *",
            "Europe/Berlin",
            "2027-03-28T00:59:20Z",
            ["00:59", "01:00"],
            id="seconds-follow-real-time",
        ),
        pytest.param(
            "0 0 * * *",
            "Europe/Berlin",
            "2027-03-27T12:00Z",
            ["23:00", "22:00"],
            id="the-day-after-the-change-is-not-lost",
        ),
    ],
)
def test_the_next_two_slots(cron, zone, after, expected):
    found = islice(slots(Schedule(cron=cron, time_zone=zone), datetime.fromisoformat(after)), 2)
    assert [f"{slot:%H:%M}" for slot in found] == expected


def test_a_day_that_never_was_comes_back_in_the_next_year():
    every = Schedule(cron="*/20 * 30 12 *", time_zone="Pacific/Apia")
    assert next_slot(every, datetime(2011, 12, 29, tzinfo=UTC)) == datetime(
        2012, 12, 29, 10, tzinfo=UTC
    )


def test_a_date_that_comes_once_in_28_years_is_found():
    rare = Schedule(cron="0 0 29 2 */7", time_zone="Europe/Berlin")  # AND: both begin or one does
    found = next_slot(rare, datetime(2033, 1, 1, tzinfo=UTC))
    assert found is not None
    assert found.astimezone(ZoneInfo("Europe/Berlin")).strftime("%d %B %A") == "29 February Sunday"


def test_changes_of_a_zone_are_found_to_the_second():
    assert changes("Asia/Kolkata", 2027) == ()
    assert changes("Europe/Berlin", 2027) == (
        datetime(2027, 3, 28, 1, tzinfo=UTC),
        datetime(2027, 10, 31, 1, tzinfo=UTC),
    )


def test_a_wall_time_is_reached_at_its_first_moment():
    assert first_instant("Europe/Berlin", datetime.fromisoformat("2027-10-31T02:30")) == datetime(
        2027, 10, 31, 0, 30, tzinfo=UTC
    )
    assert first_instant("Europe/Berlin", datetime.fromisoformat("2027-03-28T02:30")) == datetime(
        2027, 3, 28, 1, tzinfo=UTC
    )


TEXTS = st.sampled_from(
    ["*/5 * * * *", "30 2 * * *", "0 0 1 1 *", "*/7 3-9 * * 1", "* * * * * *", "*/10 * * 3 * *"]
)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(0, 86_400 * 30), st.integers(0, 86_400), st.integers(1, 5))
def test_the_newest_slots_are_those_that_counting_finds(text, begin, span, most):
    schedule = Schedule(cron=text, time_zone="America/New_York")
    answered = datetime(2027, 2, 25, tzinfo=UTC) + timedelta(seconds=begin)
    now = answered + timedelta(seconds=span)
    everything = upto(schedule, answered, now, 1_000_000)
    assert recent(schedule, answered, now, most) == everything[-most:]


def test_slots_rise_through_a_whole_year_of_changes():
    for zone, _ in CHANGES:
        found = list(
            islice(
                slots(
                    Schedule(cron="7 */2 * * *", time_zone=zone), datetime(2027, 1, 1, tzinfo=UTC)
                ),
                5000,
            )
        )
        assert all(later > earlier for earlier, later in pairwise(found))
