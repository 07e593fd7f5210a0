"""Rules of the planner that show over several passes: each test is one story of one workflow."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.model.changes import (
    AnswerSchedule,
    ClaimRun,
    CreateRun,
    FinishRun,
    ForgetSchedule,
    PutSuspension,
    PutWorkflow,
    RequeueRun,
    StartRun,
)
from controller.model.condition import (
    MISSED,
    Health,
    Status,
    Suspension,
    Sync,
    WorkflowStatus,
    find,
)
from controller.model.run import Phase, Run, Trigger
from controller.model.source import Declaration, Fault
from controller.model.workflow import CatchUp, ConcurrencyPolicy, OnChange, Schedule
from controller.observations import Observations
from controller.reconcile.plan import Observed, Plan, plan
from controller.reconcile.runs import claimable
from controller.reconcile.schedule import judged

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=n) for n in (1, 60, 3600, 86400))
KEY = ("main", "w")
HOURLY = Schedule(name="hourly", cron="0 * * * *")
MINUTELY = Schedule(name="minutely", cron="* * * * *")


class World:
    """One workflow, its store's memory, and a dispatcher without limits: time moves by hand."""

    def __init__(self, *, schedules=(), **fields) -> None:
        self.declaration: Declaration | None = Declaration(
            source="main",
            name="w",
            file="w.yaml",
            document=0,
            blob="b1",
            spec_digest="d1",
            on_change=fields.pop("on_change", None),
            schedules=schedules,
            **fields,
        )
        self.now = NOON
        self.memory = Observations([], [])
        self.inputs: dict[str, str] = {}
        self.fault: Fault | None = None
        self.held = False
        self.rows: dict[str, Run] = {}  # every run ever created, as the store's unique key has it
        self.ends: dict[str, tuple[Phase, str]] = {}

    def edit(self, **fields) -> None:
        assert self.declaration is not None
        self.declaration = replace(self.declaration, **fields)

    def look(self) -> Plan:
        """Plan once and write it; a run that exists is not created again."""
        decided = plan(self.declaration, self.observed(), self.now)
        for change in decided.changes:
            self.write(change)
        return decided

    def status(self) -> WorkflowStatus:
        found = self.memory.status(KEY)
        assert found is not None
        return found

    def look_runs(self) -> list[Run]:
        self.look()
        return list(self.rows.values())

    def observed(self) -> Observed:
        return Observed(
            key=KEY,
            status=self.memory.status(KEY),
            active=self.memory.active(KEY),
            inputs=self.inputs,
            fault=self.fault,
            held=self.held,
        )

    def write(self, change) -> None:
        match change:
            case CreateRun(run=run):
                if run.id in self.rows:
                    return
                self.rows[run.id] = run
                if run.phase.terminal:
                    self.ends[run.id] = (run.phase, run.reason)
            case FinishRun(run=run_id, phase=phase, reason=reason):
                self.ends[run_id] = (phase, reason)
        self.memory.apply(change)

    def claim(self) -> list[Run]:
        """Start what may start."""
        active = self.memory.active(KEY)
        waiting = [run for run in active if run.instance is None]
        running = [run for run in active if run.instance is not None]
        policy = (
            self.declaration.concurrency_policy if self.declaration else ConcurrencyPolicy.FORBID
        )
        choice = claimable(waiting, running, max_runs=100, now=self.now, policy=lambda _: policy)
        for run in choice.start:
            self.write(ClaimRun(run=run.id, instance="i", at=self.now))
            self.write(StartRun(run=run.id, at=self.now, executor="local"))
        return list(choice.start)

    def finish(self, run_id: str, phase: Phase = Phase.SUCCEEDED) -> None:
        self.write(FinishRun(run=run_id, phase=phase, at=self.now))

    def turn(self, span: timedelta = timedelta(0)) -> Plan:
        """Let time pass, look, start what may start."""
        self.now += span
        decided = self.look()
        self.claim()
        return decided

    def running(self) -> list[str]:
        return [run.identity for run in self.memory.active(KEY) if run.instance is not None]

    def waiting(self) -> list[str]:
        return [run.identity for run in self.memory.active(KEY) if run.instance is None]

    def ended(self) -> list[str]:
        return [
            f"{self.rows[key].identity} {reason or phase}"
            for key, (phase, reason) in self.ends.items()
        ]

    def run_id(self, identity: str) -> str:
        return next(run.id for run in self.rows.values() if run.identity == identity)


