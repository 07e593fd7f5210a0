"""The store as the rest of the house sees it."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Self, TypeVar

from controller import layout
from controller.clock import Clock
from controller.disk import explain_os
from controller.errors import RondelError, TransientError
from controller.model.cache import CacheEntry, Scope
from controller.model.changes import Change
from controller.model.workflow import History
from controller.store import (
    deliveries,
    limits,
    parse_cache,
    recovery,
    results,
    retention,
    words,
)
from controller.store.apply import apply
from controller.store.blobs import BlobStore
from controller.store.connection import open_for_writing
from controller.store.instances import (
    InstanceLock,
    drop_dead_locks,
    is_alive,
    lock_path,
    make_private,
    settling_lock,
)
from controller.store.place import database_path
from controller.store.reader import Reader
from controller.store.recovery import Candidate
from controller.store.retention import Keep
from controller.store.schema import prepare
from controller.store.statements import Statements
from controller.store.status_rows import Instance, instance_values
from controller.store.transaction import Context, Transaction
from controller.store.writer import Call, Writer

T = TypeVar("T")

NO_LIMITS: Mapping[limits.Key, History] = MappingProxyType({})

_READERS = 2  # threads
_TRIM_EVERY = 1_000


class Store:
    """Records what happens and tells what happened, for one process: one instance."""

    def __init__(
        self, state_dir: Path, url: str, lock: InstanceLock, context: Context, writer: Writer
    ) -> None:
        self.state_dir = state_dir
        self.instance = context.instance
        self.blobs = context.blobs
        self._clock = context.clock
        self._url, self._lock, self._writer = url, lock, writer
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="rondel-store-reader")
        self._own = threading.local()
        self._readers: list[Reader] = []
        self._closed = False
        self._new_entries = 0  # of the parse cache, since it was trimmed

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
        context = Context(Statements(), lock.id, BlobStore(layout.blobs(state_dir)), clock)
        opening = partial(
            open_for_writing, path, busy_seconds=busy_seconds, synchronous=synchronous
        )
        writer = Writer(opening, partial(Transaction, context=context), str(path))
        writer.start()
        store = cls(state_dir, url, lock, context, writer)
        try:
            await store._register(kind)
        except BaseException:
            await store.close()
            raise
        return store

    async def _register(self, kind: str) -> None:
        row = Instance(
            id=self.instance,
            kind=kind,
            pid=os.getpid(),
            host=socket.gethostname(),
            started_at=self._clock.now(),
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
        if self._closed:
            raise TransientError("the store is closed", reason="StoreUnavailable")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._look, look)

    def _look(self, look: Callable[[Reader], T]) -> T:
        reader: Reader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = Reader.open(self.state_dir, self._url)
            self._readers.append(reader)
        with reader.snapshot():
            return look(reader)

    async def kept_inputs(self, digests: Collection[str]) -> dict[str, str]:
        """Return digest -> blob of the inputs that are kept."""
        return await self.read(lambda reader: reader.kept_inputs(digests))

    async def recover_candidates(self) -> list[Candidate]:
        """Take over what instances that are gone have left; call it again at any time.

        Runs that were claimed and not begun are Pending again. The others come back with their
        specs, steps and attempts, `instance` still naming who was lost: they are this instance's
        now, and the caller's to settle.
        """
        return await self.write(self._take_over)

    def _take_over(self, tx: Transaction) -> list[Candidate]:
        known = recovery.known(tx)
        gone = [name for name in sorted(known) if not is_alive(self.state_dir, name)]
        candidates = recovery.take_over(tx, gone, self._clock.now())
        for instance in gone:
            tx.change(tx.say.drop_instance, {"k_id": instance})
        return candidates

    async def parsed(self, blobs: Collection[str], version: str) -> dict[str, str]:
        """Return blob -> index of those that were read before by that version of the reader."""
        now = self._clock.now()
        index, stale = await self.read(
            lambda reader: parse_cache.look_up(reader, blobs, version, now)
        )
        if stale:
            await self.write(parse_cache.stamp(stale, version, now))
        return index

    async def put_parsed(self, entries: Iterable[parse_cache.Entry]) -> None:
        """Keep what was read: (blob, version, index, each document's body by its number)."""
        call = parse_cache.put(entries, self._clock.now())
        self._new_entries += await self.write(call)
        if self._new_entries >= _TRIM_EVERY:
            self._new_entries = 0
            await self.write(parse_cache.trim())

    async def body(self, blob: str, version: str, document: int) -> str | None:
        """Return a document's body; None when the cache doesn't hold it (any more)."""
        return await self.read(lambda reader: parse_cache.body(reader, blob, version, document))

    async def look_up(
        self, scopes: Sequence[Scope], keys: Collection[str]
    ) -> Mapping[str, CacheEntry]:
        """Return key -> its result, of the first scope that has one; expired ones too."""
        return await self.read(lambda reader: results.look_up(reader, scopes, keys))

    async def newest(
        self, scopes: Sequence[Scope], workflow: str, steps: Collection[str]
    ) -> Mapping[str, Sequence[CacheEntry]]:
        """Return step -> the newest results of each of these steps of a workflow."""
        return await self.read(lambda reader: results.newest(reader, scopes, workflow, steps))

    async def housekeep(self, keep: Keep, own: Mapping[limits.Key, History] = NO_LIMITS) -> int:
        """Drop what is beyond its limits, little by little; return how many runs went.

        `own` has the limits that each declared workflow sets; others keep the last they set.
        """
        now = self._clock.now()
        if said := await self.read(lambda reader: limits.changed(reader, own)):
            await self.write(limits.put(said))
        dropped = 0
        while found := await self.read(lambda reader: retention.surplus(reader, keep, now)):
            went = [await self.write(retention.drop_runs(b)) for b in retention.batches(found)]
            dropped += sum(went)
            if not any(went):
                break  # all were taken up meanwhile
        await self._forget_dead()
        await self.write(retention.drop_specs)
        await self.write(retention.drop_inputs)
        while await self.write(retention.drop_events(keep, now)):
            pass
        await self.write(deliveries.drop_old(now))
        await self.write(words.drop_old(now))
        while await self.write(results.drop_expired(now)):
            pass
        while await self.write(results.drop_beyond(keep.results_size)):
            pass
        before = now - retention.GRACE
        old = await asyncio.to_thread(lambda: list(self.blobs.old(before)))
        if old:
            await self.write(retention.drop_blobs(self.blobs, old, before))
        return dropped

    async def _forget_dead(self) -> None:
        """Forget the instances that are gone and have left nothing to settle."""
        for instance in await self.write(self._drop_dead):
            lock_path(self.state_dir, instance).unlink(missing_ok=True)

    def _drop_dead(self, tx: Transaction) -> list[str]:
        dead = [one for one in recovery.idle(tx) if not is_alive(self.state_dir, one)]
        tx.change_many(tx.say.drop_instance, [{"k_id": one} for one in dead])
        return dead

    async def close(self) -> None:
        """Write what is queued, sign this instance off and let go of everything."""
        if self._closed:
            return
        self._closed = True
        try:
            with suppress(RondelError):  # the lock that goes says the same
                await self.write(_sign_off)
        finally:
            await asyncio.to_thread(self._threads.shutdown)
            for reader in self._readers:
                reader.close()
            await self._writer.close()
            self._lock.release()


def _settle_in(state_dir: Path, path: Path, kind: str) -> InstanceLock:
    """Make what is missing, one process at a time, and take this instance's lock."""
    try:
        return _take_place(state_dir, path, kind)
    except OSError as error:
        raise explain_os(error, state_dir) from error


def _take_place(state_dir: Path, path: Path, kind: str) -> InstanceLock:
    make_private(state_dir)
    make_private(path.parent)
    creation = settling_lock(state_dir)
    creation.acquire(wait=True)
    try:
        prepare(path)
        drop_dead_locks(state_dir)
        lock = InstanceLock(state_dir, kind)
        lock.acquire()
    finally:
        creation.release()
    return lock


def _sign_off(tx: Transaction) -> None:
    tx.change(tx.say.drop_instance, {"k_id": tx.instance})
