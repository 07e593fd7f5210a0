"""Applies one change to the tables, with its event. Returns whether it was applied."""

from collections.abc import Callable
from typing import Any

from controller import digest
from controller.model import changes as c
from controller.model.run import FAILURES, Attempt, Event, Phase, Run, StepRun, run_key
from controller.model.workflow import Json
from controller.store import deliveries, tokens, words
from controller.store.blobs import Note
from controller.store.results import entry_values
from controller.store.rows import (
    attempt_values,
    clean,
    json_text,
    read_map,
    run_values,
    step_values,
    time_text,
)
from controller.store.status_rows import source_values, suspension_text, workflow_values
from controller.store.transaction import Transaction


def apply(tx: Transaction, change: c.Change) -> bool:
    """Write `change` and its event; False (and nothing written) when it doesn't apply."""
    return _APPLY[type(change)](tx, change)


def _create_run(tx: Transaction, change: c.CreateRun) -> bool:
    run = change.run
    spec = digest.sha256(run.spec) if run.spec else ""
    if not tx.change(tx.say.create_run, run_values(run, spec)):
        return False
    if spec:
        tx.change(tx.say.put_spec, {"digest": spec, "body": clean(run.spec)})
    tx.change_many(tx.say.put_step, map(step_values, change.steps))
    for step in change.steps:
        for blob in step.artifacts.values():
            tx.name_blob(blob)
    for end in change.opens:
        _answer_schedule(tx, end)
    tx.tell(_created(run))
    return True


def _created(run: Run) -> Event:
    data: dict[str, Json] = {"trigger": run.trigger.value, "identity": run.identity}
    if run.reason:
        data["reason"] = run.reason
    return Event(
        at=run.created_at,
        reason="RunCreated" if run.phase is Phase.PENDING else f"Run{run.phase}",
        source=run.source,
        workflow=run.workflow,
        run=run.id,
        message=run.message,
        data=data,
    )


def _claim_run(tx: Transaction, change: c.ClaimRun) -> bool:
    values = {
        "k_id": change.run,
        "instance": change.instance,
        "group": change.group,
        "limit": change.limit,
    }
    if not tx.change(tx.say.claim_run, values):
        return False
    data: dict[str, Json] = {"instance": change.instance}
    if change.group is not None:
        data["group"] = change.group
    tx.tell_of_run(change.run, "RunClaimed", change.at, data=data)
    return True


def _start_run(tx: Transaction, change: c.StartRun) -> bool:
    values = {
        "k_id": change.run,
        "k_instance": tx.instance,
        "phase": Phase.RUNNING.value,
        "started_at": time_text(change.at),
        "executor": change.executor,
        "revision": change.revision,
        "inputs": json_text(change.inputs),
        "versions": json_text(change.versions),
    }
    if not tx.change(tx.say.start_run, values):
        return False
    tx.change_many(tx.say.put_step, map(step_values, change.steps))
    tx.tell_of_run(change.run, "RunStarted", change.at, data={"executor": change.executor})
    return True


def _requeue_run(tx: Transaction, change: c.RequeueRun) -> bool:
    values = {
        "k_id": change.run,
        "phase": Phase.PENDING.value,
        "reason": change.reason,
        "message": clean(change.message),
        "not_before": change.not_before and time_text(change.not_before),
    }
    if not tx.change(tx.say.requeue_run, values):
        return False
    tx.change(tx.say.forget_untried, {"k_run": change.run})
    reason = {"reason": change.reason}
    tx.tell_of_run(change.run, "RunRequeued", change.at, message=change.message, data=reason)
    return True


def _retry_run(tx: Transaction, change: c.RetryRun) -> bool:
    if not tx.change(tx.say.retry_run, {"k_id": change.run.id, "reason": change.run.reason}):
        return False
    tx.change_many(tx.say.put_step, map(step_values, change.steps))
    again = sum(not step.phase.terminal for step in change.steps)
    tx.tell_of_run(change.run.id, "RunRetried", change.at, data={"steps": again})
    return True


def _keep_input(tx: Transaction, change: c.KeepInput) -> bool:
    """No event: it tells nothing of what happened."""
    tx.name_blob(change.blob)
    values = {
        "digest": change.digest,
        "blob": change.blob,
        "size": change.size,
        "created_at": time_text(change.at),
    }
    return tx.change(tx.say.keep_input, values)


