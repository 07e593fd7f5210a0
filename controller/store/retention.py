"""What is kept of the past, and what goes: runs by their number and age, blobs nobody names."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Protocol

from sqlalchemy import Integer, bindparam, case, delete, exists, func, or_, select, text, union_all
from sqlalchemy.sql.elements import BindParameter

from controller.model.run import Phase
from controller.store import results
from controller.store import tables as t
from controller.store.blobs import BlobStore
from controller.store.reader import Reader
from controller.store.rows import time_text
from controller.store.statements import Query, compiled, given
from controller.store.transaction import Transaction

GRACE = timedelta(days=1)
"""How long a blob may wait for the row that names it."""

_AT_ONCE = 200  # runs in one transaction: others write in between


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many runs of a workflow are kept, by how they ended, and for how long at most.

    What a manifest says of its own history comes first. The last success stays unless its manifest
    says `keepLastSuccessful: false`.
    """

    successful: int = 10
    failed: int = 20  # Failed, Error, Cancelled, Interrupted
    skipped: int = 20
    ttl: timedelta = timedelta(days=90)
    results_size: int = 10 << 30  # bytes of all results of steps; the least used go first


def surplus(reader: Reader, keep: Keep, now: datetime) -> list[str]:
    """Return the ids of the runs to drop: a long look, so it is no writer's.

    A run that a kept rerun repeats stays: it holds the logs of the steps that were taken over.
    """
    limits = {
        "successful": keep.successful,
        "failed": keep.failed,
        "skipped": keep.skipped,
        "before": time_text(now - keep.ttl),
    }
    found = {run for (run,) in reader.rows(_surplus(), limits)}
    needed = {old for rerun, old in reader.rows(_reruns(), {}) if rerun not in found}
    return [*(found - needed), *(run for (run,) in reader.rows(_orphans(), {}))]


def batches(runs: list[str]) -> Iterator[list[str]]:
    """Yield as many as one transaction drops."""
    return (runs[at : at + _AT_ONCE] for at in range(0, len(runs), _AT_ONCE))


def drop_runs(runs: Iterable[str]) -> Callable[[Transaction], int]:
    """Return the call that drops those of the runs that nobody has taken up since they were found:
    by a retry, or by a new rerun. All that is theirs goes with them.
    """
    named = [{"run": run} for run in runs]

    def call(tx: Transaction) -> int:
        gone = [one for one in named if tx.rows(_droppable(), one)]
        for query in _drop_run():
            tx.change_many(query, gone)
        return len(gone)

    return call


def drop_specs(tx: Transaction) -> int:
    """Drop the specs that no run is pinned to any more."""
    return tx.change_many(_drop_specs(), [{}])


def drop_events(keep: Keep, now: datetime) -> Callable[[Transaction], int]:
    """Return the call that drops some of what is older than the ttl and tells of no kept run.

    Returns 0 when none was left.
    """
    before = time_text(now - keep.ttl)
    return lambda tx: tx.change_many(_drop_events(), [{"before": before, "at_once": _AT_ONCE * 5}])


def drop_blobs(
    blobs: BlobStore, old: Iterable[str], before: datetime
) -> Callable[[Transaction], int]:
    """Return the call that removes those of the `old` files that no row names.

    It looks and removes in one transaction: nobody can commit a row that names one meanwhile.
    """
    candidates = list(old)

    def call(tx: Transaction) -> int:
        named = references(tx, blobs)
        gone = [
            digest for digest in candidates if digest not in named and blobs.drop(digest, before)
        ]
        keys = [{"digest": name} for digest in gone for name in (digest, f"tree:{digest}")]
        tx.change_many(_drop_blob(), keys)
        return len(gone)

    return call


class Rows(Protocol):
    """Whatever reads rows: a transaction, or a reader."""

    def rows(self, query: Query, values: Mapping[str, Any]) -> Iterable[Any]:
        """Return the rows of a compiled query."""
        ...


def references(tx: Rows, blobs: BlobStore) -> set[str]:
    """Return the files' digests that the rows name, those inside folders too."""
    named: set[str] = set()
    for (names,) in tx.rows(_named(), {}):
        named.update(json.loads(names).values() if names.startswith("{") else (names,))
    for row in tx.rows(results.referring(), {}):
        named |= results.named_blobs(row)
    folders = {digest for digest in named if digest.startswith("tree:")}
    for (told,) in tx.rows(_replayed(), {}):
        named.update(one for one in (json.loads(told).get("log"),) if one)
    inside = {part for digest in folders for part in blobs.parts_if_kept(digest)}
    return {digest.removeprefix("tree:") for digest in named} | inside


