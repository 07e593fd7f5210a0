"""What commits are told: pending until the work has run, and what it came to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.model.changes import OvertakeCommits, PutCommitStatus, PutWorkflow, Unless
from controller.model.condition import Condition, SourceStatus, Status, WorkflowStatus
from controller.model.run import Phase, Run, Trigger
from controller.model.word import CommitState, CommitStatus
from controller.reconcile import statuses

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
COMMIT = "a" * 40
RUN = Run(
    id="r1",
    source="main",
    workflow="nightly",
    trigger=Trigger.CHANGE,
    identity="change:1",
    revision=f"main@sha1:{COMMIT}",
    created_at=NOW,
)


@pytest.mark.parametrize(
    ("revision", "commit"),
    [(f"main@sha1:{COMMIT}", COMMIT), ("sha256:" + "b" * 64, ""), ("", "")],
)
def test_only_git_has_commits(revision, commit):
    assert statuses.commit_of(revision) == commit
    assert bool(statuses.of_run(replace(RUN, revision=revision), NOW)) is bool(commit)


@pytest.mark.parametrize(
    ("phase", "reason", "state"),
    [
        (Phase.PENDING, "", CommitState.PENDING),
        (Phase.RUNNING, "", CommitState.PENDING),
        (Phase.SUCCEEDED, "", CommitState.SUCCESS),
        (Phase.FAILED, "", CommitState.FAILURE),
        (Phase.ERROR, "", CommitState.ERROR),
        (Phase.INTERRUPTED, "", CommitState.ERROR),
        (Phase.CANCELLED, "", CommitState.CANCELLED),
        (Phase.SKIPPED, "ConditionFalse", CommitState.SUCCESS),
        (Phase.SKIPPED, "Superseded", CommitState.CANCELLED),
        (Phase.SKIPPED, "Retired", CommitState.CANCELLED),
    ],
)
def test_a_run_is_told_as_its_phase_says(phase, reason, state):
    [put] = statuses.of_run(replace(RUN, phase=phase, reason=reason), NOW)
    assert put.status.state is state
    assert (put.status.commit, put.status.workflow, put.status.run) == (COMMIT, "nightly", "r1")


@pytest.mark.parametrize("trigger", Trigger)
def test_only_work_that_follows_from_the_commit_is_told(trigger):
    told = statuses.of_run(replace(RUN, trigger=trigger), NOW)
    if trigger is Trigger.CHANGE:
        assert [one.unless for one in told] == [Unless.NOTHING]
    elif trigger is Trigger.RERUN:
        assert [one.unless for one in told] == [Unless.UNKNOWN]
    else:
        assert told == ()


def test_a_run_that_is_a_step_tells_nothing():
    assert statuses.of_run(replace(RUN, parent="r0"), NOW) == ()


def test_a_description_says_why_else_how_long():
    ended = replace(
        RUN, phase=Phase.SUCCEEDED, started_at=NOW, finished_at=NOW + timedelta(hours=1)
    )
    assert statuses.text_of(ended) == "Succeeded after 3600 s"
    failed = replace(ended, phase=Phase.FAILED, reason="Timeout", message="over its timeout")
    assert statuses.text_of(failed) == "Timeout: over its timeout"


def ready(status, message="", reason="InvalidManifest"):
    return Condition(
        type="Ready", status=status, reason=reason, message=message, last_transition_time=NOW
    )


def judged(*conditions, **fields):
    return WorkflowStatus(source="main", name="nightly", conditions=conditions, **fields)


WELL, BROKEN = judged(ready(Status.TRUE)), judged(ready(Status.FALSE, "one.yaml:5:3: oh"))


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        (None, WELL, None),
        (WELL, WELL, None),
        (BROKEN, BROKEN, None),
        (None, BROKEN, CommitState.FAILURE),
        (WELL, BROKEN, CommitState.FAILURE),
        (BROKEN, judged(ready(Status.FALSE, "one.yaml:6:3: other")), CommitState.FAILURE),
        (BROKEN, WELL, CommitState.SUCCESS),
        (BROKEN, replace(WELL, retired=True), None),
    ],
)
def test_the_commit_that_breaks_or_mends_a_manifest_is_told_so(before, after, state):
    told = statuses.of_workflow(before, PutWorkflow(status=after), COMMIT, NOW)
    assert [one.status.state for one in told] == ([state] if state else [])
    if state is CommitState.FAILURE:
        assert told[0].status.text.startswith("InvalidManifest: one.yaml:")


def test_a_commit_that_is_applied_is_pending_and_overtakes_the_others():
    overtaken, put = statuses.applied("main", COMMIT, "b" * 40, NOW)
    assert isinstance(overtaken, OvertakeCommits)
    assert isinstance(put, PutCommitStatus)
    assert (put.status.state, put.status.workflow, put.unless) == (
        CommitState.PENDING,
        "",
        Unless.NOTHING,
    )
    assert statuses.applied("main", COMMIT, COMMIT, NOW) == ()
    assert statuses.applied("main", "", None, NOW) == ()


def test_after_a_start_the_first_word_on_a_commit_counts():
    [_, put] = statuses.applied("main", COMMIT, None, NOW)
    assert isinstance(put, PutCommitStatus)
    assert put.unless is Unless.KNOWN


def source(*conditions):
    return SourceStatus(name="main", kind="Git", location="x", conditions=conditions)


def test_a_source_with_faults_is_told_with_them():
    faults = ready(Status.FALSE, "1 fault: one.yaml:5:3: oh", "PartiallyApplied")
    [put] = statuses.looked_at(source(faults), COMMIT, NOW)
    assert (put.status.state, put.status.text) == (CommitState.FAILURE, faults.message)
    [put] = statuses.looked_at(source(ready(Status.TRUE)), COMMIT, NOW)
    assert (put.status.state, put.status.text) == (CommitState.SUCCESS, "")


def own(state, text=""):
    return CommitStatus(source="main", commit=COMMIT, state=state, text=text, at=NOW)


@pytest.mark.parametrize(
    ("state", "counts", "told"),
    [
        ("Pending", {}, ("Pending", "?")),
        ("Pending", {"Failure": 1}, ("Pending", "?")),
        ("Success", {}, ("Success", "nothing to do")),
        ("Success", {"Success": 2}, ("Success", "2 of 2 succeeded")),
        ("Success", {"Pending": 1, "Success": 1}, ("Pending", statuses.UNDER_WAY)),
        ("Success", {"Pending": 2, "Failure": 1}, ("Pending", statuses.UNDER_WAY)),
        ("Success", {"Failure": 1, "Success": 1}, ("Failure", "1 of 2 did not succeed: x")),
        ("Success", {"Error": 1, "Failure": 1}, ("Failure", "2 of 2 did not succeed: x")),
        ("Success", {"Cancelled": 5}, ("Cancelled", "5 of 5 did not succeed: x, ...")),
        ("Failure", {"Success": 1}, ("Failure", "?")),
        ("Failure", {"Pending": 1}, ("Pending", statuses.UNDER_WAY)),
        ("Cancelled", {}, ("Cancelled", "?")),
        ("Cancelled", {"Success": 1}, ("Cancelled", "?")),
        ("Cancelled", {"Failure": 1}, ("Failure", "1 of 1 did not succeed: x")),
    ],
)
def test_a_summary_says_the_worst_once_nothing_is_left(state, counts, told):
    given_ = {CommitState(name): count for name, count in counts.items()}
    found = statuses.summary(own(CommitState(state), "?"), given_, ["x"] if counts else [])
    assert (str(found[0]), found[1]) == told


STATES = st.sampled_from(CommitState)


@given(STATES, st.dictionaries(STATES, st.integers(0, 9)))
def test_a_summary_is_green_only_when_everything_is_done_and_good(state, counts):
    found, _ = statuses.summary(own(state), counts, [])
    work = {one for one, count in counts.items() if count}
    green = state is CommitState.SUCCESS and work <= {CommitState.SUCCESS}
    if state is not CommitState.ERROR:  # a source never says this of itself
        assert (found is CommitState.SUCCESS) is green
    waits = state is CommitState.PENDING or CommitState.PENDING in work
    assert (found is CommitState.PENDING) is waits
