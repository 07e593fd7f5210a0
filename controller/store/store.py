"""The store as the rest of the house sees it."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from controller.clock import Clock
from controller.model.changes import Change
from controller.store.apply import apply
from controller.store.connection import open_for_writing
from controller.store.instances import FileLock, InstanceLock, make_private
from controller.store.place import database_path
from controller.store.reader import Reader
from controller.store.rows import Instance, instance_values
from controller.store.schema import prepare
from controller.store.statements import Statements
from controller.store.transaction import Transaction
from controller.store.writer import Call, Writer

T = TypeVar("T")

_READERS = 2  # threads


class Store:
    """Records what happens and tells what happened, for one process: one instance."""

    def __init__(self, state_dir: Path, url: str, lock: InstanceLock, writer: Writer) -> None:
        self.state_dir = state_dir
        self.instance = lock.id
        self._url, self._lock, self._writer = url, lock, writer
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="rondel-store-reader")
        self._own = threading.local()
        self._readers: list[Reader] = []

    @classmethod
    async def open(
        cls,
        state_dir: Path,
        *,
        clock: Clock,
        url: str = "",
        kind: str = "serve",
        synchronous: str = "FULL",
        busy_seconds: float = 10.0,
    ) -> Self:
        """Open the store of a state directory, made or migrated when it must be.

        `kind` says what this process is: serve, exec, api. `synchronous` FULL keeps what was
        acknowledged through a power cut, NORMAL through the death of the process only.

        Raises:
            UsageError: `url` is no database this program can use.
            StalledError: StoreTooNew, StoreDamaged.
            TransientError: StoreUnavailable, StoreFull, StoreReadOnly.
        """
        path = database_path(state_dir, url)
        lock = await asyncio.to_thread(_settle_in, state_dir, path, kind)
        opening = partial(
            open_for_writing, path, busy_seconds=busy_seconds, synchronous=synchronous
        )
        writer = Writer(opening, Statements(), lock.id, str(path))
        writer.start()
        store = cls(state_dir, url, lock, writer)
        try:
            await store._register(kind, clock)
        except BaseException:
            await store.close()
            raise
        return store

    async def _register(self, kind: str, clock: Clock) -> None:
        row = Instance(
            id=self.instance,
            kind=kind,
            pid=os.getpid(),
            host=socket.gethostname(),
            started_at=clock.now(),
        )
        await self.write(lambda tx: tx.change(tx.say.put_instance, instance_values(row)))

    async def record(self, *changes: Change) -> tuple[bool, ...]:
        """Write the changes with their events in one transaction; return which were applied.

        Raises:
            TransientError: StoreUnavailable, StoreFull, StoreReadOnly; nothing was written.
            StalledError: StoreDamaged.
        """
        return await self.write(lambda tx: tuple([apply(tx, change) for change in changes]))

    async def write(self, call: Call[T]) -> T:
        """Run `call` in the writer's thread, in a transaction; it may be run twice."""
        return await self._writer.write(call)

    async def read(self, look: Callable[[Reader], T]) -> T:
        """Return what `look` returns; it runs in a reader's thread and sees one moment."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._look, look)

    def _look(self, look: Callable[[Reader], T]) -> T:
        reader: Reader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = Reader.open(self.state_dir, self._url)
            self._readers.append(reader)
        with reader.snapshot():
            return look(reader)

    async def close(self) -> None:
        """Write what is queued, sign this instance off and let go of everything."""
        try:
            await self.write(_sign_off)
        finally:
            await asyncio.to_thread(self._threads.shutdown)
            for reader in self._readers:
                reader.close()
            await self._writer.close()
            self._lock.release()


def _settle_in(state_dir: Path, path: Path, kind: str) -> InstanceLock:
    """Make what is missing, one process at a time, and take this instance's lock."""
    make_private(state_dir)
    make_private(path.parent)
    creation = FileLock(state_dir / "store.lock")
    creation.acquire(wait=True)
    try:
        prepare(path)
        lock = InstanceLock(state_dir, kind)
        lock.acquire()
    finally:
        creation.release()
    return lock


def _sign_off(tx: Transaction) -> None:
    tx.change(tx.say.drop_instance, {"k_id": tx.instance})
