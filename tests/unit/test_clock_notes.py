"""What a change of the clock does to a slot is said beside it."""

from datetime import UTC, datetime

import pytest

from controller.model.workflow import Schedule
from controller.reconcile.clock_notes import note

BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("cron", "zone", "slot", "words"),
    [
        (
            "30 2 * * *",
            BERLIN,
            datetime(2027, 3, 28, 1, tzinfo=UTC),
            "02:30 doesn't exist on 2027-03-28 in Europe/Berlin: runs at 03:00",
        ),
        (
            "15,45 30 2 * * *",
            BERLIN,
            datetime(2027, 3, 28, 1, tzinfo=UTC),
            "02:30:15 doesn't exist on 2027-03-28 in Europe/Berlin: runs at 03:00",
        ),
        (
            "30 2 * * *",
            BERLIN,
            datetime(2027, 10, 31, 0, 30, tzinfo=UTC),
            "02:30 occurs twice on 2027-10-31 in Europe/Berlin: runs the first time only",
        ),
        (
            "30 * * * *",
            BERLIN,
            datetime(2027, 10, 31, 0, 30, tzinfo=UTC),
            "02:30 occurs twice on 2027-10-31 in Europe/Berlin: this is the first",
        ),
        (
            "30 * * * *",
            BERLIN,
            datetime(2027, 10, 31, 1, 30, tzinfo=UTC),
            "02:30 occurs twice on 2027-10-31 in Europe/Berlin: this is the second",
        ),
        ("0 3 * * *", BERLIN, datetime(2027, 3, 28, 1, tzinfo=UTC), ""),
        ("0 * * * *", BERLIN, datetime(2027, 3, 28, 1, tzinfo=UTC), ""),
        ("30 2 * * *", BERLIN, datetime(2027, 3, 29, 0, 30, tzinfo=UTC), ""),
        ("30 2 * * *", "UTC", datetime(2027, 3, 28, 2, 30, tzinfo=UTC), ""),
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            datetime(2027, 10, 2, 15, 30, tzinfo=UTC),
            "02:15 doesn't exist on 2027-10-03 in Australia/Lord_Howe: runs at 02:30",
        ),
    ],
)
def test_a_slot_that_the_clock_moves_or_doubles_says_so(cron, zone, slot, words):
    assert note(Schedule(cron=cron, time_zone=zone), slot) == words
