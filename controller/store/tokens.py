"""Tokens of the API's TCP listener: rows and back; a token itself is never kept."""

from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from controller.model.changes import DropToken, PutToken
from controller.model.run import Event
from controller.model.token import Role, Token
from controller.store import tables as t
from controller.store.rows import Row, read_time, time_text
from controller.store.statements import Query, compiled, given
from controller.store.transaction import Transaction

if TYPE_CHECKING:
    from controller.store.reader import Reader

_C = t.token.c


def put(tx: Transaction, change: PutToken) -> bool:
    """Write a new token, with its event; False when its name is taken."""
    one = change.token
    values = {
        "name": one.name,
        "role": one.role.word,
        "hash": one.hash,
        "created_at": time_text(one.created_at),
        "expires_at": one.expires_at and time_text(one.expires_at),
    }
    if not tx.change(_put(), values):
        return False
    data = {"name": one.name, "role": one.role.word}
    tx.tell(Event(at=one.created_at, reason="TokenCreated", data=data))
    return True


def drop(tx: Transaction, change: DropToken) -> bool:
    """Forget a token, with its event; False when there is none of that name."""
    if not tx.change(_drop(), {"name": change.name}):
        return False
    tx.tell(Event(at=change.at, reason="TokenRemoved", data={"name": change.name}))
    return True


def listed(reader: "Reader") -> list[Token]:
    """Return every token, by name."""
    return [_read(row) for row in reader.rows(_all(), {})]


def of_hash(reader: "Reader", digest: str) -> Token | None:
    """Return the token of that hash, expired or not."""
    found = reader.rows(_by_hash(), {"hash": digest})
    return _read(found[0]) if found else None


def _read(row: Row) -> Token:
    name, role, digest, created_at, expires_at = row
    return Token(
        name=name,
        role=Role[role.upper()],
        hash=digest,
        created_at=read_time(created_at),
        expires_at=expires_at and read_time(expires_at),
    )


@cache
def _put() -> Query:
    return compiled(insert(t.token).on_conflict_do_nothing())


@cache
def _drop() -> Query:
    return compiled(delete(t.token).where(_C.name == given("name")))


@cache
def _all() -> Query:
    return compiled(select(t.token).order_by(_C.name))


@cache
def _by_hash() -> Query:
    return compiled(select(t.token).where(_C.hash == given("hash")))