def slot(name: str, moment: datetime) -> str:
    return f"slot:{name}:{moment.isoformat()}"


# Changes.


@pytest.mark.parametrize("trigger", [OnChange(), OnChange(inputs=False), OnChange(spec=False)])
def test_a_first_sighting_is_a_change_of_both(trigger):
    world = World(on_change=trigger)
    world.turn()
    assert world.running() == ["change:1"]


def test_a_trigger_reacts_to_its_own_kind_only_and_the_number_rises_anyway():
    world = World(on_change=OnChange(spec=False))
    world.turn()
    world.finish(world.run_id("change:1"))
    world.edit(spec_digest="d2")
    world.turn()
    assert world.running() == []
    world.inputs = {"src": "sha256:1"}
    world.turn()
    assert world.running() == ["change:3"]


def test_of_the_changes_seen_while_suspended_the_newest_runs_once():
    world = World(on_change=OnChange())
    world.turn()
    world.finish(world.run_id("change:1"))
    world.edit(suspended=True, spec_digest="d2")
    world.turn()
    world.edit(spec_digest="d3")
    world.turn()
    assert world.running() == []
    world.edit(suspended=False)
    world.turn()
    assert world.running() == ["change:3"]
    world.finish(world.run_id("change:3"))
    world.turn()
    assert world.waiting() == world.running() == []


def test_an_unwanted_change_while_suspended_runs_nothing_on_resuming():
    world = World(on_change=OnChange(spec=False))
    world.turn()
    world.finish(world.run_id("change:1"))
    world.edit(suspended=True, spec_digest="d2")
    world.turn()
    world.edit(suspended=False)
    world.turn()
    assert len(world.rows) == 1


def test_a_newer_change_supersedes_all_that_wait_and_starts_when_the_active_one_ends():
    world = World(on_change=OnChange())
    world.turn()
    for digest in ("d2", "d3", "d4"):
        world.edit(spec_digest=digest)
        world.turn()
    assert world.running() == ["change:1"]
    assert world.waiting() == ["change:4"]
    assert world.ended() == ["change:2 Superseded", "change:3 Superseded"]
    world.finish(world.run_id("change:1"))
    world.turn()
    assert world.running() == ["change:4"]


def test_a_rerun_of_a_lost_run_is_not_superseded():
    world = World(on_change=OnChange())
    world.turn()
    lost = world.rows[world.run_id("change:1")]
    world.write(CreateRun(run=replace(lost, id="w-again", identity="again", rerun_of=lost.id)))
    world.edit(spec_digest="d2")
    world.turn()
    assert world.waiting() == ["again", "change:2"]


def test_cancel_in_progress_is_asked_for_until_the_older_run_has_ended():
    world = World(on_change=OnChange(cancel_in_progress=True))
    world.turn()
    first = world.run_id("change:1")
    world.edit(spec_digest="d2")
    assert world.turn().cancels == ((first, "Replaced"),)
    assert world.turn().cancels == ((first, "Replaced"),)
    world.finish(first, Phase.CANCELLED)
    assert world.turn().cancels == ()
    assert world.running() == ["change:2"]
    assert world.turn().cancels == ()


# Slots.


def test_every_slot_runs_once_also_when_looked_at_often():
    world = World(schedules=(MINUTELY,))
    for _ in range(20):
        world.turn(20 * SECOND)
        for run in world.memory.active(KEY):
            world.finish(run.id)
    slots = [run.scheduled_time for run in world.rows.values()]
    assert slots == [NOON + n * MINUTE for n in range(1, 7)]


def test_a_clock_set_back_repeats_no_slot_and_goes_on_where_it_was():
    world = World(schedules=(MINUTELY,))
    for step in (timedelta(0), MINUTE, MINUTE, -2 * MINUTE, MINUTE, MINUTE, MINUTE):
        decided = world.turn(step)
        for run in world.memory.active(KEY):
            world.finish(run.id)
    assert [run.scheduled_time for run in world.rows.values()] == [
        NOON + n * MINUTE for n in (1, 2, 3)
    ]
    assert decided.wake_at == NOON + 4 * MINUTE


