"""What a change of a manifest brings besides a run: other times, other rights."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from controller.cli.plan_text import code, escaped
from controller.model.source import Declaration
from controller.model.workflow import Schedule, Upstream, Webhook
from controller.reconcile.consequences import MOST, Grant, consequences

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
DAILY = Schedule(name="daily", cron="0 3 * * *")
PLAIN = Declaration(source="s", name="w", file="w.yaml", document=0, blob="b", spec_digest="d")


def scheduled(*schedules, **fields):
    return replace(PLAIN, schedules=schedules, **fields)


def times(before, after):
    return consequences(before, after, NOON).times


def test_what_stays_as_it_is_has_no_consequences():
    assert times(scheduled(DAILY), scheduled(DAILY, spec_digest="d2")) == ()


def test_a_moved_schedule_shows_its_next_five_slots_before_and_after():
    [moved] = times(scheduled(DAILY), scheduled(replace(DAILY, cron="0 */12 * * *")))
    assert moved.schedule == "daily"
    assert moved.before == tuple(NOON + timedelta(hours=15, days=n) for n in range(5))
    assert moved.after == tuple(NOON + timedelta(hours=12 * n) for n in range(1, 6))
    assert moved.runs_per_month == 30


def test_another_zone_is_another_time():
    [moved] = times(scheduled(DAILY), scheduled(replace(DAILY, time_zone="Asia/Kolkata")))
    assert moved.after[0] == datetime(2027, 3, 10, 21, 30, tzinfo=UTC)
    assert moved.runs_per_month == 0


def test_a_new_manifest_brings_its_schedules_and_a_removed_one_takes_them():
    [brought] = times(None, scheduled(DAILY))
    assert (brought.before, len(brought.after), brought.runs_per_month) == ((), 5, 30)
    [taken] = times(scheduled(DAILY), None)
    assert (len(taken.before), taken.after, taken.runs_per_month) == (5, (), -30)


def test_suspending_takes_every_slot_away():
    [rests] = times(scheduled(DAILY), scheduled(DAILY, suspended=True))
    assert (rests.after, rests.runs_per_month) == ((), -30)


def test_an_unnamed_schedule_that_is_edited_is_one_gone_and_one_new():
    found = times(scheduled(Schedule(cron="0 3 * * *")), scheduled(Schedule(cron="0 4 * * *")))
    assert sorted(one.runs_per_month for one in found) == [-30, 30]
    assert {one.schedule for one in found} == {"0 3 * * * UTC", "0 4 * * * UTC"}


def test_slots_of_every_second_are_counted_so_far_and_no_farther():
    [often] = times(None, scheduled(Schedule(cron="* * * * * *")))
    assert often.runs_per_month == MOST


def test_what_is_named_for_the_first_time_is_a_grant():
    after = replace(
        PLAIN,
        secrets=("key", "old"),
        agents=("fetcher",),
        alerts=("ops",),
        webhooks=(Webhook(receiver="door"),),
        upstreams=(Upstream(workflow="other"),),
        calls=("called",),
    )
    found = consequences(replace(PLAIN, secrets=("old",)), after, NOON).grants
    assert [*found] == [
        Grant(kind=kind, name=name)
        for kind, name in [
            ("Agent", "fetcher"),
            ("Alert", "ops"),
            ("Receiver", "door"),
            ("Secret", "key"),
            ("Upstream", "other"),
            ("Workflow", "called"),
        ]
    ]
    assert consequences(after, PLAIN, NOON).grants == (), "nothing new is named"


@given(st.text())
def test_nothing_ends_a_code_span_or_a_tables_cell(text):
    span = code(text)
    fence = span[: len(span) - len(span.lstrip("`"))]
    inside = span[len(fence) : -len(fence)]
    assert fence not in inside
    assert span.isprintable()
    assert "|" not in inside.replace("\\|", "")


@given(st.text())
def test_text_in_html_has_no_markup(text):
    assert not {*escaped(text)} & set("<>\"'`*_[]@|\\\n")
