"""What the store knows, for those who only look: commands without a daemon, the API, the loop."""

import json
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Select, Table, select, text
from sqlalchemy.sql import ClauseElement

from controller.errors import UnreachableError
from controller.model.cache import CacheEntry
from controller.model.condition import SourceStatus, WorkflowStatus
from controller.model.run import Attempt, Event, Phase, Run, StepRun
from controller.model.token import Token
from controller.model.workflow import Json
from controller.store import deliveries, results, rows, status_rows, tokens
from controller.store import tables as t
from controller.store.connection import Connection, explain, open_for_reading
from controller.store.place import database_path
from controller.store.rows import Row, time_text
from controller.store.schema import HEAD, check_not_newer, version
from controller.store.statements import Query, compiled

_FEW = 500
_NEWEST_FIRST = (t.run.c.created_at.desc(), t.run.c.id.desc())


class Reader:
    """Reads one store. Every list is complete unless `limit` says otherwise.

    Safe to share among threads; each method is one consistent look, and `snapshot` makes several
    of them one.
    """

    def __init__(self, connection: Connection, where: str) -> None:
        self._connection, self._where = connection, where
        self._lock = threading.RLock()

    @classmethod
    def open(cls, state_dir: Path, url: str = "") -> Self:
        """Open the store of a state directory.

        Raises:
            UnreachableError: there is none, it can't be read, or it wants `rondel db upgrade`.
            StalledError: StoreTooNew.
        """
        path = database_path(state_dir, url)
        if not path.exists():
            raise UnreachableError(
                "there is no store here",
                where=str(state_dir),
                remedy="name the state directory with --state-dir or RONDEL_STATE_DIR",
            )
        try:
            connection = open_for_reading(path)
            found = version(connection)
        except sqlite3.Error as error:
            raise _unreadable(error, state_dir) from error
        _check(found, path)
        return cls(connection, str(path))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def snapshot(self) -> Iterator[Self]:
        """Make all reads inside see one moment. Keep it short: the log grows meanwhile."""
        with self._lock:
            if self._connection.in_transaction:  # inside a snapshot already
                yield self
                return
            self._connection.execute("BEGIN")
            try:
                yield self
            finally:
                self._connection.execute("COMMIT")

    def fetch(self, statement: ClauseElement) -> list[Row]:
        """Return the rows of a statement of this room."""
        query = compiled(statement)
        try:
            with self._lock:
                return self._connection.execute(query.text, query.constants).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self._where) from error

    def rows(self, query: Query, values: Mapping[str, Any]) -> list[Row]:
        """Return the rows of a statement that was compiled before: for looks that are many."""
        try:
            with self._lock:
                return self._connection.execute(
                    query.text, {**query.constants, **values}
                ).fetchall()
        except sqlite3.Error as error:
            raise explain(error, self._where) from error

    def run_ids(self) -> set[str]:
        """Return the ids of all runs that are kept."""
        return {run for (run,) in self.fetch(select(t.run.c.id))}

    def revisions(self) -> set[str]:
        """Return the revisions of all runs that are kept."""
        return {one for (one,) in self.fetch(select(t.run.c.revision).distinct())}

    def runs(
        self,
        *,
        source: str | None = None,
        workflow: str | None = None,
        phases: Collection[Phase] | None = None,
        since: datetime | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Return runs without their specs, newest first.

        `since` keeps those created then or later; `before` those after that (created_at, id) in
        the list's order, which is how a page is continued.
        """
        query = _where(select(t.run), t.run, source=source, workflow=workflow)
        if phases is not None:
            query = query.where(t.run.c.phase.in_(sorted(phase.value for phase in phases)))
        if since is not None:
            query = query.where(t.run.c.created_at >= time_text(since))
        if before is not None:
            query = query.where(_earlier(*before))
        found = self.fetch(query.order_by(*_NEWEST_FIRST).limit(limit))
        return [rows.read_run(row) for row in found]

    def active(self) -> list[Run]:
        """Return every Pending and Running run without its spec, oldest first."""
        query = select(t.run).where(text(t.ACTIVE)).order_by(t.run.c.created_at, t.run.c.id)
        return [rows.read_run(row) for row in self.fetch(query)]

    def planned(self) -> list[Run]:
        """Return `active` without those that are steps of another run."""
        return [one for one in self.active() if one.parent is None]

    def called(self, run_id: str) -> list[Run]:
        """Return the runs that are steps of this one, without their specs, oldest first."""
        query = select(t.run).where(t.run.c.parent == run_id)
        found = self.fetch(query.order_by(t.run.c.created_at, t.run.c.id))
        return [rows.read_run(row) for row in found]

    def run(self, run_id: str) -> Run | None:
        """Return the run with its spec; None when there is none of that id."""
        joined = select(t.run, t.spec.c.body).join_from(
            t.run, t.spec, t.spec.c.digest == t.run.c.spec, isouter=True
        )
        found = self.fetch(joined.where(t.run.c.id == run_id))
        return rows.read_run(found[0], found[0][-1] or "") if found else None

    def run_by_prefix(self, prefix: str, *, limit: int = 10) -> list[Run]:
        """Return the runs whose id begins so, newest first: an unclear prefix has several."""
        begins = (t.run.c.id >= prefix) & (t.run.c.id < prefix + "\U0010ffff")
        query = select(t.run).where(begins).order_by(*_NEWEST_FIRST).limit(limit)
        return [rows.read_run(row) for row in self.fetch(query)]

    def any_run(self, source: str, workflow: str, prefix: str) -> bool:
        """Tell whether a run of the workflow has an identity that begins so."""
        begins = (t.run.c.identity >= prefix) & (t.run.c.identity < prefix + "\U0010ffff")
        query = _where(select(t.run.c.id), t.run, source=source, workflow=workflow)
        return bool(self.fetch(query.where(begins).limit(1)))

    def steps(self, run_id: str) -> list[StepRun]:
        """Return the run's steps in the manifest's order, combinations by their index."""
        s = t.step_run.c
        query = select(t.step_run).where(s.run == run_id).order_by(s.position, s.name, s.index)
        return [rows.read_step(row) for row in self.fetch(query)]

    def served(self, run_id: str) -> list[StepRun]:
        """Return the run's steps that kept results served."""
        s = t.step_run.c
        query = select(t.step_run).where(s.run == run_id, s.cached == 1)
        return [rows.read_step(row) for row in self.fetch(query.order_by(s.position, s.index))]

    def attempts(self, run_id: str, step: str | None = None) -> list[Attempt]:
        """Return the attempts of a run, or of one step, by step, index and number."""
        query = _where(select(t.attempt), t.attempt, run=run_id, step=step)
        a = t.attempt.c
        found = self.fetch(query.order_by(a.step, a.index, a.number))
        return [rows.read_attempt(row) for row in found]

    def matrices(self, run_id: str) -> dict[tuple[str, int], Mapping[str, Json]]:
        """Return (step, index) -> values, of the combinations of the run's matrix steps."""
        s = t.step_run.c
        query = select(s.name, s.index, s.matrix).where(s.run == run_id, s.matrix.is_not(None))
        return {(name, index): json.loads(text) for name, index, text in self.fetch(query)}

    def events(
        self,
        *,
        source: str | None = None,
        workflow: str | None = None,
        run: str | None = None,
        after: int | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return events, oldest first.

        With `after` (an event's id) those that follow it, the next `limit`; without it the newest
        `limit`.
        """
        query = _where(select(t.event), t.event, source=source, workflow=workflow, run=run)
        if run is not None:
            query = query.where(t.OF_A_RUN)
        if since is not None:
            query = query.where(t.event.c.at >= time_text(since))
        if after is not None:
            ordered = query.where(t.event.c.id > after).order_by(t.event.c.id)
            return [rows.read_event(row) for row in self.fetch(ordered.limit(limit))]
        newest = self.fetch(query.order_by(t.event.c.id.desc()).limit(limit))
        return [rows.read_event(row) for row in reversed(newest)]

    def workflows(
        self, source: str | None = None, *, retired: bool = False
    ) -> list[WorkflowStatus]:
        """Return the workflows by source and name; `retired` adds those that left."""
        query = _where(select(t.workflow), t.workflow, source=source)
        if not retired:
            query = query.where(t.workflow.c.retired == 0)
        with self.snapshot():
            slots = self._slots(source=source)
            found = self.fetch(query.order_by(t.workflow.c.source, t.workflow.c.name))
        return [status_rows.read_workflow(row, slots.get((row[0], row[1]), {})) for row in found]

    def workflow(self, source: str, name: str) -> WorkflowStatus | None:
        """Return one workflow, also a retired one."""
        query = _where(select(t.workflow), t.workflow, source=source, name=name)
        with self.snapshot():
            slots = self._slots(source=source, workflow=name)
            found = self.fetch(query)
        return status_rows.read_workflow(found[0], slots.get((source, name), {})) if found else None

    def _slots(self, **keys: str | None) -> Mapping[tuple[str, str], status_rows.Slots]:
        found: defaultdict[tuple[str, str], dict[str, tuple[datetime, str | None]]] = defaultdict(
            dict
        )
        for source, workflow, schedule, through, key in self.fetch(
            _where(select(t.schedule), t.schedule, **keys)
        ):
            found[source, workflow][schedule] = (rows.read_time(through), key)
        return found

    def sources(self) -> list[SourceStatus]:
        query = select(t.source).order_by(t.source.c.name)
        return [status_rows.read_source(row) for row in self.fetch(query)]

    def source(self, name: str) -> SourceStatus | None:
        found = self.fetch(_where(select(t.source), t.source, name=name))
        return status_rows.read_source(found[0]) if found else None

    def parsed(self, blobs: Collection[str], version: str) -> dict[str, str]:
        """Return blob -> what `manifest.encode` said of it, for those that are kept."""
        return {blob: told for blob, told, _ in self.parsed_rows(blobs, version)}

    def parsed_rows(self, blobs: Collection[str], version: str) -> Iterator[Row]:
        """Yield (blob, text, when it was last stamped as used) of those that are kept."""
        c = t.parsed.c
        query = select(c.blob, c.text, c.used_at).where(c.version == version)
        if len(blobs) <= _FEW:
            yield from self.fetch(query.where(c.blob.in_(blobs)))
        else:  # reading all is faster than naming thousands
            wanted = frozenset(blobs)
            yield from (row for row in self.fetch(query) if row[0] in wanted)

    def body(self, blob: str, version: str, document: int) -> str | None:
        """Return a document's body as `manifest` pinned it; None when it isn't kept."""
        c = t.parsed_body.c
        found = self.fetch(
            select(c.body).where(c.blob == blob, c.version == version, c.document == document)
        )
        return str(found[0][0]) if found else None

    def cache_entries(self, **wish: Any) -> list[CacheEntry]:
        """Return kept results of steps; `wish` is what `results.entries` takes."""
        return results.entries(self, **wish)

    def kept_inputs(self, digests: Collection[str]) -> dict[str, str]:
        """Return digest -> blob of those of the inputs that are kept."""
        c = t.kept_input.c
        found = self.fetch(select(c.digest, c.blob).where(c.digest.in_(digests)))
        return {str(name): str(blob) for name, blob in found}

    def delivered(self, receiver: str, marks: Collection[str]) -> bool:
        """Tell whether a webhook with one of these marks was taken before."""
        return deliveries.delivered(self, receiver, marks)

    def tokens(self) -> list[Token]:
        """Return every token of the API, by name."""
        return tokens.listed(self)

    def token(self, digest: str) -> Token | None:
        """Return the token of that hash, expired or not."""
        return tokens.of_hash(self, digest)

    def instances(self) -> list[status_rows.Instance]:
        """Return the processes that registered and did not sign off, oldest first."""
        query = select(t.instance).order_by(t.instance.c.started_at, t.instance.c.id)
        return [status_rows.read_instance(row) for row in self.fetch(query)]


def _where(query: Select[Any], table: Table, **equal: str | None) -> Select[Any]:
    """Return `query` with a condition for each value that is given."""
    given = {name: value for name, value in equal.items() if value is not None}
    return query.where(*(table.c[name] == value for name, value in given.items()))


def _earlier(created_at: datetime, run_id: str) -> Any:
    c, at = t.run.c, time_text(created_at)
    return (c.created_at < at) | ((c.created_at == at) & (c.id < run_id))


def _unreadable(error: sqlite3.Error, state_dir: Path) -> UnreachableError:
    return UnreachableError(
        f"the store can't be read: {error}",
        where=str(state_dir),
        remedy="check the directory's owner, or name another with --state-dir",
    )


def _check(found: str | None, path: Path) -> None:
    if found is None:
        raise UnreachableError(
            "the store is empty", where=str(path), remedy="start `rondel serve` on it once"
        )
    check_not_newer(found, path)
    if found != HEAD:
        raise UnreachableError(
            f"the store has schema {found}, this Rondel reads {HEAD}",
            where=str(path),
            remedy="run `rondel db upgrade`, or start `rondel serve` once",
        )