def test_a_clock_that_was_years_ahead_does_not_silence_a_schedule():
    world = World(schedules=(HOURLY,))
    world.turn()
    world.turn(3653 * DAY)
    world.turn(-3653 * DAY)
    world.memory.active(KEY)
    world.turn(HOUR)
    assert slot("hourly", NOON + HOUR) in [run.identity for run in world.rows.values()]


def test_a_clock_set_ahead_starts_one_slot_and_not_a_year_of_them():
    world = World(schedules=(replace(MINUTELY, cron="* * * * * *"),))
    world.turn()
    world.turn(366 * DAY)
    assert [run.scheduled_time for run in world.rows.values()] == [NOON + 366 * DAY]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, ["DeadlineExceeded"], id="none-misses-it"),
        pytest.param({"starting_deadline": HOUR}, [""], id="a-longer-deadline-starts-it"),
        pytest.param({"catch_up": CatchUp.LATEST}, [""], id="latest-starts-it"),
        pytest.param(
            {"catch_up": CatchUp.LATEST, "starting_deadline": MINUTE},
            ["DeadlineExceeded"],
            id="latest-within-its-deadline",
        ),
        pytest.param(
            {"catch_up": CatchUp.ALL, "max_catch_up": 3},
            ["", "", ""],
            id="all-starts-the-newest-three",
        ),
        pytest.param(
            {"catch_up": CatchUp.ALL, "starting_deadline": 2 * HOUR},
            ["", ""],
            id="all-within-its-deadline",
        ),
    ],
)
def test_off_for_a_year_and_ten_minutes(fields, expected):
    world = World(schedules=(HOURLY,), **fields)
    world.look()
    world.now += 366 * DAY + 10 * MINUTE
    world.look()
    assert [run.reason for run in world.rows.values()] == expected
    assert max(run.scheduled_time or NOON for run in world.rows.values()) == NOON + 366 * DAY


def test_slots_caught_up_together_wait_in_turn_under_forbid():
    world = World(schedules=(HOURLY,), catch_up=CatchUp.ALL)
    world.turn()
    world.turn(3 * HOUR)
    assert world.running() == [slot("hourly", NOON + HOUR)]
    assert world.waiting() == [slot("hourly", NOON + n * HOUR) for n in (2, 3)]
    assert world.ended() == []


def test_lateness_counts_from_slot_plus_jitter():
    jittered = replace(HOURLY, jitter=30 * MINUTE)
    world = World(schedules=(jittered,))
    world.look()
    assert world.declaration is not None
    start = judged(world.declaration, jittered, NOON + HOUR)
    world.now = start + 4 * MINUTE
    world.look()
    assert [run.reason for run in world.rows.values()] == [""]


def test_a_named_schedule_stays_itself_an_unnamed_one_counts_anew_when_edited():
    world = World(schedules=(Schedule(cron="0 * * * *"),))
    world.turn()
    world.edit(schedules=(Schedule(cron="30 11 * * *"),))
    decided = world.turn(MINUTE)
    kinds = [type(change) for change in decided.changes]
    assert kinds == [ForgetSchedule, AnswerSchedule]
    assert world.rows == {}


def test_resuming_replays_no_slot_also_when_the_daemon_was_off():
    world = World(schedules=(HOURLY,), catch_up=CatchUp.ALL)
    world.turn()
    world.edit(suspended=True)
    world.turn()
    world.edit(suspended=False)
    world.turn(5 * HOUR)
    assert world.rows == {}
    world.turn(HOUR)
    assert world.running() == [slot("hourly", NOON + 6 * HOUR)]


def test_a_slot_that_waits_when_its_workflow_is_suspended_never_starts():
    world = World(schedules=(replace(HOURLY, jitter=10 * MINUTE),))
    world.turn()
    world.turn(HOUR)
    assert world.waiting()
    world.edit(suspended=True)
    world.turn()
    assert world.ended() == [slot("hourly", NOON + HOUR) + " Suspended"]


# Concurrency.


