"""`expectEvery`: whether a success is overdue."""

from dataclasses import replace
from datetime import datetime

from controller.model.condition import (
    MISSED,
    Condition,
    Status,
    WorkflowStatus,
    drop,
    find,
    put,
)
from controller.model.source import Declaration


def watched(
    before: WorkflowStatus, after: WorkflowStatus, declaration: Declaration, now: datetime
) -> WorkflowStatus:
    """Return the status with the moment from which a success is expected.

    It counts from the first sighting of `expectEvery`, and anew when a workflow comes back or is
    resumed: what was not to run is not missed.
    """
    if declaration.expect_every is None:
        return replace(after, watched_since=None)
    resumed = before.suspended and not after.suspended
    if after.watched_since is None or resumed or before.retired:
        return replace(after, watched_since=now)
    return after


def moment(status: WorkflowStatus, declaration: Declaration) -> datetime | None:
    """Return when a success is overdue; None when none is expected."""
    if declaration.expect_every is None or status.watched_since is None or status.suspended:
        return None
    since = max(filter(None, (status.watched_since, status.last_success_at)))
    return since + declaration.expect_every


def noted(status: WorkflowStatus, declaration: Declaration, now: datetime) -> WorkflowStatus:
    """Return the status with the condition `Missed` while a success is overdue."""
    end, told = moment(status, declaration), find(status.conditions, MISSED) is not None
    overdue = end is not None and end <= now
    if overdue == told or (end is None and not told):
        return status
    if end is None or not overdue:
        return replace(status, conditions=drop(status.conditions, MISSED))
    seen = f"{status.last_success_at:%Y-%m-%dT%H:%M:%SZ}" if status.last_success_at else "never"
    missed = Condition(
        type=MISSED,
        status=Status.TRUE,
        reason="NoSuccess",
        message=f"the last success was seen {seen}; one was expected by {end:%Y-%m-%dT%H:%M:%SZ}",
        last_transition_time=now,
        observed_generation=status.generation,
    )
    return replace(status, conditions=put(status.conditions, missed))
