"""Backfills: which runs a span of time makes, and how they give way to what is due."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import RefusedError, UsageError
from controller.model.changes import CreateRun
from controller.model.run import Phase, Trigger
from controller.model.source import Declaration
from controller.model.workflow import (
    ConcurrencyPolicy,
    OnInterrupt,
    Schedule,
    Workflow,
)
from controller.reconcile.backfill import MOST, Wish, backfill_id, backfill_of, runs_of, slots_of
from controller.reconcile.runs import interrupted_rerun
from controller.reconcile.schedule import slots
from tests.unit.test_reconcile_rules import HOURLY, KEY, MINUTE, NOON, SECOND, World

BERLIN = Schedule(name="berlin", cron="30 2 * * *", time_zone="Europe/Berlin")
EVERY_FIVE = Schedule(name="five", cron="*/5 * * * *", params={"p": "x"})


def declared(*schedules, **fields) -> Declaration:
    blank = Declaration(
        source="main", name="w", file="w.yaml", document=0, blob="b", spec_digest="d"
    )
    return replace(blank, schedules=schedules, **fields)


def wish(begin="2027-03-10T00:00:00Z", end="2027-03-10T05:00:00Z", **fields) -> Wish:
    return Wish(begin=begin, end=end, **{"key": "k", **fields})


def times(declaration, wanted):
    return [one.time for one in slots_of(declaration, wanted)]


def test_the_begin_is_in_and_the_end_is_out():
    found = times(declared(HOURLY), wish())
    assert [one.hour for one in found] == [0, 1, 2, 3, 4]


def test_a_date_is_midnight_where_the_schedule_is():
    dates = wish("2027-06-01", "2027-06-02")
    tokyo = Schedule(name="t", cron="0 0 * * *", time_zone="Asia/Tokyo")
    assert times(declared(tokyo), dates) == [datetime(2027, 5, 31, 15, tzinfo=UTC)]
    assert times(declared(replace(tokyo, time_zone="UTC")), dates) == [
        datetime(2027, 6, 1, tzinfo=UTC)
    ]


def test_the_schedules_rule_for_changes_of_the_clock_holds():
    found = times(declared(BERLIN), wish("2027-03-27", "2027-03-30"))
    assert [one.hour for one in found] == [1, 1, 0]
    assert [one.minute for one in found] == [30, 0, 30]  # 03:00 for the 02:30 that doesn't exist
    autumn = times(declared(BERLIN), wish("2027-10-31", "2027-11-01"))
    assert autumn == [datetime(2027, 10, 31, 0, 30, tzinfo=UTC)]


def test_all_schedules_are_filled_in_order_or_the_named_one():
    both = declared(HOURLY, EVERY_FIVE)
    found = slots_of(both, wish(end="2027-03-10T01:00:00Z"))
    assert len(found) == 13
    assert [one.time for one in found] == sorted(one.time for one in found)
    assert len(slots_of(both, wish(schedule="hourly"))) == 5
    assert len(slots_of(both, wish(schedule="0 * * * *"))) == 5


@pytest.mark.parametrize(
    ("declaration", "wanted", "words"),
    [
        (declared(), wish(), "no schedule"),
        (declared(HOURLY), wish(schedule="hourli"), "hourly"),
        (declared(HOURLY), wish(begin="soon"), "'soon' is no time"),
        (declared(HOURLY), wish(end="2027-03-10T00:00:00Z"), "no time lies"),
        (declared(HOURLY), wish(limit=MOST + 1), "not between"),
        (declared(HOURLY), wish(limit=0), "not between"),
    ],
)
def test_what_makes_no_sense_is_told_with_a_remedy(declaration, wanted, words):
    with pytest.raises(UsageError, match=words):
        slots_of(declaration, wanted)


def test_more_than_the_limit_is_refused_by_its_figure_and_a_century_is_not_enumerated():
    every_second = declared(Schedule(cron="* * * * * *"))
    with pytest.raises(RefusedError, match=r"more than 1000 slots .*--limit, at most 10000"):
        slots_of(every_second, wish("1990-01-01", "2090-01-01"))
    assert len(slots_of(declared(HOURLY), wish(limit=5))) == 5
    with pytest.raises(RefusedError, match="more than 4 slots"):
        slots_of(declared(HOURLY), wish(limit=4))


moments = st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given its zone by hypothesis
schedules = st.sampled_from(
    [
        BERLIN,
        HOURLY,
        EVERY_FIVE,
        Schedule(cron="15 */6 * * *", time_zone="Australia/Lord_Howe"),
        Schedule(cron="30 0 12 * * *", time_zone="America/New_York"),
    ]
)


@given(moments, st.timedeltas(SECOND, timedelta(days=3)), schedules, st.text(max_size=5))
def test_the_runs_are_those_of_the_slots_each_once_in_order_and_the_same_again(
    begin, length, schedule, key
):
    end = begin + length
    declaration = declared(schedule)
    wanted = wish(begin.isoformat(), end.isoformat(), key=key)
    runs = runs_of(declaration, wanted, NOON)
    expected = takewhile(lambda one: one < end, slots(schedule, begin - timedelta(seconds=2)))
    assert [run.scheduled_time for run in runs] == [one for one in expected if one >= begin]
    assert all(a.logical_time < b.logical_time for a, b in pairwise(runs))
    ids = [run.id for run in runs]
    assert len({*ids}) == len(ids)
    assert ids == [run.id for run in runs_of(declaration, wanted, NOON + MINUTE)]
    other = runs_of(declaration, replace(wanted, key=key + "x"), NOON)
    assert not {*ids} & {run.id for run in other}
    assert {backfill_of(run) for run in runs} <= {backfill_id("main", "w", wanted)}
    assert all(run.params == schedule.params for run in runs)


def filled(policy=ConcurrencyPolicy.FORBID, hours=3, **fields) -> World:
    """A world with a backfill of some hours, the first of which runs."""
    world = World(schedules=(HOURLY,), concurrency_policy=policy, **fields)
    world.turn()
    wanted = wish(end=f"2027-03-10T0{hours}:00:00Z")
    assert world.declaration is not None
    for run in runs_of(world.declaration, wanted, world.now):
        world.write(CreateRun(run=run))
    world.turn()
    return world


def active(world, *, running):
    runs = world.memory.active(KEY)
    return [run for run in runs if (run.instance is not None) is running]


@pytest.mark.parametrize("policy", list(ConcurrencyPolicy))
def test_a_backfill_goes_one_by_one_oldest_first_and_loses_nothing(policy):
    world = filled(policy)
    order = []
    while running := active(world, running=True):
        assert len(running) == 1
        order.append(running[0].scheduled_time.hour)
        world.finish(running[0].id)
        world.turn(SECOND)
    assert order == [0, 1, 2]
    assert {phase for phase, _ in world.ends.values()} <= {Phase.SUCCEEDED}


@pytest.mark.parametrize(
    "policy", [ConcurrencyPolicy.FORBID, ConcurrencyPolicy.QUEUE, ConcurrencyPolicy.REPLACE]
)
def test_a_due_slot_is_next_and_neither_forbidden_nor_the_end_of_a_backfills_run(policy):
    world = filled(policy, queue_timeout=None)
    decided = world.turn(60 * MINUTE)
    assert decided.cancels == ()
    (first,) = active(world, running=True)
    assert first.trigger is Trigger.BACKFILL
    world.finish(first.id)
    world.turn()
    (second,) = active(world, running=True)
    assert second.trigger is Trigger.SCHEDULE


def test_queue_timeout_suspending_and_changes_pass_a_backfill_by():
    world = filled(ConcurrencyPolicy.QUEUE, queue_timeout=MINUTE)
    world.turn(10 * MINUTE)
    world.edit(suspended=True)
    world.turn(MINUTE)
    assert len(active(world, running=False)) == 2
    assert world.ends == {}


def test_a_workflow_that_is_removed_takes_what_waits_along():
    world = filled()
    world.declaration = None
    world.look()
    assert [*world.ends.values()] == [(Phase.SKIPPED, "Retired")] * 2


def test_a_lost_run_that_runs_again_stays_in_its_backfill():
    run = runs_of(declared(HOURLY), wish(), NOON)[0]
    workflow = Workflow(name="w", on_interrupt=OnInterrupt.RERUN)
    again = interrupted_rerun(run, workflow, NOON)
    assert again is not None
    assert again.id != run.id
    assert backfill_of(again) == backfill_of(run)