def test_under_forbid_a_slot_beside_an_active_run_is_skipped_at_once():
    world = World(schedules=(MINUTELY,))
    world.turn()
    world.turn(MINUTE)
    world.turn(MINUTE)
    assert world.running() == [slot("minutely", NOON + MINUTE)]
    assert world.ended() == [slot("minutely", NOON + 2 * MINUTE) + " ConcurrencyForbidden"]


def test_under_forbid_two_schedules_due_at_once_start_one_run():
    world = World(schedules=(HOURLY, MINUTELY))
    world.turn()
    world.turn(HOUR)
    assert world.running() == [slot("hourly", NOON + HOUR)]
    assert world.ended() == [slot("minutely", NOON + HOUR) + " ConcurrencyForbidden"]


def test_under_queue_every_slot_waits_its_turn():
    world = World(schedules=(MINUTELY,), concurrency_policy=ConcurrencyPolicy.QUEUE)
    world.turn()
    for _ in range(3):
        world.turn(MINUTE)
    assert world.running() == [slot("minutely", NOON + MINUTE)]
    assert world.waiting() == [slot("minutely", NOON + n * MINUTE) for n in (2, 3)]


def test_under_allow_every_slot_starts():
    world = World(schedules=(MINUTELY,), concurrency_policy=ConcurrencyPolicy.ALLOW)
    world.turn()
    for _ in range(3):
        world.turn(MINUTE)
    assert len(world.running()) == 3


def test_under_replace_the_newest_slot_waits_for_the_end_of_what_it_cancels():
    world = World(schedules=(MINUTELY,), concurrency_policy=ConcurrencyPolicy.REPLACE)
    world.turn()
    world.turn(MINUTE)
    first = world.run_id(slot("minutely", NOON + MINUTE))
    assert world.turn(MINUTE).cancels == ((first, "Replaced"),)
    assert world.turn(MINUTE).cancels == ((first, "Replaced"),)
    assert world.ended() == [slot("minutely", NOON + 2 * MINUTE) + " Superseded"]
    world.finish(first, Phase.CANCELLED)
    world.turn()
    assert world.running() == [slot("minutely", NOON + 3 * MINUTE)]


def test_under_replace_a_jittered_slot_cancels_at_its_own_moment():
    world = World(
        schedules=(replace(HOURLY, jitter=10 * MINUTE),),
        concurrency_policy=ConcurrencyPolicy.REPLACE,
        on_change=OnChange(),
    )
    world.turn()
    decided = world.turn(HOUR)
    assert decided.cancels == ()
    assert decided.wake_at is not None
    world.now = decided.wake_at
    assert world.turn().cancels == ((world.run_id("change:1"), "Replaced"),)


def test_a_jittered_slot_wakes_the_planner_at_its_moment_and_is_judged_there():
    world = World(schedules=(replace(HOURLY, jitter=10 * MINUTE),), on_change=OnChange())
    world.turn()
    decided = world.turn(HOUR)
    assert world.waiting() == [slot("hourly", NOON + HOUR)]
    assert decided.wake_at is not None
    world.now = decided.wake_at
    world.turn()
    assert world.ended() == [slot("hourly", NOON + HOUR) + " ConcurrencyForbidden"]


def test_a_run_that_came_after_a_slots_moment_does_not_forbid_it():
    world = World(schedules=(replace(HOURLY, jitter=10 * MINUTE),), on_change=OnChange())
    world.turn()
    world.finish(world.run_id("change:1"))
    world.now += HOUR
    decided = world.look()
    assert decided.wake_at is not None
    world.now = decided.wake_at + SECOND  # the limit of all runs kept it waiting
    world.edit(spec_digest="d2")
    world.look()
    assert world.waiting() == [slot("hourly", NOON + HOUR), "change:2"]


def test_a_run_that_was_put_back_holds_its_place():
    world = World(schedules=(MINUTELY,))
    world.turn()
    world.turn(MINUTE)
    first = world.run_id(slot("minutely", NOON + MINUTE))
    later = world.now + 5 * MINUTE
    world.write(RequeueRun(run=first, reason="SourceUnavailable", at=world.now, not_before=later))
    world.look()
    assert world.waiting() == [slot("minutely", NOON + MINUTE)]
    world.turn(MINUTE)
    assert world.ended() == [slot("minutely", NOON + 2 * MINUTE) + " ConcurrencyForbidden"]


