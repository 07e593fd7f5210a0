"""Days that a schedule loses or repeats when clocks change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from controller.model.workflow import Schedule
from controller.reconcile.odd_days import odd_days
from controller.reconcile.schedule import slots

NOW = datetime(2027, 1, 1, tzinfo=UTC)
BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def told(cron, zone):
    found = odd_days(Schedule(cron=cron, time_zone=zone), NOW)
    return [f"{'lost' if one.lost else 'twice'} {one.day}" for one in found]


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("30 2 * * *", BERLIN),  # inside the gap: at its end; in the overlap: once
        ("30 2 * * *", NEW_YORK),
        ("0,30 2 * * *", BERLIN),
        ("*/30 2 * * *", "UTC"),
        ("*/30 2 * * *", "Asia/Kolkata"),
        ("0 * * * *", BERLIN),  # an hour is missing, and not the day
        ("*/30 2,4 * * *", BERLIN),
        ("*/30 2 * * MON", BERLIN),  # clocks change on Sundays
        ("* * * * * *", BERLIN),
        ("@daily", "Africa/Cairo"),
    ],
)
def test_a_schedule_that_runs_on_every_day_it_names_has_none(cron, zone):
    assert told(cron, zone) == []


@pytest.mark.parametrize(
    ("cron", "zone", "days"),
    [
        (
            "*/30 2 * * *",
            BERLIN,
            ["lost 2027-03-28", "twice 2027-10-31", "lost 2028-03-26", "twice 2028-10-29"],
        ),
        ("*/15 2 * * *", NEW_YORK, ["lost 2027-03-14", "lost 2028-03-12"]),
        ("*/15 1 * * *", NEW_YORK, ["twice 2027-11-07", "twice 2028-11-05"]),
        ("*/30 2 * 3 *", BERLIN, ["lost 2027-03-28", "lost 2028-03-26"]),
        ("*/30 0 * * *", "Africa/Cairo", ["lost 2027-04-30", "lost 2028-04-28"]),
        ("*/30 2 * * *", "Australia/Lord_Howe", []),  # half an hour: the other slot stays
    ],
)
def test_a_day_whose_slots_are_all_skipped_or_all_repeated_is_told(cron, zone, days):
    assert told(cron, zone) == days


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "UTC"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "*/30 2 * * *", "*/15 1 * * *"])
def test_the_slots_themselves_say_the_same(cron, zone):
    schedule = Schedule(cron=cron, time_zone=zone)
    count: dict[str, int] = {}
    for slot in slots(schedule, NOW):
        if slot.year > 2027:
            break
        day = str(slot.astimezone(ZoneInfo(zone)).date())
        count[day] = count.get(day, 0) + 1
    usual = count["2027-06-01"]
    twice = [f"twice {day}" for day, number in count.items() if number == 2 * usual]
    lost = ["lost 2027-03-14", "lost 2027-03-28"]
    lost = [one for one in lost if one.removeprefix("lost ") not in count]
    assert lost + twice == [one for one in told(cron, zone) if "2027" in one]
    assert len(count) + len(lost) == 365
