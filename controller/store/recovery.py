"""What an instance that is gone has left behind, found and taken over in one transaction."""

from collections.abc import Collection
from datetime import datetime
from functools import cache

from sqlalchemy import exists, select, text, union

from controller.model.changes import RequeueRun
from controller.model.run import Attempt, Phase, Run, StepRun
from controller.store import rows
from controller.store import tables as t
from controller.store.apply import apply
from controller.store.statements import Query, compiled, given
from controller.store.transaction import Transaction

Candidate = tuple[Run, list[StepRun], list[Attempt]]

FOREGROUND = "exec"
"""The source of runs that a person's command runs: never queued for a daemon."""


def known(tx: Transaction) -> set[str]:
    """Return the instances that registered, and those that runs in flight belong to."""
    return {instance for (instance,) in tx.rows(_known(), {})}


def idle(tx: Transaction) -> list[str]:
    """Return the registered instances that no run in flight belongs to."""
    return [instance for (instance,) in tx.rows(_idle(), {})]


def take_over(tx: Transaction, gone: Collection[str], at: datetime) -> list[Candidate]:
    """Settle the runs in flight of the instances that are gone.

    One with no attempt recorded was not begun: it goes back to Pending under its id. The others are
    this instance's from now on, and are returned with their specs for the engine to settle.
    """
    left: list[Candidate] = []
    for instance in sorted(gone):
        for row in tx.rows(_unfinished(), {"instance": instance}):
            run = rows.read_run(row, row[-2] or "")
            # A retried run has attempts of old: it was begun when it is Running.
            begun = bool(row[-1]) and run.phase is Phase.RUNNING
            if begun or run.source == FOREGROUND or run.parent is not None:
                left.append(_adopt(tx, run, at))
            else:
                apply(tx, _requeue(run, at))
    return left


def _requeue(run: Run, at: datetime) -> RequeueRun:
    message = f"{run.instance} was lost before a step was started"
    return RequeueRun(
        run=run.id, reason="ControllerLost", message=message, at=at, not_before=run.not_before
    )


def _adopt(tx: Transaction, run: Run, at: datetime) -> Candidate:
    tx.change(tx.say.adopt_run, {"k_id": run.id, "instance": tx.instance})
    tx.tell_of_run(run.id, "RunAdopted", at, data={"from": run.instance, "by": tx.instance})
    key = {"run": run.id}
    steps = [rows.read_step(row) for row in tx.rows(_steps(), key)]
    attempts = [rows.read_attempt(row) for row in tx.rows(_attempts(), key)]
    return run, steps, attempts


@cache
def _known() -> Query:
    c = t.run.c
    in_flight = select(c.instance).where(text(t.ACTIVE), c.instance.is_not(None))
    return compiled(union(in_flight, select(t.instance.c.id)))


@cache
def _unfinished() -> Query:
    r = t.run.c
    begun = exists().where(t.attempt.c.run == r.id)
    return compiled(
        select(t.run, t.spec.c.body, begun)
        .join_from(t.run, t.spec, t.spec.c.digest == r.spec, isouter=True)
        .where(text(t.ACTIVE), r.instance == given("instance"))
        .order_by(r.created_at, r.id)
    )


@cache
def _steps() -> Query:
    s = t.step_run.c
    return compiled(
        select(t.step_run).where(s.run == given("run")).order_by(s.position, s.name, s.index)
    )


@cache
def _attempts() -> Query:
    a = t.attempt.c
    return compiled(
        select(t.attempt).where(a.run == given("run")).order_by(a.step, a.index, a.number)
    )


@cache
def _idle() -> Query:
    flying = text("run.phase IN ('Pending', 'Running')")
    busy = exists().where(t.run.c.instance == t.instance.c.id, flying)
    return compiled(select(t.instance.c.id).where(~busy))
