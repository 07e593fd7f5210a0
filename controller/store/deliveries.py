"""Webhooks that were taken: kept for so long that nobody repeats one."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from controller.model.changes import TakeDelivery
from controller.model.run import Event
from controller.store import tables as t
from controller.store.rows import time_text
from controller.store.statements import Query, compiled, given
from controller.store.transaction import Transaction

if TYPE_CHECKING:
    from controller.store.reader import Reader

KEPT = timedelta(days=90)
"""How long a webhook is remembered: those that sign no time could be repeated after it."""

_C = t.delivery.c


def take(tx: Transaction, change: TakeDelivery) -> bool:
    """Remember a webhook by its marks, with its event; False when one of them is known."""
    one = change.delivery
    keys = [{"receiver": one.receiver, "mark": mark} for mark in one.marks]
    if any(tx.rows(_known(), key) for key in keys):
        return False
    tx.change_many(_put(), [{**key, "at": time_text(one.at)} for key in keys])
    data = {"receiver": one.receiver, "delivery": one.id, "runs": change.runs}
    tx.tell(Event(at=one.at, reason="DeliveryTaken", data=data))
    return True


def delivered(reader: "Reader", receiver: str, marks: Collection[str]) -> bool:
    """Tell whether a webhook with one of these marks was taken before."""
    return any(reader.rows(_known(), {"receiver": receiver, "mark": mark}) for mark in marks)


def drop_old(now: datetime) -> Callable[[Transaction], int]:
    """Return the call that forgets webhooks that are older than `KEPT`."""
    return lambda tx: tx.change_many(_drop_old(), [{"before": time_text(now - KEPT)}])


@cache
def _put() -> Query:
    return compiled(insert(t.delivery).on_conflict_do_nothing())


@cache
def _known() -> Query:
    return compiled(select(_C.at).where(_C.receiver == given("receiver"), _C.mark == given("mark")))


@cache
def _drop_old() -> Query:
    return compiled(delete(t.delivery).where(_C.at < given("before")))
