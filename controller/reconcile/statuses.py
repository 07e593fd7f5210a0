"""What happened -> what commits are to be told of their work. Pure.

A workflow's status on a commit is that of the run that followed from it. The source's own says
whether everything has been looked at; what a forge sees under its name sums up all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from controller.model.changes import (
    Change,
    OvertakeCommits,
    PutCommitStatus,
    PutWorkflow,
    Unless,
)
from controller.model.condition import Condition, SourceStatus, Status, WorkflowStatus, find
from controller.model.run import Phase, Run, Trigger
from controller.model.word import CommitState, CommitStatus
from controller.reconcile.conditions import is_refused

NAMED = 3
"""How many workflows a summary names."""

UNDER_WAY = "runs that follow from it have not ended"
"""Without figures: each new text would be a request, and forges count those of a commit."""

SKIPPED_WELL = frozenset({"ConditionFalse", "Unchanged"})
"""Why a run that did nothing leaves nothing to be done."""

ENDS = {
    Phase.SUCCEEDED: CommitState.SUCCESS,
    Phase.FAILED: CommitState.FAILURE,
    Phase.ERROR: CommitState.ERROR,
    Phase.INTERRUPTED: CommitState.ERROR,
    Phase.CANCELLED: CommitState.CANCELLED,
}
BAD = (CommitState.FAILURE, CommitState.ERROR, CommitState.CANCELLED)
"""The worst first: what a commit comes to when its work came to several of them."""


def commit_of(revision: str) -> str:
    """Return the commit of `main@sha1:<40 hex>`; "" of a directory's revision."""
    _, mark, commit = revision.rpartition("@sha1:")
    return commit if mark else ""


def of_run(run: Run, at: datetime) -> tuple[PutCommitStatus, ...]:
    """Return what the commit of a run is told of it, as the run is now.

    Only work that follows from a commit is told: the run of its change, that run tried again, and
    a rerun where the commit was told of the workflow before.
    """
    commit = commit_of(run.revision)
    if not commit or run.parent or run.trigger not in {Trigger.CHANGE, Trigger.RERUN}:
        return ()
    status = CommitStatus(
        source=run.source,
        commit=commit,
        workflow=run.workflow,
        state=state_of(run),
        text=text_of(run),
        run=run.id,
        at=at,
    )
    again = run.trigger is Trigger.RERUN
    return (PutCommitStatus(status=status, unless=Unless.UNKNOWN if again else Unless.NOTHING),)


def state_of(run: Run) -> CommitState:
    if not run.phase.terminal:
        return CommitState.PENDING
    if run.phase is Phase.SKIPPED:
        return CommitState.SUCCESS if run.reason in SKIPPED_WELL else CommitState.CANCELLED
    return ENDS[run.phase]


def text_of(run: Run) -> str:
    """Return the description: why, in as few words as there are."""
    if not run.phase.terminal:
        return "waits or runs"
    why = ": ".join(part for part in (run.reason, run.message) if part)
    if why:
        return why
    if run.started_at is None or run.finished_at is None:
        return str(run.phase)
    return f"{run.phase} after {(run.finished_at - run.started_at).total_seconds():.0f} s"


def of_workflow(
    before: WorkflowStatus | None, change: PutWorkflow, commit: str, now: datetime
) -> tuple[PutCommitStatus, ...]:
    """Return what the applied commit is told of a manifest that it broke, or mended."""
    after = change.status
    old, new = fault(before.conditions if before else ()), fault(after.conditions)
    if not commit or after.retired or (old and old.message) == (new and new.message):
        return ()
    status = CommitStatus(
        source=after.source,
        commit=commit,
        workflow=after.name,
        state=CommitState.FAILURE if new else CommitState.SUCCESS,
        text=f"{new.reason}: {new.message}" if new else "the manifest is valid",
        at=now,
    )
    return (PutCommitStatus(status=status),)


def fault(conditions: Iterable[Condition]) -> Condition | None:
    """Return why a manifest is not what its workflow goes by, None when it is."""
    ready = find(conditions, "Ready")
    return ready if ready is not None and ready.status is Status.FALSE else None


def applied(source: str, commit: str, before: str | None, now: datetime) -> tuple[Change, ...]:
    """Return what a commit that is applied is told: that nobody knows yet what follows from it.

    `before` is the commit applied last by this process; after a start it is None, and then the
    first word on the commit counts.
    """
    if not commit or commit == before:
        return ()
    status = CommitStatus(
        source=source,
        commit=commit,
        state=CommitState.PENDING,
        text="what follows from it is being worked out",
        at=now,
    )
    unless = Unless.KNOWN if before is None else Unless.NOTHING
    overtaken = "a newer commit was applied before it was looked at"
    return (
        OvertakeCommits(source=source, commit=commit, text=overtaken, at=now),
        PutCommitStatus(status=status, unless=unless),
    )


def refused(source: SourceStatus, now: datetime) -> tuple[PutCommitStatus, ...]:
    """Return what a commit is told that was fetched and isn't applied: why."""
    commit, why = commit_of(source.last_attempted_revision), fault(source.conditions)
    if not commit or why is None or not is_refused(source):
        return ()
    problem = why.message.partition(" | ")[0].removeprefix(f"{source.location}: ")
    status = CommitStatus(
        source=source.name,
        commit=commit,
        state=CommitState.FAILURE,
        text=f"not applied: {why.reason}: {problem}",
        at=now,
    )
    return (PutCommitStatus(status=status),)


def looked_at(source: SourceStatus, commit: str, now: datetime) -> tuple[PutCommitStatus, ...]:
    """Return the source's own word on a commit once every workflow that it touches was passed."""
    ready = fault(source.conditions)
    partly = ready is not None and ready.reason == "PartiallyApplied"
    status = CommitStatus(
        source=source.name,
        commit=commit,
        state=CommitState.FAILURE if partly else CommitState.SUCCESS,
        text=ready.message if ready is not None and partly else "",
        at=now,
    )
    return (PutCommitStatus(status=status),)


def summary(
    own: CommitStatus, counts: Mapping[CommitState, int], bad: Sequence[str]
) -> tuple[CommitState, str]:
    """Return what a commit's forge sees under the source's name.

    It is green only when everything was looked at and no work is left to do.

    Args:
        own: the source's own word on the commit.
        counts: how many of its workflows are in which state.
        bad: some that didn't succeed, by name.
    """
    work = sum(counts.values())
    if own.state is CommitState.PENDING:
        return CommitState.PENDING, own.text
    if counts.get(CommitState.PENDING):
        return CommitState.PENDING, UNDER_WAY
    worst = next((state for state in BAD if counts.get(state)), None)
    if own.state is CommitState.FAILURE:
        return CommitState.FAILURE, own.text
    if worst is None and own.state is CommitState.CANCELLED:
        return CommitState.CANCELLED, own.text
    if worst is None:
        return CommitState.SUCCESS, f"{work} of {work} succeeded" if work else "nothing to do"
    failed = sum(counts.get(state, 0) for state in BAD)
    names = ", ".join(bad[:NAMED]) + (", ..." if failed > NAMED else "")
    return worst, f"{failed} of {work} did not succeed: {names}"
