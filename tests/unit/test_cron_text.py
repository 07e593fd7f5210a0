from datetime import UTC, datetime

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from controller.manifest import cron


@pytest.mark.parametrize(
    ("text", "fields", "seconds"),
    [
        ("30 2 * * *", "30 2 * * *", (0,)),
        ("@daily", "0 0 * * *", (0,)),
        ("@Hourly", "0 * * * *", (0,)),
        ("0 0 1 * ?", "0 0 1 * *", (0,)),
        ("0 0 * * mon-fri", "0 0 * * MON-FRI", (0,)),
        ("0 0 * jan,jul *", "0 0 * JAN,JUL *", (0,)),
        ("*/20 * * * * *", "* * * * *", (0, 20, 40)),
        ("5,10-12 0 0 1 1 *", "0 0 1 1 *", (5, 10, 11, 12)),
        ("0 0 * * fri-sun", "0 0 * * FRI-7", (0,)),
        ("0 0 29 2 *", "0 0 29 2 *", (0,)),
    ],
)
def test_cron_text_is_normalised(text, fields, seconds):
    assert cron.parse(text) == cron.CronText(fields, seconds)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("0 0 L * *", "28"),
        ("0 0 * * 5L", "`L`"),
        ("0 0 15W * *", "`W`"),
        ("0 0 * * 5#2", "1-7"),
        ("@reboot", "onChange"),
        ("@every 1h", "*/15"),
        ("@nightly", "@daily"),
        ("TZ=UTC 0 0 * * *", "timeZone"),
        ("CRON_TZ=UTC 0 0 * * *", "timeZone"),
        ("0 22-2 * * *", "22-23,0-2"),
        ("0 0 * * sat-mon", "wrap"),
        ("0 0 31 2 *", "never"),
        ("0 0 31 4,6,9,11 *", "never"),
        ("0 0 30 2 */2", "never"),
        ("60 * * * *", "0-59"),
        ("* 24 * * *", "0-23"),
        ("*/0 * * * *", "step"),
        ("1,,2 * * * *", "0-59"),
        ("* * * *", "five"),
        ("* * * * * * *", "five"),
        ("٣ * * * *", "ASCII"),
        ("mon * * * *", "0-59"),
        ("60 0 0 * * *", "0-59"),
        ("", "five"),
    ],
)
def test_what_is_not_portable_or_never_fires_is_refused_with_a_remedy(text, word):
    with pytest.raises(cron.CronError) as caught:
        cron.parse(text)
    assert caught.value.remedy
    assert word in str(caught.value)


@pytest.mark.parametrize("day", ["0", "7", "sun", "SUN"])
def test_zero_and_seven_are_sunday(day):
    fields = cron.parse(f"0 0 * * {day}").fields
    assert next(CronSim(fields, datetime(2026, 1, 1, tzinfo=UTC))).strftime("%A") == "Sunday"


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused(text):
    try:
        fields = cron.parse(text).fields
    except cron.CronError:
        return
    assert next(CronSim(fields, datetime(2000, 1, 1, tzinfo=UTC)))


NUMBERS = st.integers(0, 59)


@given(NUMBERS, st.integers(0, 23), st.integers(1, 28), st.integers(1, 12), st.integers(0, 7))
def test_every_plain_schedule_is_taken(minute, hour, day, month, weekday):
    assert cron.parse(f"{minute} {hour} {day} {month} {weekday}").seconds == (0,)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("0 0 * * 0-0", "0 0 * * 0"),
        ("0 0 * * sun-sun", "0 0 * * SUN"),
        ("0-0/2 * * * *", "0 * * * *"),
        ("0 0 * * fri-sun", "0 0 * * FRI-7"),
        ("0 0 * * 5-0", "0 0 * * 5-7"),
    ],
)
def test_a_range_of_one_is_that_one(text, fields):
    assert cron.parse(text).fields == fields
