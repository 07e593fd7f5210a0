"""What stays and what begins anew when a run runs again: for any graph and any ending."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.errors import RefusedError, UsageError
from controller.model.run import Phase, Run, Section, StepRun, Trigger
from controller.model.workflow import CacheMode, CachePolicy, OnInterrupt, Step, Workflow
from controller.reconcile.rerun import downstream, lost_inputs, rerun, retried, reused
from controller.reconcile.runs import on_interrupt

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BAD = [Phase.FAILED, Phase.ERROR, Phase.CANCELLED, Phase.INTERRUPTED]
ENDED = [*BAD, Phase.SUCCEEDED, Phase.SKIPPED]


def a_run(phase: Phase = Phase.FAILED, source: str = "main") -> Run:
    return Run(
        id="w-1",
        source=source,
        workflow="w",
        trigger=Trigger.SCHEDULE,
        identity="slot:x",
        phase=phase,
        scheduled_time=NOW,
        inputs={"src": "sha256:a"},
        created_at=NOW,
    )


@st.composite
def graphs(draw):
    names = [f"s{n}" for n in range(draw(st.integers(1, 8)))]
    return Workflow(
        name="w",
        steps=tuple(
            Step(name=name, needs=tuple(draw(st.sets(st.sampled_from(names[:n]))) if n else ()))
            for n, name in enumerate(names)
        ),
    )


def row(name: str, phase: Phase, section: Section = Section.STEPS) -> StepRun:
    return StepRun(
        run="w-1",
        name=name,
        section=section,
        phase=phase,
        attempts=3,
        outputs={"o": 1},
        artifacts={"a": "sha256:b"},
        error="x",
        finished_at=NOW,
    )


@given(st.lists(st.sampled_from(ENDED), max_size=9), st.sampled_from(BAD))
def test_what_succeeded_stays_and_all_else_waits_with_its_attempts(phases, ending):
    rows = [row(f"s{n}", phase) for n, phase in enumerate(phases)]
    rows.append(row("z", Phase.SUCCEEDED, Section.FINALLY))
    change = retried(a_run(ending), rows, NOW)
    assert change.run.phase is Phase.PENDING
    assert (change.run.id, change.run.inputs) == ("w-1", {"src": "sha256:a"})
    for before, after in zip(rows, change.steps, strict=True):
        if before.phase is Phase.SUCCEEDED and before.section is Section.STEPS:
            assert after == before
        else:
            assert (after.phase, after.attempts) == (Phase.PENDING, 3)
            assert not after.outputs
            assert not after.artifacts
            assert after.finished_at is None


@given(graphs(), st.data())
def test_a_rerun_from_a_step_takes_over_exactly_what_does_not_come_after_it(graph, data):
    start = data.draw(st.sampled_from([step.name for step in graph.steps]))
    again = downstream(graph, start)
    for step in graph.steps:
        assert (step.name in again) == (step.name == start or bool(again & set(step.needs)))
    new = rerun(a_run(Phase.SUCCEEDED), key="k", now=NOW)
    rows = [row(step.name, Phase.SUCCEEDED) for step in graph.steps]
    kept = reused(graph, rows, new, start)
    assert {one.name for one in kept} == {step.name for step in graph.steps} - again
    assert all(one.run == new.id and one.attempts == 0 and one.outputs for one in kept)


def test_a_rerun_is_as_recorded_under_an_id_of_its_own():
    old = a_run()
    new = rerun(old, key="k", now=NOW)
    assert new.id != old.id
    assert rerun(old, key="k", now=NOW).id == new.id, "one wish, one run"
    assert rerun(old, key="l", now=NOW).id != new.id
    assert (new.trigger, new.rerun_of, new.logical_time) == (Trigger.RERUN, old.id, NOW)
    assert (new.inputs, new.params, new.spec) == (old.inputs, old.params, old.spec)


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RUNNING, Phase.SUCCEEDED, Phase.SKIPPED])
def test_only_what_ended_badly_is_retried(phase):
    with pytest.raises(RefusedError, match=f"it is {phase}"):
        retried(a_run(phase), [], NOW)


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RUNNING, Phase.SKIPPED])
def test_only_what_has_run_is_run_again(phase):
    with pytest.raises(RefusedError, match=f"it is {phase}"):
        rerun(a_run(phase), key="k", now=NOW)


def test_runs_of_exec_are_not_the_controllers():
    for call in (lambda run: retried(run, [], NOW), lambda run: rerun(run, key="k", now=NOW)):
        with pytest.raises(RefusedError, match="rondel exec"):
            call(a_run(source="exec"))


def test_what_is_taken_over_must_have_ended_well():
    graph = Workflow(name="w", steps=(Step(name="a"), Step(name="b")))
    new = rerun(a_run(), key="k", now=NOW)
    with pytest.raises(RefusedError, match="step 'a' is Failed"):
        reused(graph, [row("a", Phase.FAILED), row("b", Phase.SUCCEEDED)], new, "b")
    with pytest.raises(UsageError, match="there is no step 'c'"):
        reused(graph, [], new, "c")


def test_inputs_are_lost_where_neither_their_source_nor_the_store_has_them():
    run = a_run()
    assert lost_inputs(run, lasting=True, kept={}) == ()
    assert lost_inputs(run, lasting=False, kept={"sha256:a": "blob"}) == ()
    assert lost_inputs(run, lasting=False, kept={}) == ("src",)


def test_an_interruption_calls_for_what_is_said_else_for_what_is_safe():
    cached = Step(name="a", cache=CachePolicy(mode=CacheMode.AUTO))
    plain = Step(name="b")
    assert on_interrupt(Workflow(name="w", steps=(cached,))) is OnInterrupt.RERUN
    assert on_interrupt(Workflow(name="w", steps=(cached, plain))) is OnInterrupt.FAIL
    assert on_interrupt(Workflow(name="w")) is OnInterrupt.FAIL
    said = Workflow(name="w", steps=(cached,), on_interrupt=OnInterrupt.FAIL)
    assert on_interrupt(said) is OnInterrupt.FAIL
