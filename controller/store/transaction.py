"""One open transaction: statements in, rows out, and the event that tells of each change."""

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from controller.model.run import Event
from controller.model.workflow import Json
from controller.store.connection import Connection
from controller.store.rows import Row, clean, event_values, json_text, time_text
from controller.store.statements import Query, Statements


class Transaction:
    """What a writer's call may do. `instance` is the process that writes."""

    def __init__(self, connection: Connection, say: Statements, instance: str) -> None:
        self._connection = connection
        self.say = say
        self.instance = instance

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
