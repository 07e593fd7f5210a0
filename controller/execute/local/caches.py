"""Cache volumes as folders of this host, with a lock beside each for whoever shares it."""

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from controller.errors import StalledError
from controller.execute.local.workspace import forced
from controller.execute.ports import CacheMount, Output
from controller.model.workflow import CacheSharing

LOOK_SECONDS = 0.05  # between two tries at a lock that another process may hold
PRIVATE_MODE, PASSABLE_MODE = 0o700, 0o711
STRICTNESS = (CacheSharing.SHARED, CacheSharing.PRIVATE, CacheSharing.LOCKED)


class Caches:
    """The folders below one place. Attempts hold them: shared, or alone."""

    def __init__(self, state_dir: Path, user: tuple[int, int] | None = None) -> None:
        self._user = user
        # Another user may not pass through the state directory, and never should.
        beside = state_dir.with_name(f"{state_dir.name}-caches")
        self._place = state_dir / "caches" if user is None else beside
        self._turns: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def held(
        self, mounts: Iterable[CacheMount], output: Output
    ) -> AsyncIterator[Mapping[str, Path]]:
        """Hold what the mounts name; yield identity -> folder.

        A Private one that somebody holds has no folder here: the attempt gets an empty one. The
        others are waited for, always in one order, so that no two attempts wait for each other.

        Raises:
            StalledError: CacheUnreachable.
        """
        async with AsyncExitStack() as stack:
            found = {}
            for mount in strictest(mounts):
                lock = await self._hold(mount, output)
                if lock is not None:
                    stack.callback(os.close, lock)
                    found[mount.identity] = self._folder(mount)
            yield found

    def prune(self, before: float) -> int:
        """Remove the caches that nobody has held since `before` (of the epoch); return how many.

        One that is held stays, in whatever process: its lock says so.
        """
        return sum(
            _removed(lock_file, before)
            for lock_file in self._place.glob("*.json")
            if lock_file.stat().st_mtime < before
        )

    async def _hold(self, mount: CacheMount, output: Output) -> int | None:
        while True:
            lock = self._lock_file(mount)
            try:
                if not await self._taken(lock, mount, output):
                    os.close(lock)
                    return None
            except BaseException:
                os.close(lock)
                raise
            if os.fstat(lock).st_nlink:
                os.utime(lock)  # it tells when the cache was last used
                return lock
            os.close(lock)  # it was removed between our look and our lock: make it anew

    async def _taken(self, lock: int, mount: CacheMount, output: Output) -> bool:
        alone = mount.sharing is not CacheSharing.SHARED
        turn = self._turns.setdefault(mount.identity, asyncio.Lock())
        if not turn.locked() and taken(lock, alone=alone):
            return True
        if mount.sharing is CacheSharing.PRIVATE:
            return False
        output.note(f"waiting for the cache {mount.key!r}")
        # One waits at the lock, the rest for their turn: nobody is overtaken for ever.
        async with turn:
            while not taken(lock, alone=alone):  # noqa: ASYNC110 - held in another process, too
                await asyncio.sleep(LOOK_SECONDS)
        return True

    def _lock_file(self, mount: CacheMount) -> int:
        """Open the file beside the folder; it tells a reader which cache that is."""
        self._make_place()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self._place / f"{mount.identity}.json", flags, 0o600)
        if os.fstat(lock).st_size == 0:
            os.write(lock, json.dumps({"scope": mount.scope, "key": mount.key}).encode())
        return lock

    def _make_place(self) -> None:
        if self._user is not None:
            check_passable(self._place, self._user[0])
        if not self._place.is_dir():
            self._place.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
            if self._user is not None:
                self._place.chmod(PASSABLE_MODE)

    def _folder(self, mount: CacheMount) -> Path:
        folder = self._place / mount.identity
        if not folder.is_dir():
            folder.mkdir(mode=PRIVATE_MODE, exist_ok=True)
            if self._user is not None:
                os.chown(folder, *self._user)
        return folder


def _removed(lock_file: Path, before: float) -> bool:
    lock = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if not taken(lock, alone=True) or os.fstat(lock).st_mtime >= before:
            return False
        shutil.rmtree(lock_file.with_suffix(""), onerror=forced)
        lock_file.unlink()
        return True
    finally:
        os.close(lock)


def strictest(mounts: Iterable[CacheMount]) -> list[CacheMount]:
    """Return one mount of each folder, the one that shares least, in the order of holding."""
    found: dict[str, CacheMount] = {}
    for mount in sorted(mounts, key=lambda one: STRICTNESS.index(one.sharing)):
        found[mount.identity] = mount
    return [found[identity] for identity in sorted(found)]


def taken(lock: int, *, alone: bool) -> bool:
    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def check_passable(place: Path, uid: int) -> None:
    for folder in place.parents:
        found = folder.stat()
        if found.st_uid != uid and not found.st_mode & 0o001:
            raise StalledError(
                f"the user of local steps can't pass through {folder}",
                where=str(place),
                reason="CacheUnreachable",
                remedy="move `stateDir` to where everybody may pass, or drop `local.user`",
            )
