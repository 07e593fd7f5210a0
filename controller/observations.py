"""Observed state in memory: advanced by the same changes that the store has written."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeAlias

from controller.model.changes import (
    AnswerSchedule,
    Change,
    ClaimRun,
    CreateRun,
    FinishRun,
    ForgetSchedule,
    PutSuspension,
    PutWorkflow,
    RequeueRun,
    RetryRun,
    StartRun,
)
from controller.model.condition import WorkflowStatus
from controller.model.run import FAILURES, Phase, Run

Key: TypeAlias = tuple[str, str]
"""(source, workflow)"""

EndFollower: TypeAlias = Callable[[Run, tuple[AnswerSchedule, ...]], None]


def failures_after(before: int, phase: Phase) -> int:
    if phase is Phase.SUCCEEDED:
        return 0
    return before + (phase in FAILURES)


class Observations:
    """What has happened to every workflow, so that a pass over one asks the store nothing.

    Only the daemon's own sources are in it: runs of `exec` belong to no configured source.
    """

    def __init__(self, statuses: Iterable[WorkflowStatus], active: Iterable[Run]) -> None:
        self._statuses = {(status.source, status.name): status for status in statuses}
        self._active: dict[Key, dict[str, Run]] = {}
        self._keys: dict[str, Key] = {}
        self._tell_end: EndFollower = lambda *_: None
        for run in active:
            self._add(run)

    def follow_ends(self, follower: EndFollower) -> None:
        """Tell `follower` of each run that ended, with its phase and outputs, and what it opens."""
        self._tell_end = follower

    def status(self, key: Key) -> WorkflowStatus | None:
        return self._statuses.get(key)

    def of_source(self, source: str) -> tuple[WorkflowStatus, ...]:
        """Return the workflows of a source that are not retired."""
        found = (one for (name, _), one in self._statuses.items() if name == source)
        return tuple(one for one in found if not one.retired)

    def keys(self) -> tuple[Key, ...]:
        return tuple(self._statuses)

    def active(self, key: Key) -> tuple[Run, ...]:
        """Return the workflow's Pending and Running runs, oldest first."""
        return tuple(self._active.get(key, {}).values())

    def unfinished(self) -> tuple[Run, ...]:
        return tuple(run for runs in self._active.values() for run in runs.values())

    def run(self, run_id: str) -> Run | None:
        key = self._keys.get(run_id)
        return self._active[key][run_id] if key else None

    def apply(self, change: Change) -> None:
        """Advance by one change that the store has applied."""
        match change:
            case PutWorkflow(status=status):
                self._put(status)
            case AnswerSchedule() | ForgetSchedule() | PutSuspension():
                self._note(change)
            case CreateRun(run=run) | RetryRun(run=run) if run.parent is None:
                self._take(change)  # a run that is a step of another answers no trigger
            case ClaimRun(run=run_id, instance=instance, group=group):
                self._update(run_id, instance=instance, group=group)
            case StartRun(run=run_id, at=at, inputs=inputs):
                self._update(run_id, phase=Phase.RUNNING, started_at=at, inputs=inputs)
            case RequeueRun(run=run_id, reason=reason, not_before=not_before):
                self._update(
                    run_id,
                    phase=Phase.PENDING,
                    reason=reason,
                    instance=None,
                    group=None,
                    started_at=None,
                    inputs={},
                    not_before=not_before,
                )
            case FinishRun():
                self._finish(change)
            case _:
                pass  # steps, attempts, events and sources are the store's alone

    def _put(self, status: WorkflowStatus) -> None:
        """As the store does: what runs have left in the row stays."""
        key = (status.source, status.name)
        old = self._statuses.get(key)
        if old is not None:
            status = replace(
                status,
                answered=old.answered,
                last_run=old.last_run,
                last_phase=old.last_phase,
                last_success_at=old.last_success_at,
                last_failure_at=old.last_failure_at,
                last_keys=old.last_keys,
                failures=old.failures,
                suspension=old.suspension,
            )
        self._statuses[key] = status

    def _note(self, change: AnswerSchedule | ForgetSchedule | PutSuspension) -> None:
        if isinstance(change, PutSuspension):
            self._suspend(change)
        else:
            self._answer(change)

    def _answer(self, change: AnswerSchedule | ForgetSchedule) -> None:
        key = (change.source, change.workflow)
        old = self._statuses.get(key)
        if old is None:
            old = WorkflowStatus(source=change.source, name=change.workflow)
        answered = dict(old.answered)
        if isinstance(change, AnswerSchedule):
            answered[change.schedule] = change.through
        else:
            answered.pop(change.schedule, None)
        keys = {name: one for name, one in old.last_keys.items() if name in answered}
        self._statuses[key] = replace(old, answered=answered, last_keys=keys)

    def _suspend(self, change: PutSuspension) -> None:
        key = (change.source, change.workflow)
        old = self._statuses.get(key)
        if old is not None:
            failures = old.failures if change.suspension else 0
            self._statuses[key] = replace(old, suspension=change.suspension, failures=failures)

    def _take(self, change: CreateRun | RetryRun) -> None:
        """A run that is over when it is made, as a skipped slot's is, ends at once."""
        if isinstance(change, CreateRun) and change.run.phase.terminal:
            self._end(change.run, change.opens)
        else:
            self._add(change.run)

    def _end(self, run: Run, opens: tuple[AnswerSchedule, ...]) -> None:
        for one in opens:
            self._answer(one)
        self._tell_end(run, opens)

    def _add(self, run: Run) -> None:
        key = (run.source, run.workflow)
        self._active.setdefault(key, {})[run.id] = run
        self._keys[run.id] = key

    def _update(self, run_id: str, **fields: object) -> None:
        key = self._keys.get(run_id)
        if key is not None:
            self._active[key][run_id] = replace(self._active[key][run_id], **fields)  # type: ignore[arg-type]  # fields of Run, written above

    def _finish(self, change: FinishRun) -> None:
        key = self._keys.pop(change.run, None)
        if key is None:
            return
        run = self._active[key].pop(change.run)
        if not self._active[key]:
            del self._active[key]
        self._settle(key, change, run)
        ended = replace(run, phase=change.phase, outputs=change.outputs, finished_at=change.at)
        self._end(ended, change.opens)

    def _settle(self, key: Key, change: FinishRun, run: Run) -> None:
        status = self._statuses.get(key)
        if status is None or change.phase is Phase.SKIPPED:
            return
        succeeded = change.phase is Phase.SUCCEEDED
        keys = dict(status.last_keys)
        if succeeded and run.schedule is not None and run.schedule in status.answered:
            keys[run.schedule] = run.key
        self._statuses[key] = replace(
            status,
            last_run=change.run,
            last_phase=change.phase,
            last_success_at=change.at if succeeded else status.last_success_at,
            last_failure_at=change.at if change.phase in FAILURES else status.last_failure_at,
            last_keys=keys,
            failures=failures_after(status.failures, change.phase),
        )
