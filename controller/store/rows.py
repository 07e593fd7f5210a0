"""Model objects to rows and back, by hand: ten thousand at a time must cost milliseconds."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, TypeVar

from controller.model.run import Attempt, Event, Phase, Run, Section, StepRun, Trigger
from controller.model.workflow import Json

Row = Sequence[Any]
Values = dict[str, Any]

E = TypeVar("E", bound=Enum)


def by_value(kind: type[E]) -> dict[str, E]:
    return {member.value: member for member in kind}


PHASE, _TRIGGER, _SECTION = by_value(Phase), by_value(Trigger), by_value(Section)


def time_text(moment: datetime) -> str:
    """Return RFC 3339 in UTC with six decimals. Raises ValueError for a naive time."""
    if moment.tzinfo is not UTC:
        if moment.tzinfo is None:
            raise ValueError(f"{moment!r} has no time zone")
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def maybe_text(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)


read_time = datetime.fromisoformat


def maybe_time(text: str | None) -> datetime | None:
    return None if text is None else read_time(text)


def json_text(value: Json) -> str:
    """Return canonical JSON in ASCII: a lone surrogate is legal in JSON and not in UTF-8."""
    if not value and value == {}:
        return "{}"
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _maybe_json(value: Json) -> str | None:
    return None if value is None else json_text(value)


def read_map(text: str) -> dict[str, Json]:
    return {} if text == "{}" else json.loads(text)


def clean(text: str) -> str:
    """Return `text` as every database takes it: no NUL, no lone surrogate."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def run_values(run: Run, spec: str) -> Values:
    """Return the run's columns; `spec` is the digest its spec is kept under."""
    return {
        "id": run.id,
        "source": run.source,
        "workflow": run.workflow,
        "trigger": run.trigger.value,
        "identity": clean(run.identity),
        "phase": run.phase.value,
        "reason": run.reason,
        "message": clean(run.message),
        "revision": run.revision,
        "spec_digest": run.spec_digest,
        "generation": run.generation,
        "change": run.change,
        "schedule": run.schedule,
        "scheduled_time": maybe_text(run.scheduled_time),
        "time_zone": run.time_zone,
        "not_before": maybe_text(run.not_before),
        "params": json_text(run.params),
        "priority": run.priority,
        "fresh": int(run.fresh),
        "rerun_of": run.rerun_of,
        "executor": run.executor,
        "instance": run.instance,
        "spec": spec,
        "inputs": json_text(run.inputs),
        "versions": json_text(run.versions),
        "outputs": json_text(run.outputs),
        "created_at": time_text(run.created_at),
        "started_at": maybe_text(run.started_at),
        "finished_at": maybe_text(run.finished_at),
        "parent": run.parent,
        "concurrency_group": run.group,
    }


def read_run(row: Row, spec: str = "") -> Run:
    """Return the run of a row in the order of `tables.run`'s columns."""
    return Run(
        id=row[0],
        source=row[1],
        workflow=row[2],
        trigger=_TRIGGER[row[3]],
        identity=row[4],
        phase=PHASE[row[5]],
        reason=row[6],
        message=row[7],
        revision=row[8],
        spec_digest=row[9],
        generation=row[10],
        change=row[11],
        schedule=row[12],
        scheduled_time=maybe_time(row[13]),
        time_zone=row[14],
        not_before=maybe_time(row[15]),
        params=read_map(row[16]),
        priority=row[17],
        fresh=bool(row[18]),
        rerun_of=row[19],
        executor=row[20],
        instance=row[21],
        spec=spec,
        inputs=read_map(row[23]),
        versions=read_map(row[24]),
        outputs=read_map(row[25]),
        created_at=read_time(row[26]),
        started_at=maybe_time(row[27]),
        finished_at=maybe_time(row[28]),
        parent=row[29],
        group=row[30],
    )


def step_values(step: StepRun) -> Values:
    return {
        "run": step.run,
        "name": step.name,
        "index": step.index,
        "section": step.section.value,
        "position": step.position,
        "matrix": _maybe_json(step.matrix),
        "phase": step.phase.value,
        "reason": step.reason,
        "exit_code": step.exit_code,
        "attempts": step.attempts,
        "cached": int(step.cached),
        "outputs": json_text(step.outputs),
        "artifacts": json_text(step.artifacts),
        "error": clean(step.error),
        "started_at": maybe_text(step.started_at),
        "finished_at": maybe_text(step.finished_at),
        "cache": json_text(step.cache),
    }


def read_step(row: Row) -> StepRun:
    return StepRun(
        run=row[0],
        name=row[1],
        index=row[2],
        section=_SECTION[row[3]],
        position=row[4],
        matrix=None if row[5] is None else json.loads(row[5]),
        phase=PHASE[row[6]],
        reason=row[7],
        exit_code=row[8],
        attempts=row[9],
        cached=bool(row[10]),
        outputs=read_map(row[11]),
        artifacts=read_map(row[12]),
        error=row[13],
        started_at=maybe_time(row[14]),
        finished_at=maybe_time(row[15]),
        cache=read_map(row[16]),
    )


def attempt_values(attempt: Attempt) -> Values:
    return {
        "run": attempt.run,
        "step": attempt.step,
        "index": attempt.index,
        "number": attempt.number,
        "nonce": attempt.nonce,
        "phase": attempt.phase.value,
        "reason": attempt.reason,
        "exit_code": attempt.exit_code,
        "error": clean(attempt.error),
        "log": attempt.log,
        "log_truncated": int(attempt.log_truncated),
        "started_at": time_text(attempt.started_at),
        "finished_at": maybe_text(attempt.finished_at),
    }


def read_attempt(row: Row) -> Attempt:
    return Attempt(
        run=row[0],
        step=row[1],
        index=row[2],
        number=row[3],
        nonce=row[4],
        phase=PHASE[row[5]],
        reason=row[6],
        exit_code=row[7],
        error=row[8],
        log=row[9],
        log_truncated=bool(row[10]),
        started_at=read_time(row[11]),
        finished_at=maybe_time(row[12]),
    )


def event_values(event: Event) -> Values:
    """Return the event's columns but for the id, which the database gives."""
    return {
        "at": time_text(event.at),
        "reason": event.reason,
        "source": event.source,
        "workflow": event.workflow,
        "run": event.run,
        "step": event.step,
        "message": clean(event.message),
        "data": json_text(event.data),
    }


def read_event(row: Row) -> Event:
    return Event(
        id=row[0],
        at=read_time(row[1]),
        reason=row[2],
        source=row[3],
        workflow=row[4],
        run=row[5],
        step=row[6],
        message=row[7],
        data=read_map(row[8]),
    )
