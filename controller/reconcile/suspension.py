"""Whether a workflow may start anything by itself: its manifest, people, failures in a row."""

from datetime import datetime

from controller.model.changes import PutSuspension
from controller.model.condition import Suspension, WorkflowStatus
from controller.model.source import Declaration

ITSELF = "rondel"


def is_suspended(status: WorkflowStatus, declaration: Declaration) -> bool:
    return declaration.suspended or status.suspension is not None


def due(status: WorkflowStatus, declaration: Declaration, now: datetime) -> PutSuspension | None:
    """Return the suspension that begins or ends by itself at this moment, if one does."""
    if status.suspension is not None:
        until = status.suspension.until
        return put(status, None) if until is not None and until <= now else None
    most = declaration.suspend_after
    if most is None or status.failures < most:
        return None
    reason = f"suspendAfter: {status.failures} runs failed in a row"
    return put(status, Suspension(by=ITSELF, reason=reason, at=now))


def put(status: WorkflowStatus, suspension: Suspension | None) -> PutSuspension:
    return PutSuspension(source=status.source, workflow=status.name, suspension=suspension)
