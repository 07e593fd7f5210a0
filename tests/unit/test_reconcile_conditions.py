"""Judgements of sources and workflows, and the queue and claims beside them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from controller.errors import StalledError, TransientError, UnverifiedError
from controller.model.condition import Health, SourceStatus, Status, Sync, WorkflowStatus, find
from controller.model.run import Phase, Run, Trigger
from controller.model.source import Entry, Fault, Snapshot
from controller.model.workflow import ConcurrencyPolicy, Input
from controller.reconcile import conditions, desired
from controller.reconcile.keys import Index, select
from controller.reconcile.queue import WorkQueue
from controller.reconcile.runs import claimable

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SOURCE = SourceStatus(name="main", kind="Git", location="https://example.com/ops.git")


def snapshot() -> Snapshot:
    return Snapshot(source="main", revision="main@sha1:1", entries={})


def loaded(*faults: Fault) -> desired.Loaded:
    return replace(desired.Loaded.empty("main"), path_faults=faults)


def test_a_source_without_faults_is_ready_at_its_revision():
    status = conditions.applied(SOURCE, loaded(), snapshot(), NOON)
    ready = find(status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == (Status.TRUE, "Applied")
    assert (status.sync, status.health) == (Sync.SYNCED, Health.HEALTHY)
    assert status.last_applied_revision == "main@sha1:1"


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 fault: f0.yaml:1:2: "), (5, "5 faults: f0.yaml:1:2: ")]
)
def test_a_source_with_faults_is_partially_applied_with_their_count_and_the_first(count, words):
    faults = [Fault(file=f"f{n}.yaml", line=1, column=2, problem="is broken") for n in range(count)]
    status = conditions.applied(SOURCE, loaded(*faults), snapshot(), NOON)
    ready = find(status.conditions, "Ready")
    assert ready is not None
    assert ready.reason == "PartiallyApplied"
    assert ready.message.startswith(words)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TransientError("is out of reach", reason="GitUnreachable"), "Reconciling"),
        (StalledError("has no such branch", reason="RefMissing"), "Stalled"),
    ],
)
def test_a_failed_fetch_says_whether_time_or_a_person_heals_it_and_ends_with_a_good_one(
    error, kind
):
    failed = conditions.fetch_failed(SOURCE, error, NOON)
    found = {one.type: one for one in failed.conditions}
    assert set(found) == {"FetchFailed", "Ready", kind}
    assert found["FetchFailed"].reason == found["Ready"].reason == error.reason
    assert found["Ready"].status is Status.FALSE
    later = conditions.fetch_failed(failed, error, NOON + SECOND)
    assert {one.last_transition_time for one in later.conditions} == {NOON}
    healed = conditions.applied(later, loaded(), snapshot(), NOON + 2 * SECOND)
    assert [one.type for one in healed.conditions] == ["Ready"]
    assert healed.conditions[0].last_transition_time == NOON + 2 * SECOND


@pytest.mark.parametrize(
    ("fields", "health"),
    [
        ({}, Health.UNKNOWN),
        ({"last_phase": Phase.SUCCEEDED}, Health.HEALTHY),
        ({"last_phase": Phase.FAILED}, Health.DEGRADED),
        ({"last_phase": Phase.INTERRUPTED}, Health.DEGRADED),
        ({"last_phase": Phase.FAILED, "suspended": True}, Health.SUSPENDED),
        ({"retired": True, "suspended": True}, Health.MISSING),
    ],
)
def test_health_tells_how_finished_runs_went(fields, health):
    assert conditions.health_of(WorkflowStatus(source="main", name="w", **fields)) is health


# The queue and claims.


def test_wake_ups_that_were_replaced_do_not_pile_up():
    queue: WorkQueue[str] = WorkQueue()
    for number in range(10_000):
        queue.add_at("one", NOON + (20_000 - number) * SECOND)
    assert len(queue._heap) < 200
    assert queue.next_at() == NOON + 10_001 * SECOND
    assert queue.pop_ready(NOON + 10_000 * SECOND) == []
    assert queue.pop_ready(NOON + 10_001 * SECOND) == ["one"]


def test_a_key_that_is_ready_and_due_is_looked_at_once():
    queue: WorkQueue[str] = WorkQueue()
    queue.add_at("one", NOON)
    queue.add("one")
    assert queue.pop_ready(NOON) == ["one"]
    assert queue.pop_ready(NOON) == []
    assert queue.next_at() is None


def waiting(number: int, **fields) -> Run:
    run = Run(
        id=f"w{number}-0",
        source="main",
        workflow=f"w{number}",
        trigger=Trigger.SCHEDULE,
        identity="x",
        created_at=NOON,
    )
    return replace(run, **fields)


def test_claims_take_any_iterable_and_never_more_than_are_free():
    runs = (waiting(number) for number in range(10))
    active = (waiting(number, phase=Phase.RUNNING) for number in range(20, 23))
    choice = claimable(
        runs, active, max_runs=5, now=NOON, policy=lambda _: ConcurrencyPolicy.FORBID
    )
    assert [run.id for run in choice.start] == ["w0-0", "w1-0"]
    assert set(choice.waiting.values()) == {"maxParallel.runs (5) are running"}
    assert len(choice.rest) == 8


@pytest.mark.parametrize(
    ("policy", "started"),
    [(ConcurrencyPolicy.FORBID, 1), (ConcurrencyPolicy.QUEUE, 1), (ConcurrencyPolicy.ALLOW, 3)],
)
def test_but_for_allow_one_run_of_a_workflow_is_active(policy, started):
    runs = [waiting(number, workflow="w") for number in range(3)]
    choice = claimable(runs, [], max_runs=10, now=NOON, policy=lambda _: policy)
    assert len(choice.start) == started
    assert set(choice.waiting.values()) <= {"another run of this workflow is active"}


def test_slots_come_in_the_order_of_their_times_not_of_their_making():
    late = waiting(1, scheduled_time=NOON - SECOND)
    early = waiting(2, scheduled_time=NOON - 2 * SECOND, created_at=NOON + SECOND)
    choice = claimable(
        [late, early], [], max_runs=1, now=NOON, policy=lambda _: ConcurrencyPolicy.QUEUE
    )
    assert choice.start == (early,)


# Inputs.


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        ((), ["a.md", "a.py", "sub/a.md", "sub/b/c.py"]),
        (("*.md",), ["a.py", "sub/b/c.py"]),
        (("/*.md",), ["a.py", "sub/a.md", "sub/b/c.py"]),
        (("sub/",), ["a.md", "a.py"]),
        (("*.md", "!sub/a.md"), ["a.py", "sub/a.md", "sub/b/c.py"]),
        (("**/b/**",), ["a.md", "a.py", "sub/a.md"]),
    ],
)
def test_ignore_patterns_are_those_of_gitignore_relative_to_the_input(ignore, left):
    paths = ["in/a.md", "in/a.py", "in/sub/a.md", "in/sub/b/c.py", "in2/a.py", "in", "x"]
    entries = {path: Entry("100644", path) for path in paths if path != "in"}
    assert sorted(select(entries, Input(name="i", path="./in/", ignore=ignore))) == left


def test_an_index_answers_as_a_selection_does_however_often_it_is_asked():
    entries = {f"d{n % 7}/f{n}.py": Entry("100644", str(n)) for n in range(500)}
    index = Index(entries)
    for name in ("d3", "d3", "", "d9", "d3/f3.py"):
        wanted = Input(name="i", path=name, ignore=("*7.py",))
        assert index.digest(wanted) == Index(entries).digest(wanted)
        assert (index.digest(wanted) is None) == (name == "d9")


def test_who_signed_is_told_of_what_is_applied_and_of_what_is_not():
    signed = replace(snapshot(), signer="Alice (key ABCD)")
    status = conditions.applied(SOURCE, loaded(), signed, NOON)
    verified = find(status.conditions, "SourceVerified")
    assert verified is not None
    assert (verified.status, verified.reason) == (Status.TRUE, "Verified")
    assert verified.message == "main@sha1:1 is signed by Alice (key ABCD)"

    error = UnverifiedError("commit 2 is not signed", reason="NoSignature")
    refused = conditions.unverified(status, error, NOON + SECOND)
    told = {
        one.type: (one.status, one.reason)
        for one in refused.conditions
        if one.message.startswith("commit 2 is not signed")
    }
    works = {one.message.partition(" | ")[2] for one in refused.conditions}
    assert works == {"", "main@sha1:1 works on"}
    assert told == {
        "SourceVerified": (Status.FALSE, "NoSignature"),
        "Ready": (Status.FALSE, "NoSignature"),
        "Stalled": (Status.TRUE, "NoSignature"),
    }
    assert refused.last_applied_revision == "main@sha1:1"
    assert (refused.sync, refused.health) == (Sync.OUT_OF_SYNC, Health.DEGRADED)

    again = conditions.applied(refused, loaded(), signed, NOON + 2 * SECOND)
    assert {one.type for one in again.conditions} == {"Ready", "SourceVerified"}
    nobody = conditions.applied(again, loaded(), snapshot(), NOON + 3 * SECOND)
    assert {one.type for one in nobody.conditions} == {"Ready"}


def test_a_revision_that_is_refused_is_an_event_once():
    status = conditions.applied(SOURCE, loaded(), snapshot(), NOON)
    error = UnverifiedError("commit 2 is not signed", reason="NoSignature")
    tried = replace(status, last_attempted_revision="main@sha1:2")
    refused = conditions.unverified(tried, error, NOON)
    event = conditions.refusal(status, refused, NOON)
    assert event is not None
    assert (event.reason, event.source) == ("RevisionRefused", SOURCE.name)
    assert event.message.startswith("main@sha1:2: commit 2 is not signed")
    again = conditions.unverified(refused, error, NOON + SECOND)
    assert conditions.refusal(refused, again, NOON + SECOND) is None
    gone = TransientError("is out of reach", reason="GitUnreachable")
    assert conditions.refusal(refused, conditions.failed(refused, gone, NOON), NOON) is None
    third = conditions.unverified(
        replace(refused, last_attempted_revision="main@sha1:3"), error, NOON
    )
    assert conditions.refusal(refused, third, NOON) is not None


def test_a_remote_that_is_gone_says_nothing_of_signatures():
    error = UnverifiedError("commit 2 is not signed", reason="NoSignature")
    refused = conditions.unverified(SOURCE, error, NOON)
    gone = TransientError("is out of reach", reason="GitUnreachable")
    failed = conditions.fetch_failed(refused, gone, NOON + SECOND)
    verified = find(failed.conditions, "SourceVerified")
    assert verified is not None
    assert verified.status is Status.FALSE
    refused = conditions.unverified(failed, error, NOON + 2 * SECOND)
    assert find(refused.conditions, "FetchFailed") is None