# Coming and going.


def test_retiring_ends_nothing_that_runs_and_coming_back_continues_the_numbers():
    world = World(on_change=OnChange(), schedules=(HOURLY,))
    world.turn()
    back = world.declaration
    world.edit(spec_digest="d2")
    world.turn()
    world.declaration = None
    world.turn()
    assert world.running() == ["change:1"]
    assert world.ended() == ["change:2 Retired"]
    status = world.memory.status(KEY)
    assert status is not None
    assert (status.retired, status.health, dict(status.answered)) == (True, Health.MISSING, {})
    assert world.look().changes == ()
    world.declaration = back
    world.turn()
    status = world.memory.status(KEY)
    assert status is not None
    assert (status.retired, status.generation, status.change) == (False, 3, 3)


def test_what_comes_to_wait_for_a_retired_workflow_is_skipped_too():
    world = World(on_change=OnChange())
    world.turn()
    lost = world.rows[world.run_id("change:1")]
    world.declaration = None
    world.turn()
    world.write(CreateRun(run=replace(lost, id="w-again", identity="again", rerun_of=lost.id)))
    world.look()
    assert "again Retired" in world.ended()


def test_a_name_that_is_not_known_to_be_gone_is_left_alone():
    world = World(schedules=(HOURLY,))
    world.turn()
    world.declaration, world.held = None, True
    assert world.look() == Plan()


def test_a_broken_text_keeps_slots_coming_and_its_repair_is_told():
    world = World(schedules=(HOURLY,))
    world.turn()
    world.fault = Fault(file="w.yaml", line=3, column=5, pointer="/spec", problem="is broken")
    world.turn(HOUR)
    assert world.running() == [slot("hourly", NOON + HOUR)]
    status = world.memory.status(KEY)
    assert status is not None
    ready, stalled = find(status.conditions, "Ready"), find(status.conditions, "Stalled")
    assert ready is not None
    assert stalled is not None
    assert (ready.status, ready.reason, status.sync) == (
        Status.FALSE,
        "InvalidManifest",
        Sync.OUT_OF_SYNC,
    )
    assert ready.message.startswith("w.yaml:3:5: /spec: is broken")
    world.fault = None
    put = world.look().changes[0]
    assert isinstance(put, PutWorkflow)
    assert put.event is not None
    assert put.event.reason == "ManifestRepaired"
    assert find(put.status.conditions, "Stalled") is None


def test_a_retired_name_that_comes_back_broken_is_listed_again():
    world = World()
    world.turn()
    world.declaration = None
    world.turn()
    world.fault = Fault(file="w.yaml", line=3, column=5, problem="is broken")
    world.turn()
    status = world.memory.status(KEY)
    assert status is not None
    assert (status.retired, status.valid) == (False, False)


def test_at_rest_a_new_revision_alone_writes_nothing():
    world = World(on_change=OnChange(), schedules=(HOURLY,))
    world.turn()
    world.finish(world.run_id("change:1"))
    world.turn()
    elsewhere = replace(world.observed(), revision="main@sha1:2")
    assert plan(world.declaration, elsewhere, world.now).changes == ()


# Whatever happens.

SCHEDULES = st.sampled_from(
    [
        HOURLY,
        MINUTELY,
        Schedule(name="late", cron="*/3 * * * *", jitter=4 * MINUTE),
        Schedule(cron="*/7 3-13 * * *", time_zone="Europe/Berlin", jitter=3 * MINUTE),
        Schedule(name="fast", cron="*/20 * * * * *", time_zone="America/New_York"),
    ]
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("pass"),
            st.sampled_from([SECOND, 30 * SECOND, MINUTE, HOUR, 40 * DAY, -MINUTE, -3 * DAY]),
        ),
        st.tuples(st.just("spec"), st.sampled_from(["d1", "d2", "d3"])),
        st.tuples(st.just("suspend"), st.booleans()),
        st.tuples(st.just("end"), st.sampled_from([Phase.SUCCEEDED, Phase.FAILED])),
        st.tuples(st.just("claim"), st.none()),
        st.tuples(st.just("gone"), st.booleans()),
        st.tuples(st.just("broken"), st.booleans()),
        st.tuples(st.just("by hand"), st.sampled_from([None, 0 * SECOND, 7 * MINUTE])),
    ),
    max_size=15,
)


