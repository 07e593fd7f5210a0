"""Runs that the ends of other workflows' runs trigger: each row is named by its rule."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import manifest
from controller.model.changes import (
    AnswerSchedule,
    CreateRun,
    FinishRun,
    ForgetSchedule,
    PutWorkflow,
)
from controller.model.condition import WorkflowStatus
from controller.model.run import Phase, Run, Trigger
from controller.model.source import Declaration
from controller.model.workflow import ConcurrencyPolicy, Upstream
from controller.reconcile.plan import Observed, plan
from controller.reconcile.upstream import ended_at, open_name

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
MARK = "upstream:main/first"


def ended(minute, phase=Phase.SUCCEEDED, **fields) -> Run:
    at = NOON + timedelta(minutes=minute)
    made = Run(
        id=f"first-{minute}",
        source="main",
        workflow="first",
        trigger=Trigger.MANUAL,
        identity="manual:x",
        phase=phase,
        outputs={"rows": 3},
        created_at=at,
        finished_at=at,
    )
    return replace(made, **fields)


def followed(*ends, **fields) -> WorkflowStatus:
    """Return the status of a workflow for which these ends are open."""
    answered = {MARK: NOON, **{open_name(one): one.finished_at for one in ends}}
    return WorkflowStatus(source="main", name="w", answered=answered, **fields)


def planned(*ends, status=None, active=(), params=None, **fields):
    trigger = Upstream(workflow="first", params=params or {})
    fields = {"upstreams": (trigger,), **fields}
    declaration = Declaration(
        source="main", name="w", file="w.yaml", document=0, blob="b", spec_digest="d", **fields
    )
    status = status or followed(*ends)
    observed = Observed(key=("main", "w"), status=status, active=tuple(active), ends=ends)
    return plan(declaration, observed, NOON + timedelta(hours=2)).changes


def made(changes):
    return [one.run for one in changes if isinstance(one, CreateRun)]


def closed(changes):
    return [one.schedule for one in changes if isinstance(one, ForgetSchedule)]


def sighted(changes):
    return [one.through for one in changes if isinstance(one, AnswerSchedule)]


def test_a_wanted_end_starts_a_run_with_the_upstreams_outputs():
    params = {"rows": "${{ upstream.outputs.rows }}", "by": "${{ upstream.run }}"}
    changes = planned(ended(1), params=params)
    (run,) = made(changes)
    assert (run.trigger, run.phase) == (Trigger.UPSTREAM, Phase.PENDING)
    assert run.params == {"rows": 3, "by": "first-1"}
    assert run.identity == "upstream:first-1:2027-03-10T12:01:00+00:00"
    assert closed(changes) == [open_name(ended(1))]


def test_the_first_sighting_counts_from_now():
    fresh = WorkflowStatus(source="main", name="w")
    changes = planned(ended(1), status=fresh)
    assert made(changes) == []
    assert sighted(changes) == [NOON + timedelta(hours=2)]


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.SKIPPED, Phase.CANCELLED])
def test_an_end_in_another_phase_is_answered_by_nothing(phase):
    changes = planned(ended(1, phase))
    assert (made(changes), closed(changes)) == ([], [open_name(ended(1))])


@pytest.mark.parametrize("days", [-400, 400])
def test_an_end_counts_whatever_the_clock_said_when_it_came_and_when_it_was_followed(days):
    ends = ended(days * 1440), ended(1)
    runs = made(planned(*ends, concurrency_policy=ConcurrencyPolicy.ALLOW))
    assert {one.identity.split(":")[1] for one in runs} == {one.id for one in ends}


def test_an_open_end_without_a_run_or_a_trigger_is_forgotten():
    gone = ended(7)
    assert closed(planned(ended(1), status=followed(ended(1), gone))) == sorted(
        map(open_name, (ended(1), gone)), reverse=True
    )
    left = closed(planned(ended(1), upstreams=()))
    assert left == [open_name(ended(1)), MARK]


def test_a_retried_run_that_ends_again_triggers_again():
    either = (Upstream(workflow="first", phases=("Failed", "Succeeded")),)
    (failed,) = made(planned(ended(1, Phase.FAILED), upstreams=either))
    again = ended(1, finished_at=NOON + timedelta(minutes=9))
    (succeeded,) = made(planned(again, upstreams=either))
    assert failed.id != succeeded.id


def test_a_param_without_a_value_ends_the_run_as_an_error():
    (run,) = made(planned(ended(1), params={"rows": "${{ upstream.outputs.gone }}"}))
    assert (run.phase, run.reason) == (Phase.ERROR, "InvalidParams")
    assert "first-1" in run.message


def test_a_newer_end_takes_the_place_of_a_run_that_waits():
    (waiting,) = made(planned(ended(1)))
    changes = planned(ended(2), active=[waiting])
    skipped = [one for one in changes if isinstance(one, FinishRun)]
    assert [(one.run, one.reason) for one in skipped] == [(waiting.id, "Superseded")]
    assert len(made(changes)) == 1


def test_with_allow_every_end_has_its_run():
    runs = made(planned(ended(1), ended(2), concurrency_policy=ConcurrencyPolicy.ALLOW))
    assert [run.phase for run in runs] == [Phase.PENDING] * 2


def test_while_suspended_the_newest_wanted_end_stays_open():
    changes = planned(ended(1), ended(2), ended(3, Phase.FAILED), suspended=True)
    assert made(changes) == []
    assert closed(changes) == [open_name(ended(1))]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([Phase.SUCCEEDED, Phase.FAILED]), st.booleans()), max_size=12
    )
)
def test_every_wanted_end_is_answered_once_or_gives_way_to_a_newer(steps):
    """Each step is an upstream's end, seen suspended or not; the state is planned from anew."""
    ends, runs, done = [], {}, set()
    for minute, (phase, suspended) in enumerate([*steps, (Phase.FAILED, False)], start=1):
        ends.append(ended(minute, phase))
        changes = planned(*(one for one in ends if open_name(one) not in done), suspended=suspended)
        for run in made(changes):
            assert run.id not in runs
            runs[run.id] = run
        done |= {*closed(changes)}
    assert done == {*map(open_name, ends)}
    wanted = [one for one in ends if one.phase is Phase.SUCCEEDED]
    answered = {run.identity.split(":")[1] for run in runs.values()}
    assert answered <= {one.id for one in wanted}
    if wanted:
        assert wanted[-1].id in answered
    for end, (phase, suspended) in zip(ends, steps, strict=False):
        assert suspended or phase is Phase.FAILED or end.id in answered


