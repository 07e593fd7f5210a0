"""Rows as JSON objects, with the names of the command line's and the API's contract."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from controller.model.cache import CacheEntry
from controller.model.cause import cause
from controller.model.condition import (
    ORPHANED,
    Applied,
    Condition,
    Health,
    SourceStatus,
    Suspension,
    WorkflowStatus,
    find,
    source_health,
    suspended_by,
)
from controller.model.run import Event, Run, StepRun
from controller.model.source import Fault
from controller.model.token import Token

View = dict[str, Any]


def time(moment: datetime | None) -> str | None:
    """Return a moment in RFC 3339, UTC, to the millisecond where it has one."""
    if moment is None:
        return None
    spec = "milliseconds" if moment.microsecond else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=spec).replace("+00:00", "Z")


def condition_view(condition: Condition) -> View:
    return {
        "type": condition.type,
        "status": str(condition.status),
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": time(condition.last_transition_time),
        "observedGeneration": condition.observed_generation,
    }


def source_view(status: SourceStatus, inventory: Iterable[WorkflowStatus] | None = None) -> View:
    """Return a source; with the workflows that it holds, and its past, when they are given."""
    shown = _source_view(status)
    if inventory is not None:
        shown["history"] = [applied_view(one) for one in status.history]
        shown["inventory"] = [held_view(one) for one in inventory]
    return shown


def applied_view(one: Applied) -> View:
    return {
        "revision": one.revision,
        "appliedAt": time(one.at),
        "workflows": one.workflows,
        "faults": one.faults,
        "signer": one.signer or None,
    }


def held_view(status: WorkflowStatus) -> View:
    """Return a workflow as its source's inventory lists it."""
    return {
        "name": status.name,
        "file": status.file,
        "generation": status.generation,
        "revision": status.revision,
        "sync": str(status.sync),
        "health": str(status.health),
        "orphaned": find(status.conditions, ORPHANED) is not None,
    }


def _source_view(status: SourceStatus) -> View:
    return {
        "source": status.name,
        "name": status.name,
        "kind": status.kind,
        "location": status.location,
        "ref": status.ref,
        "generation": status.generation,
        "observedGeneration": status.observed_generation,
        "lastAttemptedRevision": status.last_attempted_revision,
        "lastAppliedRevision": status.last_applied_revision,
        "suspended": status.suspended,
        "suspendedBy": list(suspended_by(status.conditions)),
        "suspension": suspension_view(status.suspension),
        "sync": str(status.sync),
        "health": str(source_health(status)),
        "workflows": status.workflows,
        "lastSuccessAt": time(status.last_success_at),
        "conditions": [condition_view(one) for one in status.conditions],
    }


def suspension_view(suspension: Suspension | None) -> View | None:
    if suspension is None:
        return None
    return {
        "by": suspension.by,
        "reason": suspension.reason,
        "at": time(suspension.at),
        "until": time(suspension.until),
    }


def workflow_view(status: WorkflowStatus, *, active: int = 0) -> View:
    """Return a workflow; `active` is how many of its runs are Pending or Running."""
    busy = active and not status.suspended and not status.retired
    return {
        "source": status.source,
        "name": status.name,
        "file": status.file,
        "generation": status.generation,
        "observedGeneration": status.observed_generation,
        "change": status.change,
        "revision": status.revision,
        "suspended": status.suspended,
        "suspendedBy": list(suspended_by(status.conditions)),
        "suspension": suspension_view(status.suspension),
        "failures": status.failures,
        "retired": status.retired,
        "sync": str(status.sync),
        "health": str(Health.PROGRESSING if busy else status.health),
        "active": active,
        "lastRun": status.last_run,
        "lastPhase": str(status.last_phase) if status.last_phase else None,
        "lastSuccessAt": time(status.last_success_at),
        "lastFailureAt": time(status.last_failure_at),
        "inputs": dict(status.inputs),
        "conditions": [condition_view(one) for one in status.conditions],
    }