def happen(world: World, declared: Declaration, event: str, value) -> Declaration:
    """Let one thing happen; return what the manifest says by now."""
    if event == "pass":
        world.now += value
    elif event == "claim":
        world.claim()
    elif event == "end":
        for run in world.memory.active(KEY):
            if run.instance is not None:
                world.finish(run.id, value)
    elif event == "broken":
        world.fault = Fault(file="w.yaml", problem="is broken") if value else None
    elif event == "spec":
        declared = replace(declared, spec_digest=value)
    elif event == "suspend":
        declared = replace(declared, suspended=value)
    elif event == "by hand":
        until = world.now + value if value else None
        held = Suspension(by="ada", at=world.now, until=until) if value is not None else None
        world.write(PutSuspension(source="main", workflow="w", suspension=held))
    world.declaration = None if (event, value) == ("gone", True) else declared
    return declared


@settings(max_examples=150, deadline=None)
@given(
    st.lists(SCHEDULES, max_size=3, unique_by=lambda one: one.identity),
    st.fixed_dictionaries(
        {
            "concurrency_policy": st.sampled_from(list(ConcurrencyPolicy)),
            "catch_up": st.sampled_from(list(CatchUp)),
            "on_change": st.sampled_from(
                [None, OnChange(), OnChange(spec=False, cancel_in_progress=True)]
            ),
            "suspend_after": st.sampled_from([None, 1, 2]),
            "expect_every": st.sampled_from([None, 10 * MINUTE]),
        }
    ),
    EVENTS,
)
def test_every_pass_settles_and_breaks_no_promise(schedules, wishes, events):
    world = World(schedules=tuple(schedules), max_catch_up=3, **wishes)
    declared = world.declaration
    assert declared is not None
    for event, value in events:
        declared = happen(world, declared, event, value)
        decided = world.look()
        again = plan(world.declaration, world.observed(), world.now)
        assert again.changes == ()
        assert again.cancels == decided.cancels
        assert decided.wake_at is None or decided.wake_at > world.now
        if again.wake_at is not None:  # a run that exists already isn't made again, nor woken for
            assert decided.wake_at is not None
            assert decided.wake_at <= again.wake_at
        promises(world, wishes["concurrency_policy"])


def promises(world: World, policy: ConcurrencyPolicy) -> None:
    active = world.memory.active(KEY)
    waiting = [run for run in active if run.instance is None]
    changes = [run for run in waiting if run.trigger is Trigger.CHANGE]
    if policy is not ConcurrencyPolicy.ALLOW:
        assert len(changes) <= 1
    if world.declaration is None:
        assert waiting == [] or world.fault is not None  # broken is not gone
    elif world.status().suspended:
        assert [run for run in waiting if run.trigger is Trigger.SCHEDULE] == []
    assert len(world.rows) < 200


@settings(max_examples=100, deadline=None)
@given(
    st.lists(SCHEDULES, min_size=1, max_size=3, unique_by=lambda one: one.identity),
    st.lists(st.integers(1, 900), max_size=25),
)
def test_under_forbid_no_slot_starts_later_than_its_moment_and_the_pass_after_it(schedules, steps):
    """However often we look and whenever runs end: a slot starts at its moment or is skipped."""
    world = World(schedules=tuple(schedules))
    world.turn()
    for number, seconds in enumerate(steps):
        until = world.now + seconds * SECOND
        while world.now < until:
            wake = plan(world.declaration, world.observed(), world.now).wake_at
            world.now = min(until, wake) if wake else until
            world.look()
            for run in world.claim():
                assert world.declaration is not None
                schedule = next(one for one in schedules if one.identity == run.schedule)
                assert run.scheduled_time is not None
                assert world.now == judged(world.declaration, schedule, run.scheduled_time)
        if number % 2:
            for run in world.memory.active(KEY):
                if run.instance is not None:
                    world.finish(run.id)


# Suspended by a person, or by failures in a row.


