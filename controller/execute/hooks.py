"""A hook that is an alert: it has done its work once its word is kept; who tells it is another."""

from dataclasses import replace
from typing import Any

from controller.execute.attempts import Done, Shop
from controller.model.changes import Change, PutStep, PutWord
from controller.model.run import Phase, StepRun
from controller.model.word import Occasion
from controller.model.workflow import Step
from controller.reconcile.alerting import account, word

UNKNOWN = "AlertUnknown"


def told(shop: Shop, step: Step, row: StepRun) -> Done:
    """Return the end of a hook that sends an alert; its word is written with it or not at all."""
    run, name, now = shop.materials.run, step.alert or "", shop.clock.now()
    problem = shop.alert_problem(run.source, name)
    ended = replace(row, started_at=now, finished_at=now)
    if problem is not None:
        ended = replace(ended, phase=Phase.ERROR, reason=UNKNOWN, error=problem)
        return Done(ended, (PutStep(step=ended, at=now),))
    ended = replace(ended, phase=Phase.SUCCEEDED, reason="", error="")
    kept = word(
        name,
        Occasion.HOOK,
        run.source,
        run.workflow,
        text=f"{step.name}: {so_far(shop.materials.scope)}\n{account(run)}",
        at=now,
        run=run.id,
    )
    changes: tuple[Change, ...] = (PutWord(word=kept), PutStep(step=ended, at=now))
    return Done(ended, changes)


def so_far(scope: dict[str, Any]) -> str:
    """Return what a run has come to, and the steps that made it so."""
    phase = Phase(scope["run"]["phase"])
    bad = [
        f"{name} {step['phase']}"
        for name, step in scope["steps"].items()
        if step["phase"] in set(Phase) and Phase(step["phase"]).bad
    ]
    return f"the run is {phase}" + (f" ({', '.join(bad)})" if bad else "")
