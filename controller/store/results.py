"""Results of steps: rows and back, look-ups by key, what goes when they are too old or too many."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Integer, Select, and_, bindparam, func, or_, select

from controller.model.cache import CacheEntry, Prune, Scope
from controller.store import tables as t
from controller.store.rows import Row, Values, json_text, read_map, read_time, time_text
from controller.store.statements import Query, compiled, given
from controller.store.transaction import Transaction

if TYPE_CHECKING:
    from controller.store.reader import Reader

NEAREST = 20
"""How many of a step's newest entries are compared to find the one that is most alike."""

_AT_ONCE = 500  # entries in one transaction: others write in between
_C = t.cache_entry.c


def entry_values(entry: CacheEntry) -> Values:
    return {
        "key": entry.key,
        "source": entry.source,
        "ref": entry.ref,
        "workflow": entry.workflow,
        "step": entry.step,
        "run": entry.run,
        "exit_code": entry.exit_code,
        "parts": json_text(entry.parts),
        "outputs": json_text(entry.outputs),
        "artifacts": json_text(entry.artifacts),
        "log": entry.log,
        "log_truncated": int(entry.log_truncated),
        "seconds": entry.seconds,
        "size": entry.size,
        "created_at": time_text(entry.created_at),
        "last_used_at": time_text(entry.last_used_at),
        "expires_at": time_text(entry.expires_at),
    }


def read_entry(row: Row) -> CacheEntry:
    """Return the entry of a row in the order of `tables.cache_entry`'s columns."""
    return CacheEntry(
        key=row[0],
        source=row[1],
        ref=row[2],
        workflow=row[3],
        step=row[4],
        run=row[5],
        exit_code=row[6],
        parts=read_map(row[7]),
        outputs=read_map(row[8]),
        artifacts=read_map(row[9]),
        log=row[10],
        log_truncated=bool(row[11]),
        seconds=row[12],
        size=row[13],
        created_at=read_time(row[14]),
        last_used_at=read_time(row[15]),
        expires_at=read_time(row[16]),
    )


def look_up(
    reader: "Reader", scopes: Sequence[Scope], keys: Collection[str]
) -> Mapping[str, CacheEntry]:
    """Return key -> its entry, of the first scope that has one; expired ones too."""
    found: dict[str, CacheEntry] = {}
    for key in keys:
        rows = {(row[1], row[2]): row for row in reader.rows(_by_key(), {"key": key})}
        row = next((rows[scope] for scope in scopes if scope in rows), None)
        if row is not None:
            found[key] = read_entry(row)
    return found


def newest(
    reader: "Reader", scopes: Sequence[Scope], workflow: str, steps: Collection[str]
) -> Mapping[str, Sequence[CacheEntry]]:
    """Return step -> its newest entries in these scopes, newest first within each."""
    return {
        step: [
            read_entry(row)
            for source, ref in scopes
            for row in reader.rows(
                _newest(), {"source": source, "ref": ref, "workflow": workflow, "step": step}
            )
        ]
        for step in steps
    }


def entries(
    reader: "Reader",
    *,
    source: str | None = None,
    workflow: str | None = None,
    step: str | None = None,
    key: str | None = None,
    expired_at: datetime | None = None,
    unused_since: datetime | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int | None = None,
) -> list[CacheEntry]:
    """Return entries, newest first; `key` may be the beginning of one.

    `expired_at` keeps those expired by then, `unused_since` those last used before; `before` those
    after that (created_at, key) in the list's order, which is how a page is continued.
    """
    query = _where(select(t.cache_entry), source=source, workflow=workflow, step=step)
    if key is not None:
        query = query.where(_C.key >= key, _C.key < key + "\U0010ffff")
    if expired_at is not None:
        query = query.where(_C.expires_at <= time_text(expired_at))
    if unused_since is not None:
        query = query.where(_C.last_used_at < time_text(unused_since))
    if before is not None:
        at, last = time_text(before[0]), before[1]
        query = query.where(or_(_C.created_at < at, and_(_C.created_at == at, _C.key < last)))
    newest_first = query.order_by(_C.created_at.desc(), _C.key.desc(), _C.source, _C.ref)
    return [read_entry(row) for row in reader.fetch(newest_first.limit(limit))]


def prunable(reader: "Reader", wish: Prune, now: datetime) -> list[CacheEntry]:
    """Return the entries that a prune forgets."""
    unused_since = None if wish.unused_for is None else now - wish.unused_for
    expired_at = None if wish.everything or unused_since else now
    return entries(
        reader,
        source=wish.source,
        workflow=wish.workflow,
        expired_at=expired_at,
        unused_since=unused_since,
    )


def _where(query: Select[Row], **equal: str | None) -> Select[Row]:
    given_ones = {name: value for name, value in equal.items() if value is not None}
    return query.where(*(_C[name] == value for name, value in given_ones.items()))


def drop_expired(now: datetime) -> Callable[[Transaction], int]:
    """Return the call that drops some entries that have expired; 0: none were left."""
    return lambda tx: _drop(tx, tx.rows(_expired(), {"now": time_text(now), "most": _AT_ONCE}))


def drop_beyond(most: int) -> Callable[[Transaction], int]:
    """Return the call that drops some of the least used, while all are over `most` bytes."""

    def call(tx: Transaction) -> int:
        over = tx.rows(_total(), {})[0][0] - most
        surplus = []
        for *key, size in tx.rows(_least_used(), {"most": _AT_ONCE}) if over > 0 else ():
            if over <= 0:
                break
            surplus.append(key)
            over -= size
        return _drop(tx, surplus)

    return call


def _drop(tx: Transaction, keys: Collection[Row]) -> int:
    named = [{"k_key": key, "k_source": source, "k_ref": ref} for key, source, ref in keys]
    return tx.change_many(tx.say.drop_cache_entry, named)


def named_blobs(row: Row) -> set[str]:
    """Return what a row of `referring` names."""
    log, artifacts = row
    return {*json.loads(artifacts).values(), *((log,) if log else ())}


@cache
def referring() -> Query:
    """Log and artifacts of every entry."""
    return compiled(select(_C.log, _C.artifacts))


@cache
def _by_key() -> Query:
    return compiled(select(t.cache_entry).where(_C.key == given("key")))


@cache
def _newest() -> Query:
    mine = (_C.source, _C.ref, _C.workflow, _C.step)
    return compiled(
        select(t.cache_entry)
        .where(*(column == given(column.name) for column in mine))
        .order_by(_C.created_at.desc())
        .limit(NEAREST)
    )


@cache
def _expired() -> Query:
    keys = select(_C.key, _C.source, _C.ref).where(_C.expires_at <= given("now"))
    return compiled(keys.limit(bindparam("most", type_=Integer)))


@cache
def _total() -> Query:
    return compiled(select(func.coalesce(func.sum(_C.size), 0)))


@cache
def _least_used() -> Query:
    oldest = select(_C.key, _C.source, _C.ref, _C.size).order_by(_C.last_used_at, _C.key)
    return compiled(oldest.limit(bindparam("most", type_=Integer)))