def held(world: World, **fields) -> PutSuspension:
    suspension = Suspension(by="ada", at=world.now, **fields)
    return PutSuspension(source="main", workflow="w", suspension=suspension)


def resumed() -> PutSuspension:
    return PutSuspension(source="main", workflow="w", suspension=None)


def events(decided: Plan) -> list[str]:
    found = [one.event for one in decided.changes if isinstance(one, PutWorkflow)]
    return [f"{one.reason} {one.message}".strip() for one in found if one is not None]


def test_what_a_person_suspends_starts_nothing_until_it_is_resumed():
    world = World(schedules=(HOURLY,), on_change=OnChange())
    world.turn()
    world.finish(world.run_id("change:1"))
    world.write(held(world, reason="too hot"))
    (told,) = events(world.look())
    assert told == "Suspended by ada at 2027-03-10T12:00:00Z: too hot"
    world.edit(spec_digest="d2")
    world.turn(3 * HOUR)
    assert world.running() == []
    assert world.status().health is Health.SUSPENDED
    world.write(resumed())
    world.turn()
    assert world.running() == ["change:2"], "no slot is replayed; the newest change runs once"


def test_a_suspension_ends_by_itself_at_its_time():
    world = World(schedules=(HOURLY,))
    world.turn()
    world.write(held(world, until=NOON + 90 * MINUTE))
    decided = world.turn()
    assert decided.wake_at is not None
    assert decided.wake_at <= NOON + 90 * MINUTE
    world.turn(HOUR)
    assert world.running() == []
    assert events(world.turn(30 * MINUTE)) == ["Resumed"]
    world.turn(30 * MINUTE)
    assert world.running() == [slot("hourly", NOON + 2 * HOUR)]


def test_a_manifest_that_says_suspend_is_suspended_whatever_people_do():
    world = World(schedules=(HOURLY,), suspended=True)
    world.turn()
    world.write(resumed())
    world.turn(HOUR)
    assert world.running() == []


def fail(world: World, *phases: Phase) -> None:
    for phase in phases:
        world.turn(HOUR)
        for run in world.memory.active(KEY):
            world.finish(run.id, phase)


def test_after_so_many_failures_in_a_row_it_suspends_itself_and_says_so():
    world = World(schedules=(HOURLY,), suspend_after=2)
    world.turn()
    fail(world, Phase.FAILED, Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)
    assert not world.status().suspended
    fail(world, Phase.ERROR)
    (told,) = events(world.turn())
    assert told.startswith("Suspended by suspendAfter at ")
    assert told.endswith(": 2 runs failed in a row")
    world.turn(5 * HOUR)
    assert world.running() == []
    world.write(resumed())
    world.turn()
    world.turn(HOUR)
    assert len(world.running()) == 1, "failures are counted anew"
    assert world.status().failures == 0


# A success that is expected.


def missed(world: World) -> str:
    found = find(world.status().conditions, MISSED)
    return found.message if found else ""


def test_a_success_that_does_not_come_is_missed_once_and_seen_again():
    world = World(expect_every=26 * HOUR)
    assert world.turn().wake_at == NOON + 26 * HOUR
    assert missed(world) == ""
    (told,) = events(world.turn(26 * HOUR))
    assert told.startswith("Missed the last success was seen never")
    assert world.status().health is Health.DEGRADED
    assert events(world.turn(HOUR)) == []
    manual = replace(next(iter(World(on_change=OnChange()).look_runs())), identity="manual:1")
    world.write(CreateRun(run=replace(manual, id="m", created_at=world.now)))
    world.turn()
    world.finish("m")
    assert events(world.turn()) == ["SuccessSeen"]
    assert missed(world) == ""
    assert world.status().health is Health.HEALTHY
    assert world.turn().wake_at == world.now + 26 * HOUR


def test_nothing_is_expected_while_suspended_and_it_counts_from_the_resumption():
    world = World(expect_every=HOUR)
    world.turn()
    world.edit(suspended=True)
    world.turn(5 * HOUR)
    assert missed(world) == ""
    world.edit(suspended=False)
    world.turn()
    assert missed(world) == ""
    world.turn(HOUR)
    assert missed(world) != ""
    world.edit(expect_every=None)
    world.turn()
    assert missed(world) == ""