@cache
def _surplus() -> Query:
    r, own = t.run.c, t.history_limit.c
    kind = case(
        (r.phase == Phase.SUCCEEDED.value, "successful"),
        (r.phase == Phase.SKIPPED.value, "skipped"),
        else_="failed",
    )
    newest_first = (func.coalesce(r.finished_at, r.created_at).desc(), r.id.desc())
    place = func.row_number().over(partition_by=(r.source, r.workflow, kind), order_by=newest_first)
    ended = (
        select(r.id, r.source, r.workflow, kind.label("kind"), place.label("place"))
        .add_columns(func.coalesce(r.finished_at, r.created_at).label("ended_at"))
        .where(text(t.ENDED), r.parent.is_(None))  # those that are steps go with their callers
        .subquery()
    )
    e = ended.c
    most = {
        "successful": func.coalesce(own.successful, _number("successful")),
        "failed": func.coalesce(own.failed, _number("failed")),
        "skipped": _number("skipped"),
    }
    too_many = or_(*((e.kind == name) & (e.place > limit) for name, limit in most.items()))
    stays = (e.kind == "successful") & (e.place == 1) & (func.coalesce(own.keep_last, 1) == 1)
    its_own = (own.source == e.source) & (own.workflow == e.workflow)
    return compiled(
        select(e.id)
        .select_from(ended.outerjoin(t.history_limit, its_own))
        .where(or_(too_many, e.ended_at < given("before")), ~stays)
    )


def _number(name: str) -> BindParameter[int]:
    return bindparam(name, type_=Integer)


@cache
def _reruns() -> Query:
    r = t.run.c
    return compiled(select(r.id, r.rerun_of).where(text(t.IS_RERUN)))


@cache
def _orphans() -> Query:
    """Runs that are steps of a run that is gone."""
    caller = t.run.alias("caller")
    r = t.run.c
    gone = ~exists().where(caller.c.id == r.parent)
    return compiled(select(r.id).where(r.parent.is_not(None), gone, text(f"run.{t.ENDED}")))


@cache
def _droppable() -> Query:
    again = t.run.alias("again")
    active = text("again.phase IN ('Pending', 'Running')")
    repeated = exists().where(again.c.rerun_of == t.run.c.id, active)
    here = t.run.c.id == given("run")
    return compiled(select(t.run.c.id).where(here, text(f"run.{t.ENDED}"), ~repeated))


@cache
def _drop_run() -> tuple[Query, ...]:
    run = given("run")
    return (
        compiled(delete(t.attempt).where(t.attempt.c.run == run)),
        compiled(delete(t.step_run).where(t.step_run.c.run == run)),
        compiled(delete(t.event).where(t.event.c.run == run, t.OF_A_RUN)),
        compiled(delete(t.run).where(t.run.c.id == run)),
    )


@cache
def _drop_specs() -> Query:
    return compiled(delete(t.spec).where(t.spec.c.digest.not_in(select(t.run.c.spec))))


@cache
def _drop_events() -> Query:
    e = t.event.c
    kept = exists().where(t.run.c.id == e.run)
    old = select(e.id).where(e.at < given("before"), ~kept).limit(_number("at_once"))
    return compiled(delete(t.event).where(e.id.in_(old)))


@cache
def _drop_blob() -> Query:
    return compiled(delete(t.blob).where(t.blob.c.digest == given("digest")))


@cache
def _named() -> Query:
    logs = select(t.attempt.c.log).where(t.attempt.c.log.is_not(None))
    artifacts = select(t.step_run.c.artifacts).where(t.step_run.c.artifacts != "{}")
    return compiled(union_all(logs, artifacts, select(t.kept_input.c.blob)))


def drop_inputs(tx: Transaction) -> int:
    """Forget the kept inputs that no run is recorded with any more."""
    used = {one for (text_,) in tx.rows(_inputs(), {}) for one in json.loads(text_).values()}
    gone = [{"digest": name} for (name,) in tx.rows(_kept_inputs(), {}) if name not in used]
    return tx.change_many(_drop_input(), gone)


@cache
def _inputs() -> Query:
    return compiled(select(t.run.c.inputs).where(t.run.c.inputs != "{}").distinct())


@cache
def _kept_inputs() -> Query:
    return compiled(select(t.kept_input.c.digest))


@cache
def _drop_input() -> Query:
    return compiled(delete(t.kept_input).where(t.kept_input.c.digest == given("digest")))


@cache
def _replayed() -> Query:
    """What the ledger of results said to the steps it served: it names their logs."""
    return compiled(select(t.step_run.c.cache).where(t.step_run.c.cached == 1))
