"""How many ended runs each workflow keeps: what its manifest said last, also when it is gone."""

from collections.abc import Callable, Mapping
from functools import cache

from sqlalchemy import Integer, bindparam, delete, insert, select
from sqlalchemy.sql.elements import BindParameter

from controller.model.workflow import History
from controller.store import tables as t
from controller.store.reader import Reader
from controller.store.statements import Query, compiled, given
from controller.store.transaction import Transaction

Key = tuple[str, str]
"""(source, workflow)"""

AS_CONFIGURED = History()


def changed(reader: Reader, declared: Mapping[Key, History]) -> dict[Key, History]:
    """Return those of the declared whose limits are not what the store holds.

    A workflow that isn't declared (any more) keeps the last limits it had.
    """
    held = {
        (source, workflow): History(
            successful=successful, failed=failed, keep_last_successful=bool(keep_last)
        )
        for source, workflow, successful, failed, keep_last in reader.rows(_held(), {})
    }
    return {key: said for key, said in declared.items() if held.get(key, AS_CONFIGURED) != said}


def put(said: Mapping[Key, History]) -> Callable[[Transaction], None]:
    """Return the call that writes these limits down; those of the configuration need no row."""

    def call(tx: Transaction) -> None:
        tx.change_many(_drop(), [{"source": key[0], "workflow": key[1]} for key in said])
        rows = [_values(key, one) for key, one in said.items() if one != AS_CONFIGURED]
        tx.change_many(_add(), rows)

    return call


def _values(key: Key, said: History) -> dict[str, str | int | None]:
    return {
        "source": key[0],
        "workflow": key[1],
        "successful": said.successful,
        "failed": said.failed,
        "keep_last": int(said.keep_last_successful),
    }


def _number(name: str) -> BindParameter[int]:
    return bindparam(name, type_=Integer)


@cache
def _held() -> Query:
    c = t.history_limit.c
    return compiled(select(c.source, c.workflow, c.successful, c.failed, c.keep_last))


@cache
def _drop() -> Query:
    c = t.history_limit.c
    here = (c.source == given("source")) & (c.workflow == given("workflow"))
    return compiled(delete(t.history_limit).where(here))


@cache
def _add() -> Query:
    values = {name: given(name) for name in ("source", "workflow")} | {
        name: _number(name) for name in ("successful", "failed", "keep_last")
    }
    return compiled(insert(t.history_limit).values(values))
