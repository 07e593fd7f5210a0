"""Ends of upstream runs -> runs of the workflow that they trigger. Pure.

Two kinds of rows stand among those of the schedules: a marker, since when a trigger is followed (a
first sighting counts from now), and each end that is open, until it is answered. One end is (run
id, its time): a run that is retried and ends again is another end.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from controller.errors import StalledError
from controller.manifest.expression import render
from controller.model.changes import AnswerSchedule, ForgetSchedule
from controller.model.condition import WorkflowStatus
from controller.model.run import Phase, Run, Trigger
from controller.model.source import Declaration
from controller.model.workflow import Upstream

PREFIX = "upstream:"
OPEN = "end:"
Mark = AnswerSchedule | ForgetSchedule


class Due(NamedTuple):
    """An end that starts a run, and the trigger that wants it."""

    trigger: Upstream
    end: Run


def key_of(source: str, trigger: Upstream) -> tuple[str, str]:
    """Return (source, workflow) of what a trigger waits for."""
    there, _, name = trigger.workflow.rpartition("/")
    return (there or source, name)


def marker(source: str, trigger: Upstream) -> str:
    """Return the name under which is kept that a trigger is followed; no schedule has such."""
    return PREFIX + "/".join(key_of(source, trigger))


def followed(name: str) -> tuple[str, str] | None:
    """Return (source, workflow) of the upstream that a marker is of; None for another name."""
    if not name.startswith(PREFIX):
        return None
    source, _, workflow = name.removeprefix(PREFIX).rpartition("/")
    return source, workflow


def open_name(end: Run) -> str:
    """Return the name under which an end is open; no schedule has such."""
    return f"{OPEN}{end.id}:{ended_at(end).isoformat()}"


def opened(key: tuple[str, str], end: Run) -> AnswerSchedule:
    """Return what opens an end for the workflow of that key."""
    source, workflow = key
    return AnswerSchedule(
        source=source, workflow=workflow, schedule=open_name(end), through=ended_at(end)
    )


def run_of(name: str) -> str | None:
    """Return the id of the run whose open end has this name; None for another name."""
    return name.removeprefix(OPEN).partition(":")[0] if name.startswith(OPEN) else None


def names(declaration: Declaration, ends: tuple[Run, ...]) -> set[str]:
    """Return the names of rows that are not schedules and yet have their use."""
    return {
        name
        for one in declaration.upstreams
        for name in (
            marker(declaration.source, one),
            *map(open_name, ends_of(declaration, one, ends)),
        )
    }


def ended_at(end: Run) -> datetime:
    return end.finished_at or end.created_at


def end_order(end: Run) -> tuple[datetime, str]:
    return ended_at(end), end.id


def ends_of(declaration: Declaration, trigger: Upstream, ends: tuple[Run, ...]) -> list[Run]:
    """Return the ends of a trigger's upstream, in any phase, oldest first."""
    key = key_of(declaration.source, trigger)
    return sorted((end for end in ends if (end.source, end.workflow) == key), key=end_order)


def answers(
    declaration: Declaration, status: WorkflowStatus, ends: tuple[Run, ...], now: datetime
) -> tuple[list[Mark], list[Due]]:
    """Return what this pass follows and answers, and the ends that start runs, oldest first.

    While suspended the newest wanted end, and what came later, stays open: it runs at resume.
    """
    marks: list[Mark] = []
    due: list[Due] = []
    for trigger in declaration.upstreams:
        name = marker(declaration.source, trigger)
        seen = ends_of(declaration, trigger, ends)
        wanted = [end for end in seen if end.phase in trigger.phases]
        if name not in status.answered:
            marks.append(sighted(declaration, name, now))
            wanted = []
        elif status.suspended and wanted:
            seen, wanted = seen[: seen.index(wanted[-1])], []
        marks += [answered(declaration, end) for end in seen]
        due += [Due(trigger, end) for end in wanted]
    return marks, sorted(due, key=lambda one: end_order(one.end))


def sighted(declaration: Declaration, name: str, now: datetime) -> AnswerSchedule:
    source, workflow = declaration.key
    return AnswerSchedule(source=source, workflow=workflow, schedule=name, through=now)


def answered(declaration: Declaration, end: Run) -> ForgetSchedule:
    source, workflow = declaration.key
    return ForgetSchedule(source=source, workflow=workflow, schedule=open_name(end))


def identity(end: Run) -> str:
    return f"{PREFIX}{end.id}:{ended_at(end).isoformat()}"


def triggered(run: Run, due: Due) -> Run:
    """Return the new `run` with the trigger's params; one that gives no value makes it an Error."""
    trigger, end = due
    try:
        params = {name: render(value, scope(end)) for name, value in trigger.params.items()}
    except StalledError as error:
        return replace(
            run,
            phase=Phase.ERROR,
            reason="InvalidParams",
            message=f"a param of the trigger by {end.id}: {error}",
            finished_at=run.created_at,
        )
    return replace(run, params=params)


def scope(end: Run) -> dict[str, dict[str, object]]:
    """Return `upstream` as the expressions of a trigger's params see it."""
    return {
        "upstream": {
            "run": end.id,
            "phase": str(end.phase),
            "outputs": end.outputs,
            "scheduledTime": end.logical_time,
            "revision": end.revision,
        }
    }


def superseded(waiting: list[Run]) -> Iterator[Run]:
    """Yield the runs that a newer upstream's end takes the place of; a lost run's rerun stays."""
    return (run for run in waiting if run.trigger is Trigger.UPSTREAM and run.rerun_of is None)
