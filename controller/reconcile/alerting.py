"""What happened -> which alerts are due. Pure; the store tells each state once, until it changes.

What is wrong with a workflow has subjects, each in one state at a time:

- runs: `Failed` or `Error`, as its last run that failed ended; a success ends it.
- slots: `Missed`, when a slot was too late to start; a success ends it.
- success: `Missed`, while one is overdue (`expectEvery`).
- spec: the reason for which it is stalled. A source has this one too.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from controller import digest
from controller.model.changes import (
    Change,
    CreateRun,
    EndTroubles,
    FinishRun,
    PutSource,
    PutTrouble,
    PutWorkflow,
)
from controller.model.condition import MISSED, Condition, Status, find
from controller.model.run import Phase, Run
from controller.model.settings import Alert
from controller.model.source import Declaration, Fault
from controller.model.word import Occasion, Word

RUNS, SLOTS, SUCCESS, SPEC = "runs", "slots", "success", "spec"
TOO_LATE = "DeadlineExceeded"
BAD_ENDS = {
    Phase.FAILED: Occasion.FAILED,
    Phase.ERROR: Occasion.ERROR,
    Phase.INTERRUPTED: Occasion.ERROR,  # one that no other run takes the place of
}
Alerts: TypeAlias = Mapping[str, Alert]
Telling: TypeAlias = PutTrouble | EndTroubles


def of_run(run: Run, alerts: Alerts, *, answered: bool = False) -> tuple[Telling, ...]:
    """Return what is told of a run that has ended.

    Args:
        run: as it ended.
        alerts: those of the configuration.
        answered: whether another run takes its place.
    """
    if not serving(alerts, run.source):
        return ()
    if run.phase is Phase.SUCCEEDED:
        told = words_of(run, Occasion.RECOVERED, alerts)
        return (end(run.source, run.workflow, (RUNS, SLOTS, SUCCESS), told),)
    if run.phase is Phase.SKIPPED and run.reason == TOO_LATE:
        return (trouble(run, SLOTS, Occasion.MISSED, alerts),)
    if run.phase in BAD_ENDS and not answered:
        return (trouble(run, RUNS, BAD_ENDS[run.phase], alerts),)
    return ()


def of_workflow(change: PutWorkflow, alerts: Alerts, now: datetime) -> tuple[Telling, ...]:
    """Return what is told of a workflow that was judged anew; of a retired one nothing is wrong."""
    status = change.status
    source, name = status.source, status.name
    if not serving(alerts, source):
        return ()
    if status.retired:
        return (end(source, name, (RUNS, SLOTS, SUCCESS, SPEC)),)
    found = {
        SUCCESS: (Occasion.MISSED, find(status.conditions, MISSED)),
        SPEC: (Occasion.STALLED, stalled(status.conditions)),
    }
    return tuple(
        end(source, name, (subject,))
        if condition is None
        else judged(source, name, subject, occasion, condition, alerts, now)
        for subject, (occasion, condition) in found.items()
    )


def of_source(change: PutSource, alerts: Alerts, now: datetime) -> tuple[Telling, ...]:
    """Return what is told of a source that was looked at. Faults of its workflows are theirs."""
    source = change.status.name
    if not any(hears_of_source(one, source) for one in alerts.values()):
        return ()
    condition = find(change.status.conditions, "Stalled")
    if condition is None or condition.status is not Status.TRUE:
        return (end(source, "", (SPEC,)),)
    return (judged(source, "", SPEC, Occasion.STALLED, condition, alerts, now),)


def stalled(conditions: Iterable[Condition]) -> Condition | None:
    """Return why nothing goes on until a person acts, None when it does."""
    found = find(conditions, "Stalled")
    return found if found is not None and found.status is Status.TRUE else None


def serving(alerts: Alerts, source: str) -> bool:
    return any(source in one.sources for one in alerts.values())


def hears_of_source(alert: Alert, source: str) -> bool:
    """Without sources it is the operator's own: a source that stalls is the operator's matter."""
    return not alert.sources or source in alert.sources


def trouble(run: Run, subject: str, occasion: Occasion, alerts: Alerts) -> PutTrouble:
    return PutTrouble(
        source=run.source,
        workflow=run.workflow,
        subject=subject,
        state=str(occasion),
        at=moment(run),
        words=words_of(run, occasion, alerts),
    )


def judged(  # noqa: PLR0917 - a row of a table
    source: str,
    workflow: str,
    subject: str,
    occasion: Occasion,
    condition: Condition,
    alerts: Alerts,
    now: datetime,
) -> PutTrouble:
    text = f"{condition.reason}: {condition.message}"
    return PutTrouble(
        source=source,
        workflow=workflow,
        subject=subject,
        state=condition.reason,
        at=now,
        words=words(occasion, source, workflow, alerts, text=text, at=now),
    )


def end(
    source: str, workflow: str, subjects: tuple[str, ...], told: tuple[Word, ...] = ()
) -> EndTroubles:
    return EndTroubles(source=source, workflow=workflow, subjects=subjects, words=told)


def words_of(run: Run, occasion: Occasion, alerts: Alerts) -> tuple[Word, ...]:
    """Return what alerts are told of a run."""
    return words(
        occasion,
        run.source,
        run.workflow,
        alerts,
        text=account(run),
        at=moment(run),
        run=run.id,
    )


def account(run: Run) -> str:
    """Return why a run ended so, and which one it was, in a line or two."""
    why = ": ".join(part for part in (run.reason, run.message) if part)
    when = f", slot {run.scheduled_time:%Y-%m-%dT%H:%M:%SZ}" if run.scheduled_time else ""
    at = f" at {run.revision}" if run.revision else ""
    return "\n".join(filter(None, (why, f"run {run.id} ({run.trigger}{when}){at}")))


def moment(run: Run) -> datetime:
    return run.finished_at or run.created_at


def words(
    occasion: Occasion,
    source: str,
    workflow: str,
    alerts: Alerts,
    *,
    text: str,
    at: datetime,
    run: str = "",
) -> tuple[Word, ...]:
    """Return the words of an occasion, one for each alert that is to be told."""
    return tuple(
        word(name, occasion, source, workflow, text=text, at=at, run=run)
        for name, one in sorted(alerts.items())
        if occasion in one.events
        and (source in one.sources if workflow else hears_of_source(one, source))
    )


def word(
    alert: str,
    occasion: Occasion,
    source: str,
    workflow: str,
    *,
    text: str,
    at: datetime,
    run: str = "",
) -> Word:
    return Word(
        id=digest.of_value([alert, str(occasion), source, workflow, run, text, at.isoformat()]),
        alert=alert,
        occasion=occasion,
        source=source,
        workflow=workflow,
        run=run,
        text=text,
        at=at,
    )


def answered_runs(changes: Iterable[Change]) -> Collection[str]:
    """Return the runs that others of these changes take the place of."""
    created = (one.run for one in changes if isinstance(one, CreateRun))
    return {run.rerun_of for run in created if run.rerun_of is not None}


def as_ended(run: Run, change: FinishRun) -> Run:
    """Return the run as it is when it has ended so."""
    return replace(
        run, phase=change.phase, reason=change.reason, message=change.message, finished_at=change.at
    )


def alert_problem(alerts: Alerts, source: str, name: str) -> str | None:
    """Return what is wrong with hooks of `source` naming an alert, None when nothing is."""
    if name not in alerts:
        return f"there is no alert {name!r} in the configuration"
    if source not in alerts[name].sources:
        return f"alert {name!r} is not for source {source!r}"
    return None


def alert_fault(declaration: Declaration, alerts: Alerts) -> Fault | None:
    """Return what is wrong with the alerts that a workflow's hooks name, None when nothing is."""
    for name in declaration.alerts:
        if problem := alert_problem(alerts, declaration.source, name):
            return Fault(
                file=declaration.file,
                pointer="/spec",
                problem=problem,
                remedy="define it, or list the source in its `sources`, in the configuration",
            )
    return None
