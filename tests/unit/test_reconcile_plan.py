"""The planner: each row is named by its rule."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.model.changes import (
    AnswerSchedule,
    CreateRun,
    FinishRun,
    ForgetSchedule,
    PutSuspension,
    PutWorkflow,
)
from controller.model.condition import MISSED, Health, Suspension, WorkflowStatus, find
from controller.model.run import Phase, Run, Trigger
from controller.model.source import Declaration, Fault
from controller.model.workflow import CatchUp, ConcurrencyPolicy, OnChange, Schedule
from controller.observations import Observations
from controller.reconcile.plan import Observed, Plan, plan

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KEY = ("main", "w")
HOURLY = Schedule(name="hourly", cron="0 * * * *")


def declared(**fields) -> Declaration:
    return replace(
        Declaration(
            source="main",
            name="w",
            file="w.yaml",
            document=0,
            blob="b1",
            spec_digest="d1",
            on_change=OnChange(),
        ),
        **fields,
    )


def seen(**fields) -> WorkflowStatus:
    """A workflow that was planned once and is at rest."""
    first = plan(declared(), observed(None), NOON)
    status = next(c.status for c in first.changes if isinstance(c, PutWorkflow))
    return replace(status, **fields)


def observed(status, active=(), **fields) -> Observed:
    return Observed(key=KEY, status=status, active=tuple(active), **fields)


def running(trigger=Trigger.CHANGE, **fields) -> Run:
    return replace(
        Run(
            id="w-running",
            source="main",
            workflow="w",
            trigger=trigger,
            identity="x",
            phase=Phase.RUNNING,
            instance="i",
            created_at=NOON - MINUTE,
        ),
        **fields,
    )


def waiting(trigger=Trigger.CHANGE, **fields) -> Run:
    return running(trigger, id="w-waiting", phase=Phase.PENDING, instance=None, **fields)


def told(decided: Plan) -> list[str]:
    """The plan in short: what starts, is skipped, superseded, answered, put."""
    words = []
    for change in decided.changes:
        match change:
            case CreateRun(run=run) if run.phase is Phase.SKIPPED:
                words.append(f"skip {run.identity} {run.reason}")
            case CreateRun(run=run):
                words.append(f"start {run.identity}")
            case FinishRun(run=run, reason=reason):
                words.append(f"end {run} {reason}")
            case AnswerSchedule(schedule=name, through=through):
                words.append(f"answer {name} {through:%d %H:%M}")
            case ForgetSchedule(schedule=name):
                words.append(f"forget {name}")
            case PutSuspension(suspension=suspension):
                words.append(f"suspend by {suspension.by}" if suspension else "resume")
            case PutWorkflow(status=status) if find(status.conditions, MISSED) is not None:
                words.append("missed")
            case PutWorkflow():
                pass
    return words + [f"cancel {run} {reason}" for run, reason in decided.cancels]


def applied(decided, declaration, status, active, now):
    """What the store would make of a plan."""
    world = Observations([status] if status else [], active)
    for change in decided.changes:
        world.apply(change)
    return world.status(KEY), world.active(KEY)


def at(hour, minute=0) -> datetime:
    return NOON.replace(hour=hour, minute=minute)


@pytest.mark.parametrize(
    ("declaration", "status", "active", "words"),
    [
        pytest.param(declared(), None, [], ["start change:1"], id="first-sight-is-a-change"),
        pytest.param(declared(on_change=None), None, [], [], id="no-trigger-nothing-starts"),
        pytest.param(declared(), seen(), [], [], id="at-rest-nothing-is-written"),
        pytest.param(
            declared(spec_digest="d2"), seen(), [], ["start change:2"], id="an-edited-spec-starts"
        ),
        pytest.param(
            declared(spec_digest="d2", on_change=OnChange(spec=False)),
            seen(),
            [],
            [],
            id="spec-edits-are-not-watched-for",
        ),
        pytest.param(
            declared(spec_digest="d2"),
            seen(),
            [running()],
            ["start change:2"],
            id="a-change-waits-for-the-active-run-and-is-never-dropped",
        ),
        pytest.param(
            declared(spec_digest="d3"),
            seen(),
            [running(), waiting()],
            ["end w-waiting Superseded", "start change:2"],
            id="a-newer-change-supersedes-the-one-that-waits",
        ),
        pytest.param(
            declared(spec_digest="d3", concurrency_policy=ConcurrencyPolicy.ALLOW),
            seen(),
            [waiting()],
            ["start change:2"],
            id="allow-supersedes-nothing",
        ),
        pytest.param(
            declared(spec_digest="d2", on_change=OnChange(cancel_in_progress=True)),
            seen(),
            [running()],
            ["start change:2", "cancel w-running Replaced"],
            id="cancel-in-progress-cancels-the-older-change",
        ),
        pytest.param(
            declared(spec_digest="d2", suspended=True),
            seen(),
            [],
            [],
            id="suspended-starts-nothing",
        ),
        pytest.param(
            declared(),
            seen(change=3, answered_change=1, suspended=True),
            [],
            ["start change:3"],
            id="resumed-the-newest-change-runs-once",
        ),
        pytest.param(None, seen(), [], [], id="a-removed-manifest-retires"),
        pytest.param(
            None,
            seen(answered={"hourly": NOON}),
            [running(), waiting()],
            ["end w-waiting Retired", "forget hourly"],
            id="retired-running-runs-end-waiting-ones-do-not-start",
        ),
        pytest.param(
            declared(on_change=None, schedules=(HOURLY,)),
            seen(),
            [],
            ["answer hourly 10 12:00"],
            id="a-schedule-counts-from-its-first-sighting",
        ),
        pytest.param(
            declared(on_change=None, schedules=(HOURLY,)),
            seen(answered={"hourly": at(11)}),
            [],
            ["answer hourly 10 12:00", "start slot:hourly:2027-03-10T12:00:00+00:00"],
            id="a-due-slot-starts",
        ),
        pytest.param(
            declared(on_change=None, schedules=(HOURLY,)),
            seen(answered={"hourly": at(11), "old": at(9)}),
            [],
            [
                "forget old",
                "answer hourly 10 12:00",
                "start slot:hourly:2027-03-10T12:00:00+00:00",
            ],
            id="an-edited-schedule-is-another-one",
        ),
        pytest.param(
            declared(on_change=None, schedules=(HOURLY,)),
            seen(answered={"hourly": at(11)}),
            [running()],
            [
                "answer hourly 10 12:00",
                "skip slot:hourly:2027-03-10T12:00:00+00:00 ConcurrencyForbidden",
            ],
            id="forbid-skips-a-slot-while-a-run-is-active",
        ),
        pytest.param(
            declared(
                on_change=None, schedules=(HOURLY,), concurrency_policy=ConcurrencyPolicy.REPLACE
            ),
            seen(answered={"hourly": at(11)}),
            [running()],
            [
                "answer hourly 10 12:00",
                "start slot:hourly:2027-03-10T12:00:00+00:00",
                "cancel w-running Replaced",
            ],
            id="replace-cancels-the-active-run",
        ),
        pytest.param(
            declared(
                on_change=None,
                concurrency_policy=ConcurrencyPolicy.QUEUE,
                queue_timeout=MINUTE,
            ),
            seen(),
            [running(Trigger.SCHEDULE), waiting(Trigger.SCHEDULE)],
            ["end w-waiting QueueTimeout"],
            id="a-slot-waits-for-its-turn-so-long-and-no-longer",
        ),
        pytest.param(
            declared(
                on_change=None,
                concurrency_policy=ConcurrencyPolicy.QUEUE,
                queue_timeout=2 * MINUTE,
            ),
            seen(),
            [running(Trigger.SCHEDULE), waiting(Trigger.SCHEDULE)],
            [],
            id="a-slot-whose-time-is-not-over-waits-on",
        ),
        pytest.param(
            declared(
                on_change=None,
                concurrency_policy=ConcurrencyPolicy.QUEUE,
                queue_timeout=MINUTE,
            ),
            seen(),
            [running(Trigger.SCHEDULE), waiting(Trigger.SCHEDULE, reason="ControllerLost")],
            [],
            id="a-slot-that-had-its-turn-has-it-again",
        ),
        pytest.param(
            declared(
                on_change=None,
                concurrency_policy=ConcurrencyPolicy.REPLACE,
                queue_timeout=MINUTE,
            ),
            seen(),
            [running(Trigger.SCHEDULE), waiting(Trigger.SCHEDULE, reason="Retried")],
            [],
            id="a-slot-that-is-retried-is-a-persons-wish",
        ),
        pytest.param(
            declared(concurrency_policy=ConcurrencyPolicy.QUEUE, queue_timeout=MINUTE),
            seen(),
            [running(), waiting()],
            [],
            id="a-change-waits-as-long-as-it-takes",
        ),
        pytest.param(
            declared(on_change=None, schedules=(HOURLY,), suspended=True),
            seen(answered={"hourly": at(11)}, suspended=True),
            [],
            ["answer hourly 10 12:00"],
            id="suspended-slots-are-answered-without-a-run",
        ),
        pytest.param(
            declared(on_change=None, schedules=(HOURLY,), catch_up=CatchUp.ALL, max_catch_up=2),
            seen(answered={"hourly": at(2)}),
            [],
            [
                "answer hourly 10 12:00",
                "start slot:hourly:2027-03-10T11:00:00+00:00",
                "start slot:hourly:2027-03-10T12:00:00+00:00",
            ],
            id="catch-up-all-starts-the-newest-that-it-may",
        ),
        pytest.param(
            declared(on_change=None, schedules=(HOURLY,), catch_up=CatchUp.LATEST),
            seen(answered={"hourly": NOON - timedelta(days=366)}),
            [],
            ["answer hourly 10 12:00", "start slot:hourly:2027-03-10T12:00:00+00:00"],
            id="off-for-a-year-latest-starts-one",
        ),
        pytest.param(
            declared(on_change=None, schedules=(HOURLY,)),
            seen(answered={"hourly": at(14)}),
            [],
            [],
            id="a-clock-set-back-repeats-no-slot",
        ),
    ],
)
def test_plan(declaration, status, active, words):
    assert told(plan(declaration, observed(status, active), NOON)) == words


def slot(moment: datetime, name: str = "hourly") -> str:
    return f"slot:{name}:{moment.isoformat()}"


def hourly(**fields) -> Declaration:
    return declared(on_change=None, schedules=(HOURLY,), **fields)


DAY, YEAR = timedelta(days=1), timedelta(days=366)
UNNAMED = Schedule(cron="30 11 * * *")
BY_ADA = Suspension(by="ada", at=at(9))


@pytest.mark.parametrize(
    ("declaration", "status", "now", "words"),
    [
        pytest.param(
            hourly(),
            seen(answered={"hourly": at(11)}),
            at(12, 4),
            ["answer hourly 10 12:00", f"start {slot(NOON)}"],
            id="starting-deadline-a-slot-within-it-starts",
        ),
        pytest.param(
            hourly(),
            seen(answered={"hourly": at(11)}),
            at(12, 6),
            ["answer hourly 10 12:00", f"skip {slot(NOON)} DeadlineExceeded"],
            id="starting-deadline-a-slot-beyond-it-is-recorded-as-missed",
        ),
        pytest.param(
            hourly(starting_deadline=timedelta(hours=1)),
            seen(answered={"hourly": at(10)}),
            at(12, 30),
            ["answer hourly 10 12:00", f"start {slot(NOON)}"],
            id="starting-deadline-of-ones-own-the-newest-within-it-starts",
        ),
        pytest.param(
            hourly(catch_up=CatchUp.LATEST, starting_deadline=MINUTE),
            seen(answered={"hourly": at(2)}),
            at(12, 2),
            ["answer hourly 10 12:00", f"skip {slot(NOON)} DeadlineExceeded"],
            id="catch-up-latest-keeps-to-the-deadline",
        ),
        pytest.param(
            hourly(catch_up=CatchUp.ALL, starting_deadline=timedelta(hours=2)),
            seen(answered={"hourly": at(2)}),
            at(12, 10),
            ["answer hourly 10 12:00", f"start {slot(at(11))}", f"start {slot(NOON)}"],
            id="catch-up-all-keeps-to-the-deadline",
        ),
        pytest.param(
            hourly(),
            seen(answered={"hourly": NOON - YEAR}),
            at(12, 10),
            ["answer hourly 10 12:00", f"skip {slot(NOON)} DeadlineExceeded"],
            id="off-for-a-year-without-catch-up-one-slot-tells-of-it",
        ),
        pytest.param(
            hourly(catch_up=CatchUp.ALL, max_catch_up=2),
            seen(answered={"hourly": NOON - YEAR}),
            at(12, 10),
            ["answer hourly 10 12:00", f"start {slot(at(11))}", f"start {slot(NOON)}"],
            id="off-for-a-year-max-catch-up-bounds-all",
        ),
        pytest.param(
            hourly(),
            seen(),
            at(12, 30),
            ["answer hourly 10 12:30"],
            id="first-sighting-nothing-before-it-is-due",
        ),
        pytest.param(
            declared(on_change=None, schedules=(replace(HOURLY, cron="30 * * * *"),)),
            seen(answered={"hourly": at(12)}),
            at(12, 31),
            ["answer hourly 10 12:30", f"start {slot(at(12, 30))}"],
            id="edited-a-named-schedule-goes-on-at-its-new-times",
        ),
        pytest.param(
            declared(on_change=None, schedules=(UNNAMED,)),
            seen(answered={"of old": NOON}),
            at(12, 1),
            ["forget of old", f"answer {UNNAMED.identity} 10 12:01"],
            id="edited-an-unnamed-schedule-is-another-one-and-counts-from-now",
        ),
        pytest.param(
            hourly(),
            seen(answered={"hourly": NOON + timedelta(hours=23)}),
            NOON,
            [],
            id="clock-set-back-by-hours-it-stands-still-until-then",
        ),
        pytest.param(
            hourly(),
            seen(answered={"hourly": NOON + YEAR}),
            NOON,
            ["forget hourly", "answer hourly 10 12:00"],
            id="clock-set-back-by-a-year-it-was-wrong-before-and-counts-from-now",
        ),
        pytest.param(
            hourly(),
            seen(answered={"hourly": NOON}),
            NOON + DAY,
            ["answer hourly 11 12:00", f"start {slot(NOON + DAY)}"],
            id="clock-set-ahead-by-a-day-is-as-if-it-had-been-slept-through",
        ),
        pytest.param(
            hourly(catch_up=CatchUp.ALL),
            seen(answered={"hourly": at(9)}, suspension=BY_ADA, suspended=True),
            NOON,
            ["answer hourly 10 12:00"],
            id="suspended-by-a-person-slots-are-answered-without-a-run",
        ),
        pytest.param(
            hourly(catch_up=CatchUp.ALL),
            seen(answered={"hourly": at(9)}, suspended=True),
            NOON,
            ["answer hourly 10 12:00"],
            id="resumed-while-we-were-off-no-slot-is-replayed",
        ),
        pytest.param(
            hourly(),
            seen(answered={"hourly": NOON}, suspended=True),
            at(13),
            ["answer hourly 10 13:00"],
            id="resumed-late-what-was-due-before-is-not-replayed",
        ),
        pytest.param(
            hourly(),
            seen(
                answered={"hourly": NOON},
                suspension=replace(BY_ADA, until=at(12, 15)),
                suspended=True,
            ),
            at(12, 15),
            ["resume"],
            id="suspended-until-it-ends-at-its-time",
        ),
        pytest.param(
            hourly(suspend_after=3),
            seen(answered={"hourly": at(11)}, failures=3),
            NOON,
            ["suspend by suspendAfter", "answer hourly 10 12:00"],
            id="suspend-after-so-many-failures-in-a-row",
        ),
        pytest.param(
            hourly(suspend_after=3),
            seen(answered={"hourly": at(11)}, failures=2),
            NOON,
            ["answer hourly 10 12:00", f"start {slot(NOON)}"],
            id="suspend-after-one-failure-less-goes-on",
        ),
        pytest.param(
            hourly(expect_every=timedelta(hours=3)),
            seen(answered={"hourly": NOON}, watched_since=at(9)),
            at(12, 1),
            ["missed"],
            id="expect-every-a-success-is-overdue",
        ),
        pytest.param(
            hourly(expect_every=timedelta(hours=3)),
            seen(answered={"hourly": NOON}, watched_since=at(9), last_success_at=at(10)),
            at(12, 1),
            [],
            id="expect-every-a-success-was-seen-in-time",
        ),
    ],
)
def test_rules_of_time(declaration, status, now, words):
    decided = plan(declaration, observed(status), now)
    assert told(decided) == words
    settled, active = applied(decided, declaration, status, (), now)
    assert plan(declaration, observed(settled, active), now).changes == (), "it is answered"


def test_a_queued_slot_is_looked_at_when_its_time_is_over():
    queued = declared(
        on_change=None, concurrency_policy=ConcurrencyPolicy.QUEUE, queue_timeout=5 * MINUTE
    )
    decided = plan(queued, observed(seen(), [running(), waiting(Trigger.SCHEDULE)]), NOON)
    assert decided.wake_at == NOON + 4 * MINUTE


def test_jitter_moves_the_start_and_never_the_slot():
    jittered = replace(HOURLY, jitter=timedelta(minutes=4))
    declaration = declared(on_change=None, schedules=(jittered,))
    decided = plan(declaration, observed(seen(answered={"hourly": at(11)})), NOON)
    run = next(change.run for change in decided.changes if isinstance(change, CreateRun))
    assert run.scheduled_time == NOON
    assert run.not_before is not None
    assert NOON < run.not_before < NOON + timedelta(minutes=4)
    assert decided.wake_at is not None


def test_a_jittered_slot_is_judged_when_its_jitter_is_over():
    declaration = declared(on_change=None, schedules=(HOURLY,))
    late = waiting(Trigger.SCHEDULE, not_before=NOON - MINUTE)
    decided = plan(declaration, observed(seen(answered={"hourly": NOON}), [running(), late]), NOON)
    assert told(decided) == ["end w-waiting ConcurrencyForbidden"]


def test_a_revert_is_a_change_of_its_own():
    """d1 -> d2 -> d1: ids answer changes, not digests."""
    status, active, words = None, (), []
    for digest in ("d1", "d2", "d1"):
        decided = plan(declared(spec_digest=digest), observed(status), NOON)
        words += told(decided)
        status, _ = applied(decided, None, status, active, NOON)
    assert words == ["start change:1", "start change:2", "start change:3"]
    assert status is not None
    assert status.generation == 3


def test_changed_inputs_raise_the_change_and_not_the_generation():
    decided = plan(declared(), observed(seen(), inputs={"src": "sha256:1"}), NOON)
    status = next(change.status for change in decided.changes if isinstance(change, PutWorkflow))
    assert (status.generation, status.change) == (1, 2)
    assert told(decided) == ["start change:2"]


def test_coming_back_continues_the_numbers_and_is_no_change():
    gone = replace(seen(), retired=True)
    decided = plan(declared(), observed(gone), NOON)
    status = next(change.status for change in decided.changes if isinstance(change, PutWorkflow))
    assert not status.retired
    assert status.generation == 1
    assert told(decided) == []


def test_an_invalid_text_keeps_the_last_valid_spec_and_says_where():
    fault = Fault(file="w.yaml", line=3, column=5, pointer="/spec", problem="is broken")
    decided = plan(declared(), observed(seen(), fault=fault), NOON)
    status = next(change.status for change in decided.changes if isinstance(change, PutWorkflow))
    ready = find(status.conditions, "Ready")
    assert ready is not None
    assert ready.reason == "InvalidManifest"
    assert ready.message.startswith("w.yaml:3:5")
    assert status.generation == 1


def test_a_manifest_that_was_never_valid_is_listed_with_generation_zero():
    fault = Fault(file="w.yaml", line=3, column=5, problem="is broken")
    decided = plan(None, observed(None, fault=fault), NOON)
    status = next(change.status for change in decided.changes if isinstance(change, PutWorkflow))
    assert (status.generation, status.valid) == (0, False)


def test_a_failed_last_run_degrades_the_health():
    status = seen(last_phase=Phase.FAILED)
    decided = plan(declared(), observed(status), NOON)
    put = next(change.status for change in decided.changes if isinstance(change, PutWorkflow))
    assert put.health is Health.DEGRADED


SCHEDULES = st.sampled_from(
    [
        HOURLY,
        Schedule(name="minutely", cron="* * * * *"),
        Schedule(cron="*/7 3-9 * * *", time_zone="Europe/Berlin", jitter=timedelta(minutes=3)),
        Schedule(cron="30 2 * * sun", time_zone="America/New_York"),
    ]
)
MOMENTS = st.integers(0, 60 * 24 * 400).map(lambda minutes: NOON - minutes * MINUTE)


@st.composite
def worlds(draw):
    schedules = tuple({one.identity: one for one in draw(st.lists(SCHEDULES, max_size=3))}.values())
    declaration = declared(
        spec_digest=draw(st.sampled_from(["d1", "d2"])),
        suspended=draw(st.booleans()),
        schedules=schedules,
        on_change=draw(st.sampled_from([None, OnChange(), OnChange(spec=False)])),
        concurrency_policy=draw(st.sampled_from(list(ConcurrencyPolicy))),
        catch_up=draw(st.sampled_from(list(CatchUp))),
        max_catch_up=draw(st.integers(1, 5)),
        starting_deadline=draw(st.sampled_from([None, MINUTE, timedelta(hours=3)])),
        queue_timeout=draw(st.sampled_from([None, MINUTE, timedelta(hours=3)])),
    )
    answered = {one.identity: draw(MOMENTS) for one in schedules if draw(st.booleans())}
    status = draw(
        st.sampled_from([None, seen(), seen(answered=answered), seen(change=4, answered=answered)])
    )
    active = draw(st.sampled_from([(), (running(),), (running(), waiting())]))
    return draw(st.sampled_from([declaration, declaration, None])), status, active


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_applying_a_plan_settles_the_world(world):
    declaration, status, active = world
    decided = plan(declaration, observed(status, active), NOON)
    assert decided == plan(declaration, observed(status, active), NOON)
    after, left = applied(decided, declaration, status, active, NOON)
    again = plan(declaration, observed(after, left), NOON)
    assert [change for change in again.changes if not isinstance(change, FinishRun)] == []
    assert decided.wake_at is None or decided.wake_at > NOON


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_a_trigger_starts_one_run_at_most(world):
    declaration, status, active = world
    decided = plan(declaration, observed(status, active), NOON)
    ids = [change.run.id for change in decided.changes if isinstance(change, CreateRun)]
    assert len(ids) == len(set(ids))