MARKS = (MARK, "upstream:main/other")
POLICIES = st.sampled_from(list(ConcurrencyPolicy))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["first", "other"]),
        st.sampled_from([Phase.SUCCEEDED, Phase.FAILED]),
        st.booleans(),  # is it suspended when the end is seen?
        st.booleans(),  # is what waits started afterwards?
    ),
    max_size=12,
)


class Following:
    """A workflow with two upstreams, as it is planned from what was written before."""

    def __init__(self, policy: ConcurrencyPolicy) -> None:
        self.policy = policy
        self.answered = dict.fromkeys(MARKS, NOON)  # and the open ends
        self.ends: list[Run] = []
        self.runs: dict[str, Run] = {}

    def see(self, *ends: Run, suspended: bool) -> None:
        self.ends += ends
        self.answered |= {open_name(one): ended_at(one) for one in ends}
        self.take(self.planned(suspended=suspended))
        assert self.planned(suspended=suspended) == (), "planning again gives nothing to do"

    def planned(self, *, suspended: bool):
        declaration = {
            "concurrency_policy": self.policy,
            "suspended": suspended,
            "upstreams": (Upstream(workflow="first"), Upstream(workflow="other")),
        }
        changes = planned(
            *(one for one in self.ends if open_name(one) in self.answered),
            status=WorkflowStatus(source="main", name="w", answered=self.answered),
            active=self.waiting(),
            **declaration,
        )
        return tuple(one for one in changes if not isinstance(one, PutWorkflow))

    def take(self, changes) -> None:
        for one in changes:
            if isinstance(one, CreateRun):
                assert one.run.id not in self.runs, "an end has one run"
                self.runs[one.run.id] = one.run
            elif isinstance(one, FinishRun):
                assert self.runs[one.run].phase is Phase.PENDING
                self.runs[one.run] = replace(self.runs[one.run], phase=one.phase, reason=one.reason)
            else:
                assert isinstance(one, ForgetSchedule)
                del self.answered[one.schedule]

    def waiting(self) -> list[Run]:
        return [one for one in self.runs.values() if one.phase is Phase.PENDING]

    def start(self) -> None:
        for one in self.waiting():
            self.runs[one.id] = replace(one, phase=Phase.SUCCEEDED)

    def of(self, end: Run) -> list[Run]:
        return [one for one in self.runs.values() if one.identity.split(":")[1] == end.id]


@given(policy=POLICIES, steps=STEPS)
def test_under_every_policy_each_trigger_answers_its_own_ends(policy, steps):
    """The newest wanted end of all has a run of its own; others have theirs or gave way to it."""
    world = Following(policy)
    for minute, (workflow, phase, suspended, started) in enumerate(steps, start=1):
        world.see(
            ended(minute, phase, workflow=workflow, id=f"{workflow}-{minute}"),
            suspended=suspended,
        )
        if started:
            world.start()
    world.see(suspended=False)  # resumed
    waiting = world.waiting()
    assert policy is ConcurrencyPolicy.ALLOW or len(waiting) <= 1
    superseded = [one for one in world.runs.values() if one.phase is Phase.SKIPPED]
    assert {one.reason for one in superseded} <= {"Superseded"}
    assert policy is not ConcurrencyPolicy.ALLOW or superseded == []
    for end, (_, phase, suspended, _) in zip(world.ends, steps, strict=True):
        runs = world.of(end)
        if phase is Phase.FAILED:
            assert runs == []
        elif not suspended or end is newest_wanted(world.ends, end.workflow):
            assert len(runs) == 1, "of those seen while suspended the newest stays open"
    wanted = [one for one in world.ends if one.phase is Phase.SUCCEEDED]
    if wanted:
        assert world.of(wanted[-1])[0].phase is not Phase.SKIPPED, "no older end takes its place"


def newest_wanted(ends: list[Run], workflow: str) -> Run:
    return [one for one in ends if (one.workflow, one.phase) == (workflow, Phase.SUCCEEDED)][-1]


def faults_of(trigger: str) -> list[str]:
    text = f"""\
apiVersion: rondel/v1alpha1
kind: Workflow
metadata: {{name: w}}
spec:
  params: [{{name: rows, type: integer, default: 1}}]
  triggers: [{trigger}]
  steps: [{{name: a, script: "true"}}]
"""
    parsed = manifest.parse_file("w.yaml", text.encode())
    return [str(fault) for one in parsed.documents for fault in one.faults]


def test_a_triggers_params_see_the_upstream_and_nothing_else():
    assert faults_of('{workflow: first, params: {rows: "${{ upstream.outputs.rows }}"}}') == []
    (wrong,) = faults_of('{workflow: first, params: {rows: "${{ upstream.outcome }}"}}')
    assert "there is no upstream.outcome here" in wrong
    (elsewhere,) = faults_of('{workflow: first, params: {rows: "${{ params.rows }}"}}')
    assert "there is no params.rows here" in elsewhere
