"""One open transaction: statements in, rows out, and the event that tells of each change."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller.clock import Clock
from controller.model.run import Event
from controller.model.workflow import Json
from controller.store.blobs import BlobStore, Note
from controller.store.connection import Connection
from controller.store.rows import Row, clean, event_values, json_text, time_text
from controller.store.statements import Query, Statements


@dataclass(frozen=True, slots=True)
class Context:
    """What every transaction of a process shares."""

    say: Statements
    instance: str
    blobs: BlobStore
    clock: Clock


class Transaction:
    """What a call of the writer may do. `instance` is the process that writes."""

    def __init__(self, connection: Connection, context: Context) -> None:
        self._connection = connection
        self._context = context
        self.say = context.say
        self.instance = context.instance

    def change(self, query: Query, values: Mapping[str, Any]) -> bool:
        """Execute; return whether a row was changed."""
        return self._run(query, values).rowcount > 0

    def change_many(self, query: Query, rows: Iterable[Mapping[str, Any]]) -> int:
        """Execute for each of the rows; return how many rows changed."""
        fixed = query.constants
        given = ({**fixed, **row} for row in rows) if fixed else rows
        return self._connection.executemany(query.text, given).rowcount

    def rows(self, query: Query, values: Mapping[str, Any]) -> list[Row]:
        return self._run(query, values).fetchall()

    def _run(self, query: Query, values: Mapping[str, Any]) -> sqlite3.Cursor:
        given = {**query.constants, **values} if query.constants else values
        return self._connection.execute(query.text, given)

    def name_blob(self, digest: str, note: Note | None = None) -> None:
        """Write down that a row names this blob; nothing for one that was written down before."""
        if known := note or self._context.blobs.noted(digest):
            at = time_text(self._context.clock.now())
            values = {"digest": digest, "created_at": at, **known._asdict()}
            self.change(self.say.put_blob, values)

    def blob_size(self, digest: str) -> int:
        """Return the bytes of a blob that was put of late by this process; else 0."""
        known = self._context.blobs.noted(digest)
        return known.size if known else 0

    def tell(self, event: Event) -> None:
        self.change(self.say.put_event, event_values(event))

    def tell_of_run(
        self,
        run: str,
        reason: str,
        at: datetime,
        *,
        step: str = "",
        message: str = "",
        data: Mapping[str, Json] | None = None,
    ) -> None:
        """Write an event of a run; its source and workflow come from the run's row."""
        values = {
            "run": run,
            "reason": reason,
            "at": time_text(at),
            "step": step,
            "message": clean(message),
            "data": json_text(data or {}),
        }
        self.change(self.say.put_run_event, values)
