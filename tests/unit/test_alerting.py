"""What alerts are told: which occasion, of whom, and each state once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.model.changes import CreateRun, EndTroubles, PutSource, PutTrouble, PutWorkflow
from controller.model.condition import Condition, SourceStatus, Status, WorkflowStatus
from controller.model.run import Phase, Run, Trigger
from controller.model.settings import Alert
from controller.model.source import Declaration
from controller.model.word import OCCASIONS, Occasion
from controller.reconcile import alerting

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OPS = Alert(name="ops", secret="url", sources=("main",))
ALERTS = {"ops": OPS}


def run(phase, reason="", **fields):
    return Run(
        id="r1",
        source=fields.pop("source", "main"),
        workflow="nightly",
        trigger=Trigger.SCHEDULE,
        identity="x",
        phase=phase,
        reason=reason,
        revision="main@sha1:" + "a" * 40,
        created_at=NOW,
        **fields,
    )


def occasions(changes):
    return [word.occasion for change in changes for word in change.words]


@pytest.mark.parametrize(
    ("phase", "reason", "told"),
    [
        (Phase.FAILED, "", [Occasion.FAILED]),
        (Phase.ERROR, "EngineUnavailable", [Occasion.ERROR]),
        (Phase.INTERRUPTED, "ControllerLost", [Occasion.ERROR]),
        (Phase.SKIPPED, "DeadlineExceeded", [Occasion.MISSED]),
        (Phase.SUCCEEDED, "", [Occasion.RECOVERED]),
        (Phase.SKIPPED, "ConcurrencyForbidden", []),
        (Phase.SKIPPED, "Superseded", []),
        (Phase.CANCELLED, "", []),
        (Phase.PENDING, "", []),
        (Phase.RUNNING, "", []),
    ],
)
def test_an_end_has_its_occasion(phase, reason, told):
    assert occasions(alerting.of_run(run(phase, reason), ALERTS)) == told


def test_a_lost_run_that_another_takes_the_place_of_is_no_alert():
    lost = run(Phase.INTERRUPTED)
    answer = CreateRun(run=replace(run(Phase.PENDING), id="r2", rerun_of="r1"))
    assert alerting.answered_runs([answer]) == {"r1"}
    assert alerting.of_run(lost, ALERTS, answered=True) == ()


def test_a_success_ends_what_was_wrong_with_runs_slots_and_expectations_not_with_the_spec():
    [change] = alerting.of_run(run(Phase.SUCCEEDED), ALERTS)
    assert isinstance(change, EndTroubles)
    assert set(change.subjects) == {"runs", "slots", "success"}


@pytest.mark.parametrize(
    ("alert", "told"),
    [
        (OPS, ["ops"]),
        (replace(OPS, sources=("other",)), []),
        (replace(OPS, sources=()), []),
        (replace(OPS, events=(Occasion.RECOVERED,)), []),
        (replace(OPS, events=()), []),
    ],
)
def test_an_alert_is_told_what_it_asks_for_of_the_sources_it_serves(alert, told):
    changes = alerting.of_run(run(Phase.FAILED), {"ops": alert})
    assert [word.alert for change in changes for word in change.words] == told


def test_what_is_wrong_is_noted_also_when_only_its_end_is_told():
    alerts = {"ops": replace(OPS, events=(Occasion.RECOVERED,))}
    [noted] = alerting.of_run(run(Phase.FAILED), alerts)
    assert isinstance(noted, PutTrouble)
    assert noted.words == ()
    assert occasions(alerting.of_run(run(Phase.SUCCEEDED), alerts)) == [Occasion.RECOVERED]


def condition(type_, status=Status.TRUE, reason="InvalidManifest", message="one.yaml:5:3: oh"):
    return Condition(
        type=type_, status=status, reason=reason, message=message, last_transition_time=NOW
    )


def judged(*conditions, **fields):
    status = WorkflowStatus(source="main", name="nightly", conditions=conditions, **fields)
    return alerting.of_workflow(PutWorkflow(status=status), ALERTS, NOW)


def test_a_workflow_that_stalls_is_told_with_the_place_of_its_fault():
    [_, stalled] = judged(condition("Stalled"))
    assert occasions([stalled]) == [Occasion.STALLED]
    assert stalled.words[0].text == "InvalidManifest: one.yaml:5:3: oh"
    assert stalled.state == "InvalidManifest"


def test_an_overdue_success_is_missed():
    [missed, _] = judged(condition("Missed", reason="NoSuccess"))
    assert occasions([missed]) == [Occasion.MISSED]


def test_a_workflow_that_is_well_or_retired_ends_what_was_wrong_without_a_word():
    well = judged(condition("Ready"))
    assert [type(one) for one in well] == [EndTroubles, EndTroubles]
    [gone] = judged(condition("Stalled"), retired=True)
    assert set(gone.subjects) == {"runs", "slots", "success", "spec"}
    assert occasions((*well, gone)) == []


@pytest.mark.parametrize(
    ("sources", "told"), [(("main",), 1), ((), 1), (("other",), 0)], ids=["its", "own", "other"]
)
def test_a_source_that_stalls_is_told_to_whom_it_concerns(sources, told):
    status = SourceStatus(
        name="main", kind="Git", location="x", conditions=(condition("Stalled", reason="Denied"),)
    )
    alerts = {"ops": replace(OPS, sources=sources)}
    changes = alerting.of_source(PutSource(status=status), alerts, NOW)
    assert occasions(changes) == [Occasion.STALLED] * told


def test_a_source_whose_fetch_is_tried_again_is_no_alert():
    status = SourceStatus(
        name="main",
        kind="Git",
        location="x",
        conditions=(condition("Ready", Status.FALSE), condition("Reconciling")),
    )
    assert occasions(alerting.of_source(PutSource(status=status), ALERTS, NOW)) == []


def test_only_the_sources_of_an_alert_may_name_it():
    declared = Declaration(
        source="main",
        name="nightly",
        file="one.yaml",
        document=0,
        blob="",
        spec_digest="",
        alerts=("ops",),
    )
    assert alerting.alert_fault(declared, ALERTS) is None
    other = replace(declared, source="other")
    assert "is not for source 'other'" in str(alerting.alert_fault(other, ALERTS))
    assert "there is no alert 'ops'" in str(alerting.alert_fault(declared, {}))


ENDS = st.sampled_from([Phase.SUCCEEDED, Phase.FAILED, Phase.ERROR, Phase.CANCELLED])


@given(st.lists(ENDS, max_size=12))
def test_each_state_is_told_once_until_it_changes(ends):
    """The store's rule, in three lines: a state that is known, or no end of one, tells nothing."""
    known: dict[str, str] = {}
    told: list[Occasion] = []
    expected: list[Occasion] = []
    state = None
    for number, phase in enumerate(ends):
        ended = replace(run(phase), id=f"r{number}", finished_at=NOW + timedelta(minutes=number))
        for change in alerting.of_run(ended, ALERTS):
            if isinstance(change, PutTrouble):
                applied = known.get(change.subject) != change.state
                known[change.subject] = change.state
            else:
                applied = any(known.pop(subject, None) for subject in change.subjects)
            told += [word.occasion for word in change.words] if applied else []
        if phase is Phase.SUCCEEDED:
            expected += [Occasion.RECOVERED] if state else []
            state = None
        elif phase is not Phase.CANCELLED and phase is not state:
            expected.append(Occasion(str(phase)))
            state = phase
    assert told == expected


@given(st.sets(st.sampled_from(OCCASIONS)), st.sets(st.sampled_from(["main", "other"])), ENDS)
def test_nobody_is_told_what_he_did_not_ask_for(events, sources, phase):
    alerts = {"ops": Alert(name="ops", secret="s", events=tuple(events), sources=tuple(sources))}
    for change in alerting.of_run(run(phase), alerts):
        for word in change.words:
            assert word.occasion in events
            assert word.source in sources
