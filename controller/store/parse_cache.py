"""What a manifest said when it was read: kept by content and reader version, so read once.

A row that is used is stamped once a day; beyond `KEPT` rows the longest unused go, but for those
that workflows work by: their file may say something else by now, or be gone. Losing another one
costs a parse, nothing else.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TypeAlias

from sqlalchemy import Text, bindparam, delete, select, update
from sqlalchemy.dialects import sqlite

from controller.store import tables as t
from controller.store.reader import Reader
from controller.store.rows import clean, time_text
from controller.store.statements import Query, compiled
from controller.store.transaction import Transaction

Entry: TypeAlias = tuple[str, str, str, tuple[str, ...]]
"""Git's blob id, the reader's version, the index, each document's body by its number ("": none)."""

KEPT = 50_000
_STAMPED_EVERY = timedelta(days=1)
_MANY = 1_000_000  # SQLite takes no offset without a limit


def look_up(
    reader: Reader, blobs: Collection[str], version: str, now: datetime
) -> tuple[dict[str, str], list[str]]:
    """Return blob -> index for those that are kept, and the blobs whose stamp is old."""
    stale_before = time_text(now - _STAMPED_EVERY)
    index: dict[str, str] = {}
    stale: list[str] = []
    for blob, text, used_at in reader.parsed_rows(blobs, version):
        index[blob] = text
        if used_at < stale_before:
            stale.append(blob)
    return index, stale


def body(reader: Reader, blob: str, version: str, document: int) -> str | None:
    c = t.parsed_body.c
    found = reader.fetch(
        select(c.body).where(c.blob == blob, c.version == version, c.document == document)
    )
    return str(found[0][0]) if found else None


def put(entries: Iterable[Entry], now: datetime) -> Callable[[Transaction], int]:
    """Return the call that keeps `entries`; it returns how many indexes there were."""
    at = time_text(now)
    kept = list(entries)
    index = [
        {"blob": blob, "version": version, "text": text, "used_at": at}
        for blob, version, text, _ in kept
    ]
    bodies = [
        {"blob": blob, "version": version, "document": number, "body": clean(text)}
        for blob, version, _, documents in kept
        for number, text in enumerate(documents)
        if text
    ]

    def call(tx: Transaction) -> int:
        tx.change_many(_put_index(), index)
        tx.change_many(_put_body(), bodies)
        return len(index)

    return call


def stamp(blobs: Sequence[str], version: str, now: datetime) -> Callable[[Transaction], int]:
    at = time_text(now)
    rows = [{"k_blob": blob, "k_version": version, "used_at": at} for blob in blobs]
    return lambda tx: tx.change_many(_stamp(), rows)


def trim(kept: int = KEPT) -> Callable[[Transaction], int]:
    """Return the call that drops the longest unused beyond `kept`; it returns how many went."""

    def call(tx: Transaction) -> int:
        surplus = tx.rows(_surplus(), {"kept": kept})
        gone = [dict(zip(("k_blob", "k_version"), row, strict=True)) for row in surplus]
        for query in _drop():
            tx.change_many(query, gone)
        return len(gone)

    return call


@cache
def _put_index() -> Query:
    new = sqlite.insert(t.parsed)
    put = {name: new.excluded[name] for name in ("text", "used_at")}
    return compiled(new.on_conflict_do_update(index_elements=["blob", "version"], set_=put))


@cache
def _put_body() -> Query:
    new = sqlite.insert(t.parsed_body)
    keys = ["blob", "version", "document"]
    put = {"body": new.excluded.body}
    return compiled(new.on_conflict_do_update(index_elements=keys, set_=put))


@cache
def _stamp() -> Query:
    key = (t.parsed.c.blob == bindparam("k_blob")) & (t.parsed.c.version == bindparam("k_version"))
    return compiled(update(t.parsed).where(key).values(used_at=bindparam("used_at", type_=Text)))


@cache
def _surplus() -> Query:
    c = t.parsed.c
    newest_first = (c.used_at.desc(), c.blob, c.version)
    rows = select(c.blob, c.version).order_by(*newest_first).limit(_MANY)
    surplus = rows.offset(bindparam("kept")).subquery()
    working = select(t.workflow.c.blob).where(t.workflow.c.retired == 0)
    return compiled(select(surplus).where(surplus.c.blob.not_in(working)))


@cache
def _drop() -> tuple[Query, ...]:
    return tuple(
        compiled(
            delete(table).where(
                table.c.blob == bindparam("k_blob"), table.c.version == bindparam("k_version")
            )
        )
        for table in (t.parsed, t.parsed_body)
    )