def _finish_run(tx: Transaction, change: c.FinishRun) -> bool:
    values = {
        "k_id": change.run,
        "phase": change.phase.value,
        "reason": change.reason,
        "message": clean(change.message),
        "outputs": json_text(change.outputs),
        "versions": json_text(change.versions) if change.versions else None,
        "finished_at": time_text(change.at),
    }
    if not tx.change(tx.say.finish_run, values):
        return False
    if change.phase is not Phase.SKIPPED:
        _note_finished(tx, change)
    for end in change.opens:
        _answer_schedule(tx, end)
    reason = {"reason": change.reason} if change.reason else {}
    tx.tell_of_run(change.run, f"Run{change.phase}", change.at, message=change.message, data=reason)
    return True


def _note_finished(tx: Transaction, change: c.FinishRun) -> None:
    at = time_text(change.at)
    values = {
        "k_id": change.run,
        "phase": change.phase.value,
        "success_at": at if change.phase is Phase.SUCCEEDED else None,
        "failure_at": at if change.phase in FAILURES else None,
    }
    tx.change(tx.say.note_finished, values)
    if change.phase is Phase.SUCCEEDED:
        _note_key(tx, change.run)


def _note_key(tx: Transaction, run: str) -> None:
    """What a schedule's last success was made of: `runPolicy: IfChanged` compares with it."""
    for source, workflow, schedule, spec_digest, inputs, params in tx.rows(
        tx.say.keyed_run, {"k_id": run}
    ):
        key = {"k_source": source, "k_workflow": workflow, "k_schedule": schedule}
        made = run_key(spec_digest, read_map(inputs), read_map(params))
        tx.change(tx.say.note_key, {**key, "key": made})


def _start_attempt(tx: Transaction, change: c.StartAttempt) -> bool:
    attempt = change.attempt
    values = attempt_values(attempt)
    if not tx.change(tx.say.start_attempt, values):
        return False
    step = {
        "k_run": attempt.run,
        "k_name": attempt.step,
        "k_index": attempt.index,
        "number": attempt.number,
        "at": values["started_at"],
    }
    tx.change(tx.say.run_step, step)
    tx.tell_of_run(
        attempt.run,
        "StepStarted",
        attempt.started_at,
        step=attempt.step,
        data={"index": attempt.index, "attempt": attempt.number},
    )
    return True


def _attempt_key(attempt: Attempt | c.SealLog) -> dict[str, Any]:
    return {
        "k_run": attempt.run,
        "k_step": attempt.step,
        "k_index": attempt.index,
        "k_number": attempt.number,
    }


def _finish_attempt(tx: Transaction, change: c.FinishAttempt) -> bool:
    attempt = change.attempt
    if not tx.change(tx.say.finish_attempt, attempt_values(attempt) | _attempt_key(attempt)):
        return False
    if attempt.phase is not Phase.SUCCEEDED:
        _tell_of_attempt(tx, attempt)
    return True


def _tell_of_attempt(tx: Transaction, attempt: Attempt) -> None:
    """A failed attempt has an event of its own: the step may yet succeed."""
    data: dict[str, Json] = {
        "index": attempt.index,
        "attempt": attempt.number,
        "phase": attempt.phase.value,
        "reason": attempt.reason,
        "exitCode": attempt.exit_code,
    }
    tx.tell_of_run(
        attempt.run,
        "AttemptFinished",
        attempt.finished_at or attempt.started_at,
        step=attempt.step,
        message=attempt.error,
        data=data,
    )


def _seal_log(tx: Transaction, change: c.SealLog) -> bool:
    values = {"log": change.log, "log_truncated": int(change.truncated)}
    if not tx.change(tx.say.seal_log, values | _attempt_key(change)):
        return False
    tx.name_blob(change.log, Note("log", change.size))
    return True


def _put_step(tx: Transaction, change: c.PutStep) -> bool:
    step = change.step
    if not tx.change(tx.say.put_step, step_values(step)):
        return False
    for blob in step.artifacts.values():
        tx.name_blob(blob)
    if step.phase.terminal:
        tx.tell_of_run(
            step.run,
            "StepFinished",
            change.at,
            step=step.name,
            message=change.message or step.error,
            data=_step_data(step),
        )
    return True


def _step_data(step: StepRun) -> dict[str, Json]:
    return {
        "index": step.index,
        "phase": step.phase.value,
        "reason": step.reason,
        "exitCode": step.exit_code,
        "attempts": step.attempts,
        "cached": step.cached,
        **({"cache": step.cache["result"]} if step.cache else {}),
    }


def _put_cache_entry(tx: Transaction, change: c.PutCacheEntry) -> bool:
    """No event: the step's end tells of it. Its size is that of the row and of its blobs."""
    values = entry_values(change.entry)
    blobs = {*change.entry.artifacts.values(), *filter(None, (change.entry.log,))}
    texts = values["parts"], values["outputs"]
    size = sum(map(len, texts)) + sum(map(tx.blob_size, blobs))
    return tx.change(tx.say.put_cache_entry, {**values, "size": size})


