"""Made-up runs and their lives, for the store's tests and its bench."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controller.model.changes import (
    Change,
    ClaimRun,
    CreateRun,
    FinishAttempt,
    FinishRun,
    PutStep,
    StartAttempt,
    StartRun,
)
from controller.model.condition import Condition, Health, Status, Sync, WorkflowStatus
from controller.model.run import Attempt, Phase, Run, StepRun, Trigger

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SPEC = '{"metadata":{"name":"w"},"spec":{"steps":[]}}'


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


def a_run(name: str = "w-1", **given) -> Run:
    fields = {
        "id": name,
        "source": "main",
        "workflow": "w",
        "trigger": Trigger.MANUAL,
        "identity": f"manual:{name}",
        "created_at": NOON,
        "spec": SPEC,
    }
    return Run(**{**fields, **given})


def a_step(run: str = "w-1", name: str = "one", **given) -> StepRun:
    return StepRun(run=run, name=name, **given)


def an_attempt(run: str = "w-1", step: str = "one", number: int = 1, **given) -> Attempt:
    fields = {"nonce": "0" * 32, "started_at": NOON}
    return Attempt(run=run, step=step, number=number, **{**fields, **given})


def a_condition(kind: str = "Ready", **given) -> Condition:
    fields = {"status": Status.TRUE, "reason": "Loaded", "last_transition_time": NOON}
    return Condition(type=kind, **{**fields, **given})


def a_workflow(name: str = "w", source: str = "main", **given) -> WorkflowStatus:
    fields = {
        "generation": 1,
        "conditions": (a_condition(),),
        "sync": Sync.SYNCED,
        "health": Health.HEALTHY,
    }
    return WorkflowStatus(source=source, name=name, **{**fields, **given})


def begun(instance: str, name: str = "w-1", steps: int = 1, **given):
    """A run up to the moment it is Running."""
    rows = tuple(a_step(name, f"s{i}", position=i) for i in range(steps))
    return [
        CreateRun(run=a_run(name, **given)),
        ClaimRun(run=name, instance=instance, at=NOON),
        StartRun(run=name, at=NOON, executor="local", steps=rows),
    ]


def life(instance: str, name: str, steps: int = 3) -> Iterator[tuple[Change, ...]]:
    """The calls of one whole run, as the engine makes them: each is one transaction."""
    for change in begun(instance, name, steps):
        yield (change,)
    attempt = an_attempt(name, "s0")
    yield (StartAttempt(attempt=attempt),)
    for i in range(steps):
        done = replace(attempt, phase=Phase.SUCCEEDED, exit_code=0, finished_at=NOON)
        step = a_step(name, f"s{i}", position=i, phase=Phase.SUCCEEDED, exit_code=0, attempts=1)
        calls: list[Change] = [FinishAttempt(attempt=done), PutStep(step=step, at=NOON)]
        if i + 1 < steps:
            attempt = replace(attempt, step=f"s{i + 1}")
            calls.append(StartAttempt(attempt=attempt))
        yield tuple(calls)
    yield (FinishRun(run=name, phase=Phase.SUCCEEDED, at=NOON + timedelta(seconds=1)),)
