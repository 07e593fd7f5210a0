"""The one thread that writes. What several callers have queued is committed together.

A caller's call is atomic in itself; nobody is told of success before the commit. The calls of a
group share one transaction; when one of them fails, the group is rolled back and applied again with
each call in a savepoint, so that only the failing one fails. Calls must therefore do nothing but
write through the transaction they are given.
"""

import asyncio
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from controller.errors import TransientError
from controller.store.connection import Connection, explain
from controller.store.transaction import Transaction

T = TypeVar("T")
Call = Callable[[Transaction], T]

_GROUP = 500  # calls in one commit at most, so that the first is not kept waiting


@dataclass(slots=True)
class _Job:
    call: Call[Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Tell the caller; one that was cancelled in the meantime hears nothing."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Writer:
    """Owns the writing connection from `start` to `close`."""

    def __init__(
        self,
        opening: Callable[[], Connection],
        begin: Callable[[Connection], Transaction],
        where: str,
    ) -> None:
        self._opening, self._begin, self._where = opening, begin, where
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rondel-store-writer", daemon=True)
        self._closed = False

    def start(self) -> None:
        self._thread.start()

    async def write(self, call: Call[T]) -> T:
        """Run `call` in a transaction and return what it returned, after the commit.

        Raises:
            TransientError: StoreUnavailable, StoreFull, StoreReadOnly; nothing was written.
            StalledError: StoreDamaged.
        """
        if self._closed:
            raise TransientError("the store is closed", reason="StoreUnavailable")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Job(call, future, loop))
        return await future

    async def close(self) -> None:
        """Commit what is queued, fold the log into the database, end the thread."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        connection: Connection | None = None
        last = False
        while not last:
            group, last = self._next_group()
            try:
                connection = connection or self._opening()
                self._commit(connection, group)
            except Exception as error:  # noqa: BLE001 - the thread outlives any trouble
                _fail(group, self._told(error))
            _settle(group)
        if connection is not None:
            _end(connection)

    def _next_group(self) -> tuple[list[_Job], bool]:
        """Wait for a call; return it with those behind it, and whether the end was asked for."""
        group: list[_Job] = []
        job = self._queue.get()
        try:
            while job is not None and len(group) < _GROUP:
                group.append(job)
                job = self._queue.get_nowait()
        except Empty:
            return group, False
        if job is not None:
            group.append(job)
        return group, job is None

    def _commit(self, connection: Connection, group: list[_Job]) -> None:
        if group and not self._commit_at_once(connection, group):
            self._commit_apart(connection, group)

    def _commit_at_once(self, connection: Connection, group: list[_Job]) -> bool:
        """Apply and commit the whole group; False (and nothing written) when a call failed."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            tx = self._begin(connection)
            for job in group:
                job.result = job.call(tx)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - told to the caller whose call it was
            _roll_back(connection)
            if len(group) == 1:
                group[0].error = self._told(error)
            return len(group) == 1
        return True

    def _commit_apart(self, connection: Connection, group: list[_Job]) -> None:
        """Apply each call in a savepoint: one that fails doesn't spoil the others."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            for job in group:
                self._apply_apart(connection, job)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _apply_apart(self, connection: Connection, job: _Job) -> None:
        connection.execute("SAVEPOINT call")
        try:
            job.result = job.call(self._begin(connection))
        except Exception as error:  # noqa: BLE001 - told to the caller whose call it was
            job.error = self._told(error)
            connection.execute("ROLLBACK TO call")
        connection.execute("RELEASE call")

    def _told(self, error: Exception) -> Exception:
        return explain(error, self._where) if isinstance(error, sqlite3.Error) else error


def _roll_back(connection: Connection) -> None:
    """End the transaction, unless SQLite has done so itself (a full disk may make it)."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _fail(group: Iterable[_Job], error: Exception) -> None:
    for job in group:
        job.error = job.error or error


def _settle(group: Iterable[_Job]) -> None:
    """Wake each loop once."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Job]] = defaultdict(list)
    for job in group:
        by_loop[job.loop].append(job)
    for loop, jobs in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle_all, jobs)


def _settle_all(jobs: Iterable[_Job]) -> None:
    for job in jobs:
        job.settle()


def _end(connection: Connection) -> None:
    """Fold the write-ahead log into the database as far as readers let us, then close."""
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:  # the next opening does it
        pass
    finally:
        connection.close()
