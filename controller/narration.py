"""What happened, as log lines: one for each applied change that a person would want to read."""

import structlog

from controller.model.changes import (
    Change,
    CreateRun,
    FinishAttempt,
    FinishRun,
    PutSource,
    PutStep,
    PutWorkflow,
    RequeueRun,
    RetryRun,
    StartAttempt,
    StartRun,
)
from controller.model.condition import Status, find
from controller.model.run import Phase

log = structlog.get_logger()


def narrate(change: Change) -> None:
    """Log one applied change; the keys are those of `rondel logs -o json`."""
    match change:
        case CreateRun(run=run):
            log.info(
                "run_created",
                source=run.source,
                workflow=run.workflow,
                run=run.id,
                trigger=run.trigger,
                revision=run.revision,
                phase=run.phase,
                reason=run.reason,
            )
        case StartRun(run=run_id, executor=executor):
            log.info("run_started", run=run_id, executor=executor)
        case RetryRun() | RequeueRun():
            narrate_again(change)
        case StartAttempt(attempt=attempt):
            log.info("attempt_started", run=attempt.run, step=attempt.step, attempt=attempt.number)
        case FinishAttempt(attempt=attempt) if attempt.phase is not Phase.SUCCEEDED:
            log.warning(
                "attempt_failed",
                run=attempt.run,
                step=attempt.step,
                attempt=attempt.number,
                phase=attempt.phase,
                reason=attempt.reason,
                exit_code=attempt.exit_code,
                error=attempt.error,
            )
        case PutStep() | FinishRun():
            narrate_end(change)
        case PutWorkflow() | PutSource():
            narrate_judgement(change)
        case _:
            pass  # the rest is told by `rondel get events`


def narrate_again(change: RetryRun | RequeueRun) -> None:
    if isinstance(change, RetryRun):
        again = sum(not step.phase.terminal for step in change.steps)
        log.info("run_retried", run=change.run.id, steps=again)
        return
    log.warning("run_requeued", run=change.run, reason=change.reason, message=change.message)


def narrate_end(change: PutStep | FinishRun) -> None:
    if isinstance(change, PutStep):
        step = change.step
        if step.phase.terminal:
            log.info(
                "step_finished",
                run=step.run,
                step=step.name,
                **({} if step.matrix is None else {"matrix": step.matrix}),
                phase=step.phase,
                reason=step.reason,
                attempts=step.attempts,
            )
        return
    tell = log.error if change.phase in {Phase.FAILED, Phase.ERROR} else log.info
    tell(
        "run_finished",
        run=change.run,
        phase=change.phase,
        reason=change.reason,
        message=change.message,
    )


def narrate_judgement(change: PutWorkflow | PutSource) -> None:
    """Only what isn't ready is worth a line; a source's own lines tell the rest."""
    status = change.status
    ready = find(status.conditions, "Ready")
    if ready is None or ready.status is not Status.FALSE:
        return
    source = change.status.name if isinstance(change, PutSource) else change.status.source
    workflow = "" if isinstance(change, PutSource) else change.status.name
    log.warning(
        "not_ready", source=source, workflow=workflow, reason=ready.reason, message=ready.message
    )
