"""Running again what was recorded: the same run from what failed, or a new run as it was.

One mechanism serves both: a run that begins with some of its steps' rows ended already.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from controller.errors import RefusedError, UsageError
from controller.manifest.graph import Graph
from controller.manifest.names import nearest
from controller.model.changes import RetryRun
from controller.model.run import Phase, Run, Section, StepRun, Trigger
from controller.model.workflow import Workflow
from controller.reconcile.runs import run_id

RETRIED, REUSED = "Retried", "Reused"
BY_POLICY = frozenset({Trigger.SCHEDULE, Trigger.WEBHOOK})  # may be dropped by `concurrencyPolicy`
FOREGROUND = "exec"  # runs of a command that is over: nobody goes on with them


def retried(run: Run, rows: Iterable[StepRun], now: datetime) -> RetryRun:
    """Return the change that sets an ended run back: what succeeded stays, the rest begins anew.

    Raises:
        RefusedError: it isn't over, has nothing to try again, or belongs to `rondel exec`.
    """
    refuse_foreground(run)
    if not run.phase.bad:
        problem = f"it is {run.phase}: only what ended badly can be retried"
        remedy = "wait for its end" if not run.phase.terminal else f"rondel rerun {run.id}"
        raise RefusedError(problem, where=f"run {run.id}", remedy=remedy)
    return RetryRun(
        run=replace(
            run,
            phase=Phase.PENDING,
            reason=RETRIED,
            message="",
            instance=None,
            outputs={},
            not_before=None,
            started_at=None,
            finished_at=None,
        ),
        steps=tuple(row if stays(row) else anew(row) for row in rows),
        at=now,
    )


def stays(row: StepRun) -> bool:
    """Hooks and finally steps run again; they belong to how the run ends."""
    return row.phase is Phase.SUCCEEDED and row.section is Section.STEPS


def anew(row: StepRun) -> StepRun:
    """Return the row as it begins; attempt numbers go on."""
    return StepRun(
        run=row.run,
        name=row.name,
        section=row.section,
        index=row.index,
        position=row.position,
        matrix=row.matrix,
        attempts=row.attempts,
    )


def rerun(run: Run, *, key: str, now: datetime) -> Run:
    """Return a new Pending run exactly as recorded: spec, revision, params, inputs, logical time.

    Raises:
        RefusedError: it isn't over, never ran, or belongs to `rondel exec`.
    """
    refuse_foreground(run)
    if not run.phase.terminal or run.phase is Phase.SKIPPED:
        problem = f"it is {run.phase}: only what has run can be run again"
        raise RefusedError(problem, where=f"run {run.id}", remedy=f"rondel run {run.workflow}")
    identity = f"rerun:{run.id}:{key}"
    return replace(
        run,
        id=run_id(run.source, run.workflow, identity),
        identity=identity,
        trigger=Trigger.RERUN,
        rerun_of=run.id,
        scheduled_time=run.logical_time,
        phase=Phase.PENDING,
        reason="",
        message="",
        instance=None,
        executor=None,
        outputs={},
        not_before=None,
        created_at=now,
        started_at=None,
        finished_at=None,
    )


def refuse_foreground(run: Run) -> None:
    if run.parent is not None:
        raise RefusedError(
            "it is a step of another run", where=f"run {run.id}", remedy=f"do it to {run.parent}"
        )
    if run.source == FOREGROUND:
        raise RefusedError(
            "it was run by `rondel exec`, or by a program",
            where=f"run {run.id}",
            remedy="start it there again",
        )


def reused(workflow: Workflow, rows: Iterable[StepRun], new: Run, step: str) -> tuple[StepRun, ...]:
    """Return the rows that a rerun from `step` takes over: neither it nor what is downstream.

    Raises:
        UsageError: there is no such step.
        RefusedError: something that stays did not succeed.
    """
    again = downstream(workflow, step)
    kept = [row for row in rows if row.section is Section.STEPS and row.name not in again]
    for row in kept:
        if row.phase.bad:
            problem = f"step {row.name!r} is {row.phase}, and does not come after {step!r}"
            raise RefusedError(problem, remedy=f"rerun from {row.name!r}, or from the beginning")
    return tuple(
        replace(row, run=new.id, attempts=0, reason=REUSED)
        if row.phase is Phase.SUCCEEDED
        else replace(row, run=new.id)
        for row in kept
    )


def downstream(workflow: Workflow, step: str) -> frozenset[str]:
    """Return the step and everything that waits for it, in any number of steps."""
    graph = Graph.of(workflow.steps)
    if step not in graph.dependents:
        raise UsageError(f"there is no step {step!r}", remedy=nearest(step, graph.dependents))
    found: set[str] = set()
    pending = [step]
    while pending:
        one = pending.pop()
        if one not in found:
            found.add(one)
            pending += graph.dependents[one]
    return frozenset(found)


def lost_inputs(run: Run, *, lasting: bool, kept: Mapping[str, str]) -> tuple[str, ...]:
    """Return the inputs that can't be had again as they were.

    Args:
        run: what is to run again.
        lasting: whether its source keeps its past, as Git does.
        kept: digest -> blob of the inputs that were kept.
    """
    if lasting:
        return ()
    return tuple(name for name, digest in sorted(run.inputs.items()) if digest not in kept)


def is_again(run: Run) -> bool:
    """Tell whether a run that begins runs again what was recorded: by `retry`, or by `rerun`."""
    return run.reason == RETRIED or run.trigger is Trigger.RERUN


def is_by_policy(run: Run) -> bool:
    """Tell whether the run's own trigger put it up; what a person asks for again is manual."""
    return run.trigger in BY_POLICY and not is_again(run)