def step_view(step: StepRun) -> View:
    return {
        "name": step.name,
        "section": str(step.section),
        "phase": str(step.phase),
        "reason": step.reason,
        "exitCode": step.exit_code,
        "attempts": step.attempts,
        "cached": step.cached,
        "cache": dict(step.cache) or None,
        "outputs": dict(step.outputs),
        "artifacts": dict(step.artifacts),
        "error": step.error,
        "matrix": dict(step.matrix) if step.matrix is not None else None,
        "startedAt": time(step.started_at),
        "finishedAt": time(step.finished_at),
    }


def run_view(run: Run, steps: Iterable[StepRun] | None = None) -> View:
    """Return a run; with its steps when they are given."""
    view: View = {
        "id": run.id,
        "source": run.source,
        "workflow": run.workflow,
        "phase": str(run.phase),
        "reason": run.reason,
        "message": run.message,
        "trigger": str(run.trigger),
        "cause": dict(cause(run)),
        "revision": run.revision,
        "generation": run.generation,
        "change": run.change,
        "schedule": run.schedule,
        "scheduledTime": time(run.scheduled_time),
        "params": dict(run.params),
        "priority": run.priority,
        "group": run.group,
        "fresh": run.fresh,
        "rerunOf": run.rerun_of,
        "parent": run.parent,
        "executor": run.executor,
        "inputs": dict(run.inputs),
        "versions": dict(run.versions),
        "outputs": dict(run.outputs),
        "createdAt": time(run.created_at),
        "startedAt": time(run.started_at),
        "finishedAt": time(run.finished_at),
    }
    if steps is not None:
        view["steps"] = [step_view(step) for step in steps]
    return view


def event_view(event: Event) -> View:
    return {
        "id": event.id,
        "time": time(event.at),
        "reason": event.reason,
        "source": event.source,
        "workflow": event.workflow,
        "run": event.run,
        "step": event.step,
        "message": event.message,
        "data": dict(event.data),
    }


def cache_view(entry: CacheEntry, *, whole: bool = False) -> View:
    """Return a kept result of a step; with `whole` also the parts of its key, and what it holds."""
    shown: View = {
        "source": entry.source,
        "name": entry.key,
        "ref": entry.ref,
        "workflow": entry.workflow,
        "step": entry.step,
        "run": entry.run,
        "seconds": round(entry.seconds, 3),
        "size": entry.size,
        "createdAt": time(entry.created_at),
        "lastUsedAt": time(entry.last_used_at),
        "expiresAt": time(entry.expires_at),
    }
    if whole:
        shown |= {
            "exitCode": entry.exit_code,
            "parts": dict(entry.parts),
            "outputs": dict(entry.outputs),
            "artifacts": dict(entry.artifacts),
            "log": entry.log,
            "logTruncated": entry.log_truncated,
        }
    return shown


def token_view(token: Token) -> View:
    """Return what may be told of a token of the API."""
    return {
        "name": token.name,
        "role": token.role.word,
        "createdAt": time(token.created_at),
        "expiresAt": time(token.expires_at),
    }


def slot_view(workflow: str, cron: str, time_zone: str, moments: tuple[datetime, datetime]) -> View:
    """Return a coming slot; `moments` are the slot and when it starts (slot + jitter)."""
    slot, starts = moments
    return {
        "workflow": workflow,
        "cron": cron,
        "timeZone": time_zone,
        "time": time(slot),
        "startsAt": time(starts),
    }


def log_view(
    line: Mapping[str, Any], *, run: Run, step: str, attempt: int, matrix: Any = None
) -> View:
    """Return one line of an attempt's log, with the keys of the daemon's own log."""
    view = {
        "time": line["time"],
        "level": "info",
        "event": "step_output" if line["stream"] else "step_note",
        "source": run.source,
        "workflow": run.workflow,
        "run": run.id,
        "step": step,
        "attempt": attempt,
        "stream": line["stream"],
        "line": line["line"],
    }
    return {**view, "matrix": matrix} if matrix is not None else view


def fault_view(fault: Fault) -> View:
    """Return a fault as `validate` and `plan` list it."""
    return {
        "file": fault.file,
        "line": fault.line,
        "column": fault.column,
        "pointer": fault.pointer,
        "problem": fault.problem,
        "remedy": fault.remedy,
    }