def _use_cache_entry(tx: Transaction, change: c.UseCacheEntry) -> bool:
    key = {"k_key": change.key, "k_source": change.source, "k_ref": change.ref}
    return tx.change(tx.say.use_cache_entry, {**key, "at": time_text(change.at)})


def _drop_cache_entries(tx: Transaction, change: c.DropCacheEntries) -> bool:
    keys = [{"k_key": key, "k_source": source, "k_ref": ref} for source, ref, key in change.keys]
    dropped = tx.change_many(tx.say.drop_cache_entry, keys) if keys else 0
    if not dropped:
        return False
    data: dict[str, Json] = {"entries": dropped, "reason": change.reason}
    tx.tell(Event(at=change.at, reason="CacheEntriesDropped", data=data))
    return True


def _put_workflow(tx: Transaction, change: c.PutWorkflow) -> bool:
    applied = tx.change(tx.say.put_workflow, workflow_values(change.status))
    if applied and change.event is not None:
        tx.tell(change.event)
    return applied


def _put_suspension(tx: Transaction, change: c.PutSuspension) -> bool:
    """No event: the next pass over the workflow tells of it."""
    key = {"k_source": change.source, "k_name": change.workflow}
    return tx.change(
        tx.say.put_suspension, {**key, "suspension": suspension_text(change.suspension)}
    )


def _put_source(tx: Transaction, change: c.PutSource) -> bool:
    applied = tx.change(tx.say.put_source, source_values(change.status))
    if applied and change.event is not None:
        tx.tell(change.event)
    return applied


def _drop_source(tx: Transaction, change: c.DropSource) -> bool:
    dropped = tx.change(tx.say.drop_source, {"k_name": change.name})
    words.forget_source(tx, change.name)
    live = [name for (name,) in tx.rows(tx.say.live_workflows, {"k_source": change.name})]
    for name in live:
        tx.change(tx.say.retire_workflow, {"k_source": change.name, "k_name": name})
        gone = f"source {change.name} left the configuration"
        tx.tell(_retired(change, name, gone))
    if dropped:
        tx.tell(Event(at=change.at, reason="SourceDropped", source=change.name))
    return dropped or bool(live)


def _retired(change: c.DropSource, workflow: str, message: str) -> Event:
    return Event(
        at=change.at,
        reason="WorkflowRetired",
        source=change.name,
        workflow=workflow,
        message=message,
    )


def _answer_schedule(tx: Transaction, change: c.AnswerSchedule) -> bool:
    """No event: a run or a skip tells of each slot. `through` only ever rises."""
    values = {
        "source": change.source,
        "workflow": change.workflow,
        "schedule": change.schedule,
        "through": time_text(change.through),
    }
    return tx.change(tx.say.answer_schedule, values)


def _forget_schedule(tx: Transaction, change: c.ForgetSchedule) -> bool:
    values = {
        "k_source": change.source,
        "k_workflow": change.workflow,
        "k_schedule": change.schedule,
    }
    return tx.change(tx.say.forget_schedule, values)


def _record_event(tx: Transaction, change: c.RecordEvent) -> bool:
    tx.tell(change.event)
    return True


def _together(tx: Transaction, change: c.Together) -> bool:
    """What stands beside a change is written with it or not at all."""
    if not apply(tx, change.change):
        return False
    for one in change.beside:
        apply(tx, one)
    return True


_APPLY: dict[type, Callable[[Transaction, Any], bool]] = {
    c.CreateRun: _create_run,
    c.ClaimRun: _claim_run,
    c.StartRun: _start_run,
    c.RequeueRun: _requeue_run,
    c.RetryRun: _retry_run,
    c.KeepInput: _keep_input,
    c.FinishRun: _finish_run,
    c.StartAttempt: _start_attempt,
    c.FinishAttempt: _finish_attempt,
    c.SealLog: _seal_log,
    c.PutStep: _put_step,
    c.PutWorkflow: _put_workflow,
    c.PutSource: _put_source,
    c.PutSuspension: _put_suspension,
    c.DropSource: _drop_source,
    c.AnswerSchedule: _answer_schedule,
    c.ForgetSchedule: _forget_schedule,
    c.RecordEvent: _record_event,
    c.PutCacheEntry: _put_cache_entry,
    c.UseCacheEntry: _use_cache_entry,
    c.DropCacheEntries: _drop_cache_entries,
    c.TakeDelivery: deliveries.take,
    c.PutToken: tokens.put,
    c.DropToken: tokens.drop,
    c.PutWord: words.put,
    c.PutTrouble: words.put_trouble,
    c.EndTroubles: words.end_troubles,
    c.PutCommitStatus: words.put_status,
    c.OvertakeCommits: words.overtake,
    c.Together: _together,
}
