"""The objects of Git LFS that one mirror holds: fetched when wanted, each once, kept while used."""

import asyncio
import hashlib
import os
import shutil
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from controller import ids
from controller.errors import StalledError, TransientError
from controller.model.settings import GitSource
from controller.source import remote
from controller.source.confined import opened
from controller.source.local import local_repository
from controller.source.pointers import Pointer
from controller.source.processes import together

AT_ONCE = 4  # downloads
LEAST_FREE = 256 << 20  # bytes that are left to others
DRAFTS = "drafts"


class Damaged(OSError):  # noqa: N818 - what it says of a file
    """A file isn't the object that its name says; it is gone by now."""


class Depot:
    """Holds objects below a mirror's folder, as Git LFS itself lays them out."""

    def __init__(self, folder: Path, settings: GitSource, secrets: remote.Secret | None) -> None:
        self.folder = folder
        self._place = folder / "lfs"
        self._settings = settings
        self._secrets = secrets
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self.held: weakref.WeakKeyDictionary[object, frozenset[str]] = weakref.WeakKeyDictionary()
        """Who works with which objects: none of them is let go."""

    def path(self, oid: str) -> Path:
        return self._place / "objects" / oid[:2] / oid[2:4] / oid

    async def have(self, wanted: Collection[Pointer]) -> None:
        """See that these objects are here.

        Raises:
            StalledError, TransientError: one can't be had.
        """
        lacking = await asyncio.to_thread(self._lacking, wanted)
        if not lacking:
            return
        self._check_room(sum(one.size for one in lacking))
        if local_repository(self._settings) is None:
            await self._fetch(lacking)
            return
        for one in lacking:
            await asyncio.to_thread(self._copy, one)

    def _lacking(self, wanted: Collection[Pointer]) -> list[Pointer]:
        """Return those that aren't here; those that are count as used now."""
        return [one for one in sorted(wanted, key=lambda one: one.oid) if not self._has(one)]

    def _has(self, one: Pointer) -> bool:
        path = self.path(one.oid)
        try:
            os.utime(path)
            return path.stat().st_size == one.size
        except FileNotFoundError:
            return False

    def _check_room(self, size: int) -> None:
        free = shutil.disk_usage(self.folder.parent).free
        if size + LEAST_FREE > free:
            raise TransientError(
                f"objects of {size:,} bytes are wanted, and {free:,} are free",
                reason="DiskFull",
                where=f"{remote.shown(self._settings.url)}: Git LFS",
                remedy="make room in the state directory",
            )

    async def _fetch(self, lacking: list[Pointer]) -> None:
        from controller.source import lfs_server  # noqa: PLC0415 - imports the HTTP client

        gate = asyncio.Semaphore(AT_ONCE)

        async def one_of(one: Pointer, link: lfs_server.Link) -> None:
            turn = self._turns.setdefault(one.oid, asyncio.Lock())
            async with gate, turn:
                if not self._has(one):  # else another has fetched it meanwhile
                    with self._draft() as draft:
                        await server.download(one, link, draft)
                        await asyncio.to_thread(self._keep, one, draft)

        async with lfs_server.reached(self._settings, self._secrets, self.folder) as server:
            for start in range(0, len(lacking), lfs_server.MOST_ASKED):
                asked = lacking[start : start + lfs_server.MOST_ASKED]
                links = await server.links(asked)
                having = (one_of(one, links[one.oid]) for one in asked)
                await together(*map(asyncio.ensure_future, having))

    def _copy(self, one: Pointer) -> None:
        """Copy an object of a repository of this host, whose owner was asked for before."""
        repository = local_repository(self._settings)
        assert repository is not None  # noqa: S101 - `have` asked
        path = f"lfs/objects/{one.oid[:2]}/{one.oid[2:4]}/{one.oid}"
        try:
            with opened(repository.common, path) as file, self._draft() as draft:
                with os.fdopen(file, "rb", closefd=False) as source:
                    whole = copied(source, draft, one.size) == one.oid
                if whole:
                    self._keep(one, draft)
        except FileNotFoundError:
            whole = False
        if not whole:
            raise StalledError(
                f"{one.path}: there is no whole object {one.oid[:12]}",
                reason="LfsObjectMissing",
                where=f"{repository.common}: Git LFS",
                remedy="fetch it there (git lfs fetch --all)",
            )

    @contextmanager
    def _draft(self) -> Iterator[BinaryIO]:
        """Yield a file that is gone afterwards, but when it was kept."""
        place = self._place / DRAFTS / ids.nonce()
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with place.open("xb") as file:
                yield file
        finally:
            place.unlink(missing_ok=True)

    def _keep(self, one: Pointer, draft: BinaryIO) -> None:
        draft.flush()
        path = self.path(one.oid)
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(draft.name).replace(path)

    # Reading.

    def content(self, one: Pointer) -> bytes:
        """Return an object that is here. Raises Damaged."""
        data = self.path(one.oid).read_bytes()
        if hashlib.sha256(data).hexdigest() != one.oid:
            raise self._damaged(one)
        return data

    def write(self, one: Pointer, target: Path) -> None:
        """Write an object that is here to a new file. Raises Damaged, OSError."""
        with self.path(one.oid).open("rb") as source, target.open("xb") as file:
            name = copied(source, file, one.size)
        if name != one.oid:
            target.unlink()
            raise self._damaged(one)

    def _damaged(self, one: Pointer) -> Damaged:
        self.path(one.oid).unlink(missing_ok=True)
        return Damaged(f"object {one.oid} was damaged")

    # Letting go.

    def prune(self, before: float) -> int:
        """Remove what nobody works with and was last used `before` (seconds since the epoch)."""
        held: set[str] = set().union(*self.held.values())
        gone = 0
        for path in (*self._place.glob("objects/*/*/*"), *self._place.glob(f"{DRAFTS}/*")):
            with suppress(FileNotFoundError):
                if path.name not in held and path.stat().st_mtime < before:
                    path.unlink()
                    gone += 1
        return gone


def copied(source: BinaryIO, target: BinaryIO, size: int) -> str:
    """Copy as many bytes, and one more if there is one; return their SHA-256."""
    name, left = hashlib.sha256(), size + 1
    while left and (piece := source.read(min(left, 1 << 20))):
        name.update(piece)
        target.write(piece)
        left -= len(piece)
    return name.hexdigest()
