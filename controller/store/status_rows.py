"""What is observed of workflows, sources and instances, to rows and back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from controller.model.condition import (
    Applied,
    Condition,
    Health,
    SourceStatus,
    Status,
    Suspension,
    Sync,
    WorkflowStatus,
)
from controller.store.rows import (
    PHASE,
    Row,
    Values,
    by_value,
    clean,
    json_text,
    maybe_text,
    maybe_time,
    read_map,
    read_time,
    time_text,
)

_STATUS, _SYNC, _HEALTH = by_value(Status), by_value(Sync), by_value(Health)


def conditions_text(conditions: Iterable[Condition]) -> str:
    return json.dumps(
        [
            [
                one.type,
                one.status.value,
                one.reason,
                one.message,
                time_text(one.last_transition_time),
                one.observed_generation,
            ]
            for one in conditions
        ],
        separators=(",", ":"),
    )


@lru_cache(maxsize=2048)  # a pass judges hundreds at one moment: their texts are the same
def read_conditions(text: str) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            type=type_,
            status=_STATUS[status],
            reason=reason,
            message=message,
            last_transition_time=read_time(at),
            observed_generation=generation,
        )
        for type_, status, reason, message, at, generation in json.loads(text)
    )


def workflow_values(status: WorkflowStatus) -> Values:
    """Return the columns that `PutWorkflow` replaces: not what runs, slots and suspensions left."""
    return {
        "source": status.source,
        "name": status.name,
        "file": clean(status.file),
        "generation": status.generation,
        "observed_generation": status.observed_generation,
        "change": status.change,
        "spec_digest": status.spec_digest,
        "inputs": json_text(status.inputs),
        "revision": status.revision,
        "suspended": int(status.suspended),
        "retired": int(status.retired),
        "valid": int(status.valid),
        "conditions": conditions_text(status.conditions),
        "sync": status.sync.value,
        "health": status.health.value,
        "blob": status.blob,
        "document": status.document,
        "answered_change": status.answered_change,
        "watched_since": maybe_text(status.watched_since),
    }


def suspension_text(suspension: Suspension | None) -> str | None:
    if suspension is None:
        return None
    told = {
        "by": suspension.by,
        "reason": suspension.reason,
        "at": time_text(suspension.at),
        "until": maybe_text(suspension.until),
    }
    return json_text(told)


def read_suspension(text: str | None) -> Suspension | None:
    if text is None:
        return None
    told = json.loads(text)
    return Suspension(
        by=told["by"],
        reason=told["reason"],
        at=read_time(told["at"]),
        until=maybe_time(told["until"]),
    )


Slots = Mapping[str, tuple[datetime, str | None]]
"""Schedule -> its newest answered slot, and the key of its last success."""


def read_workflow(row: Row, slots: Slots) -> WorkflowStatus:
    return WorkflowStatus(
        source=row[0],
        name=row[1],
        file=row[2],
        generation=row[3],
        observed_generation=row[4],
        change=row[5],
        spec_digest=row[6],
        inputs=read_map(row[7]),
        revision=row[8],
        suspended=bool(row[9]),
        retired=bool(row[10]),
        valid=bool(row[11]),
        conditions=read_conditions(row[12]),
        sync=_SYNC[row[13]],
        health=_HEALTH[row[14]],
        last_run=row[15],
        last_phase=None if row[16] is None else PHASE[row[16]],
        last_success_at=maybe_time(row[17]),
        last_failure_at=maybe_time(row[18]),
        blob=row[19],
        document=row[20],
        answered_change=row[21],
        suspension=read_suspension(row[22]),
        failures=row[23],
        watched_since=maybe_time(row[24]),
        answered={name: through for name, (through, _) in slots.items()},
        last_keys={name: key for name, (_, key) in slots.items() if key is not None},
    )


def source_values(status: SourceStatus) -> Values:
    return {
        "name": status.name,
        "kind": status.kind,
        "location": clean(status.location),
        "ref": status.ref,
        "generation": status.generation,
        "observed_generation": status.observed_generation,
        "last_attempted_revision": status.last_attempted_revision,
        "last_applied_revision": status.last_applied_revision,
        "suspended": int(status.suspended),
        "conditions": conditions_text(status.conditions),
        "sync": status.sync.value,
        "health": status.health.value,
        "workflows": status.workflows,
        "last_success_at": maybe_text(status.last_success_at),
        "suspension": suspension_text(status.suspension),
        "history": history_text(status.history),
    }


def history_text(history: Iterable[Applied]) -> str:
    return json.dumps(
        [
            [clean(one.revision), time_text(one.at), one.workflows, one.faults, clean(one.signer)]
            for one in history
        ],
        separators=(",", ":"),
    )


def read_history(text: str | None) -> tuple[Applied, ...]:
    return tuple(
        Applied(
            revision=revision,
            at=read_time(at),
            workflows=workflows,
            faults=faults,
            signer=signer,
        )
        for revision, at, workflows, faults, signer in json.loads(text or "[]")
    )


def read_source(row: Row) -> SourceStatus:
    return SourceStatus(
        name=row[0],
        kind=row[1],
        location=row[2],
        ref=row[3],
        generation=row[4],
        observed_generation=row[5],
        last_attempted_revision=row[6],
        last_applied_revision=row[7],
        suspended=bool(row[8]),
        conditions=read_conditions(row[9]),
        sync=_SYNC[row[10]],
        health=_HEALTH[row[11]],
        workflows=row[12],
        last_success_at=maybe_time(row[13]),
        suspension=read_suspension(row[14]),
        history=read_history(row[15]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A process that runs work: a daemon, an `exec`, a program that uses the Python API."""

    id: str
    kind: str  # serve, exec, api
    pid: int
    host: str
    started_at: datetime


def instance_values(instance: Instance) -> Values:
    return {
        "id": instance.id,
        "kind": instance.kind,
        "pid": instance.pid,
        "host": clean(instance.host),
        "started_at": time_text(instance.started_at),
    }


def read_instance(row: Row) -> Instance:
    return Instance(id=row[0], kind=row[1], pid=row[2], host=row[3], started_at=read_time(row[4]))
