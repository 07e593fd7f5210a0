"""A folder as a source: watched live, looked at whole now and then."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path

from controller import ids
from controller.clock import Clock
from controller.digest import git_blob
from controller.errors import RondelError, StalledError, TransientError, UsageError
from controller.model.settings import DirectorySource
from controller.model.source import Entry, Fault, Snapshot
from controller.model.workflow import Input
from controller.reconcile import keys
from controller.source import ignoring
from controller.source.confined import opened
from controller.source.files import SMALL, blob_of
from controller.source.folder import Folder
from controller.source.ignoring import parents
from controller.source.inputs import copy_input
from controller.source.memory import Memory
from controller.source.requests import Requests
from controller.source.settling import LONGEST_SECONDS, LOOK_SECONDS
from controller.source.watch import watching

JITTER = 0.05
MISSING_SECONDS = 1.0  # between looks at a folder that isn't there
MANY = 200  # hinted paths; above this a look at all of it costs less
ALL = frozenset({""})
Faults = tuple[tuple[Fault, ...], tuple[str, ...]]


class Directory:
    """Implements `source.ports.Source` for a folder of this host."""

    def __init__(
        self, settings: DirectorySource, *, clock: Clock, memory: Memory | None = None
    ) -> None:
        self.name = settings.name
        self.location = settings.path
        ignoring.check(settings)
        self._settings = settings
        self._root = Path(settings.path)
        self._clock = clock
        self._folder = Folder(self._root, settings.ignore)
        self._hints: asyncio.Queue[set[str]] = asyncio.Queue()
        self._sweep_at = 0.0  # of the clock's monotonic time
        self._revision = ""
        self._faults: Faults = ((), ())
        self._failure = ""
        self._memory = memory
        self._kept: Mapping[str, Entry] = self._folder.entries  # the entries that `memory` holds
        self._requests = Requests()
        self._asked = False  # for the look that goes on: what it finds is told in any case

    def attempted(self) -> str:
        return self._revision

    def answered(self) -> int:
        return self._requests.answered

    def look(self, *, tell: bool = False) -> int:
        number = self._requests.make() if tell else 0
        self._hints.put_nowait({str(self._root)})
        return number

    async def snapshots(self) -> AsyncGenerator[Snapshot | Exception]:
        async with watching(self._folders, self._hints.put_nowait, recursive=True):
            first = True
            async with aclosing(self._looks()) as looks:
                async for changed in looks:
                    if isinstance(changed, Exception):
                        yield changed
                    elif first:
                        first = False
                        yield self._snapshot(None)
                    else:
                        yield self._snapshot(changed)
                    self._folder.contents.clear()

    def _folders(self) -> tuple[Path, ...]:
        return (self._root,)

    async def _looks(self) -> AsyncGenerator[frozenset[str] | Exception]:
        """Yield what has changed, and failures; a first look that found nothing as well."""
        places: frozenset[str] | set[str] = ALL
        told, began = False, self._clock.monotonic()
        await asyncio.to_thread(self._recall)
        while True:
            try:
                if "" in places:
                    self._sweep_at = self._next_sweep()
                    self._asked = self._requests.begin() or self._asked
                changed = await asyncio.to_thread(self._folder.look, places)
            except OSError as error:
                failure = self._failed(error)
                self._requests.end()
                if failure is not None:
                    yield failure
            else:
                if (told or self._may_begin(began)) and self._is_news(changed, first=not told):
                    told = True
                    self._requests.end()
                    yield changed
                if "" in places:
                    await asyncio.to_thread(self._remember)
            places = await self._next_places()

    def _recall(self) -> None:
        if self._memory is not None:
            self._folder.recall(self._memory.recall())
            self._kept = self._folder.entries

    def _remember(self) -> None:
        """After a look at everything, and at the end: between them a change costs no writing."""
        if self._memory is not None and self._kept is not self._folder.entries:
            self._memory.keep(self._folder.known)
            self._kept = self._folder.entries

    def _may_begin(self, began: float) -> bool:
        """The first snapshot waits for half-written files, but not for ever."""
        waited = self._clock.monotonic() - began
        return not self._folder.settling.paths or waited > 2 * LONGEST_SECONDS

    def _is_news(self, changed: frozenset[str], *, first: bool) -> bool:
        faults = (self._folder.faults, self._folder.unreadable)
        news = first or bool(changed) or bool(self._failure) or faults != self._faults
        news, self._asked = news or self._asked, False
        self._faults, self._failure = faults, ""
        if changed or first:
            self._revision = self._folder.digest()
        return news

    def _failed(self, error: OSError) -> RondelError | None:
        """The same failure is told once; what was seen before it stays."""
        self._folder.settling.forget()
        told, self._failure = "" if self._asked else self._failure, repr(error)
        self._asked = False
        return None if told == self._failure else meaning(error, self.location)

    def _snapshot(self, changed: frozenset[str] | None) -> Snapshot:
        faults, unreadable = self._faults
        return Snapshot(
            source=self.name,
            revision=self._revision,
            entries=self._folder.entries,
            changed=changed,
            faults=faults,
            unreadable=unreadable,
        )

    async def at(self, revision: str | None) -> Snapshot:
        """Return the folder as it was seen last. Raises UsageError for a revision of it."""
        if revision is not None:
            raise UsageError("is a folder, which has no revisions", where=f"source {self.name}")
        return self._snapshot(None)

    # When to look, and where.

    def _next_sweep(self) -> float:
        interval = self._settings.interval.total_seconds()
        return self._clock.monotonic() + ids.spread(interval, JITTER)

    async def _next_places(self) -> set[str]:
        """Wait for a reason to look; return the places to look at."""
        waiting = self._folder.settling.paths
        try:
            async with asyncio.timeout(self._patience(waiting)):
                places = self._relative(await self._hints.get())
        except TimeoutError:
            return waiting if waiting and not self._sweep_is_due() else {""}
        while not self._hints.empty():
            places |= self._relative(self._hints.get_nowait())
        places |= waiting
        if "" in places or len(places) > MANY or self._failure or self._sweep_is_due():
            return {""}
        return places

    def _patience(self, waiting: set[str]) -> float:
        """Return for how many seconds to wait for a hint."""
        if waiting:
            return LOOK_SECONDS
        if self._failure:
            return MISSING_SECONDS
        return max(0.0, self._sweep_at - self._clock.monotonic())

    def _sweep_is_due(self) -> bool:
        return bool(self._failure) or self._clock.monotonic() >= self._sweep_at

    def _relative(self, hints: set[str]) -> set[str]:
        """Return hinted paths relative to the root, "" for all of it; without what is not read."""
        if not hints:
            return {""}
        prefix = f"{self._root}/"
        return {
            path
            for hint in hints
            if (path := hint.removeprefix(prefix)) != hint and self._is_read(path)
        } | ({""} if str(self._root) in hints else set())

    def _is_read(self, path: str) -> bool:
        if path == ignoring.FILE:
            return True
        if path.startswith(".") or "/." in path:
            return False
        folders = (one + "/" for one in (*parents(path), path))
        return not self._folder.ignored(path) and not any(map(self._folder.ignored, folders))

    # Contents.

    async def read(self, snapshot: Snapshot, paths: Iterable[str]) -> Mapping[str, bytes]:
        return await asyncio.to_thread(self._read, snapshot, list(paths))

    def _read(self, snapshot: Snapshot, paths: list[str]) -> dict[str, bytes]:
        """A file that is another by now is left out: the next snapshot has it."""
        contents = {}
        for path in paths:
            kept = self._folder.contents.get(path)
            found = (git_blob(kept), kept) if kept is not None else read_now(self._root, path)
            entry = snapshot.entries.get(path)
            if found and entry and entry.blob == found[0]:
                contents[path] = found[1]
        return contents

    async def materialise(self, revision: str, wanted: Input, target: Path) -> str:
        """Copy an input as it is now: a folder has only its present, so the digest is the copy's.

        Raises:
            StalledError: InputMissing.
            TransientError: SourceUnavailable.
        """
        del revision
        try:
            copied = await asyncio.to_thread(
                copy_input, self._root, self._folder.ignored, wanted, target
            )
        except OSError as error:
            raise TransientError(
                f"input {wanted.name!r}: {error}", reason="SourceUnavailable", where=self.location
            ) from error
        if not copied:
            raise StalledError(
                f"input {wanted.name!r}: nothing at {wanted.path}",
                reason="InputMissing",
                where=self.location,
                remedy="add the files, or correct the path",
            )
        return keys.digest_of(copied)

    async def close(self) -> None:
        """Nothing is held between two calls of `snapshots`; what was seen is kept."""
        await asyncio.to_thread(self._remember)


def read_now(root: Path, path: str) -> tuple[str, bytes] | None:
    """Return a file's blob id and content as they are; None when it can't be read.

    Of a file too large to be a manifest only the beginning is returned, enough to say so.
    """
    try:
        full = root / path
        if full.is_symlink():
            path = full.resolve().relative_to(root.resolve()).as_posix()
        with opened(root, path) as file:
            blob, data = blob_of(file, os.fstat(file).st_size)
            return blob, data if data is not None else os.pread(file, SMALL + 1, 0)
    except (OSError, ValueError):
        return None


def meaning(error: OSError, where: str) -> StalledError | TransientError:
    """Return what keeps us from a folder: a person must act, or time may heal."""
    match error:
        case FileNotFoundError():
            return StalledError(
                "there is no such folder", reason="SourceMissing", where=where, remedy="create it"
            )
        case NotADirectoryError():
            return StalledError(
                "is not a folder", reason="SourceMissing", where=where, remedy="correct `path`"
            )
        case PermissionError():
            return StalledError(
                "the folder can't be read",
                reason="SourceUnreadable",
                where=where,
                remedy="check its owner and mode",
            )
        case _:
            problem = error.strerror or str(error)
            return TransientError(problem, reason="SourceUnreadable", where=where)
