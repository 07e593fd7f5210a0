"""Whether a workflow may start anything by itself: its manifest, people, failures in a row."""

from datetime import datetime

from controller.model.changes import PutSuspension
from controller.model.condition import AND, SUSPENDED, Suspension, WorkflowStatus, find
from controller.model.source import Declaration

ITSELF = "suspendAfter"


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
    reason = f"{status.failures} runs failed in a row"
    return put(status, Suspension(by=ITSELF, reason=reason, at=now))


def words(declared: str, suspension: Suspension | None) -> tuple[str, str]:
    """Return reason and message of the condition, each who suspends told; two "": nobody does.

    Args:
        declared: what says `suspend: true`; "" when nothing does.
        suspension: what a person, or failures, have done beside it.
    """
    who = "Failures" if suspension is not None and suspension.by == ITSELF else "Command"
    told = {
        "Declaration": declared and f"{declared} says `suspend: true`",
        who: str(suspension or ""),
    }
    found = {reason: text for reason, text in told.items() if text}
    return AND.join(found), " | ".join(found.values())


def declared_by(declaration: Declaration) -> str:
    return declaration.file if declaration.suspended else ""


def is_told(status: WorkflowStatus, declaration: Declaration) -> bool:
    """Tell whether the status says already who suspends the workflow."""
    found = find(status.conditions, SUSPENDED)
    said = (found.reason, found.message) if found is not None else ("", "")
    return said == words(declared_by(declaration), status.suspension)


def put(status: WorkflowStatus, suspension: Suspension | None) -> PutSuspension:
    return PutSuspension(source=status.source, workflow=status.name, suspension=suspension)
