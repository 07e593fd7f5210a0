"""A folder as a source: watched live, looked at whole now and then."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

from pathspec import GitIgnoreSpec

from controller import digest, ids
from controller.clock import Clock
from controller.errors import StalledError, TransientError
from controller.model.settings import DirectorySource
from controller.model.source import Entry, Snapshot
from controller.model.workflow import Input
from controller.reconcile import keys
from controller.source.files import Found, Scan, blob_of, look, scan, walk
from controller.source.settling import Settling
from controller.source.watch import watch

JITTER = 0.05
MISSING_SECONDS = 1.0  # between looks at a folder that isn't there
MANY = 200  # hinted paths; above this a full look costs less


class Directory:
    """Implements `source.ports.Source` for a folder of this host."""

    def __init__(self, settings: DirectorySource, *, clock: Clock) -> None:
        self.name = settings.name
        self.location = settings.path
        self._settings = settings
        self._root = Path(settings.path)
        self._clock = clock
        self._ignore = GitIgnoreSpec.from_lines(settings.ignore)
        self._known: dict[str, Found] = {}
        self._entries: dict[str, Entry] = {}
        self._revision = ""
        self._failure = ""
        self._hints: asyncio.Queue[set[str]] = asyncio.Queue()

    def attempted(self) -> str:
        return self._revision

    def look(self) -> None:
        self._hints.put_nowait(set())

    async def snapshots(self) -> AsyncIterator[Snapshot | Exception]:
        watching = asyncio.create_task(self._watch(), name=f"watch {self.name}")
        try:
            hints: set[str] = set()
            first = True
            while True:
                seen = await self._seen(hints, first=first)
                if seen is not None:
                    first = first and not isinstance(seen, Snapshot)
                    yield seen
                    self._forget_contents()
                hints = await self._next_hints()
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        async for paths in watch(self._root):
            self._hints.put_nowait(paths)

    async def _next_hints(self) -> set[str]:
        """Return the paths to look at; an empty set means all of them."""
        limit = ids.spread(self._settings.interval.total_seconds(), JITTER)
        if self._failure:
            limit = min(limit, MISSING_SECONDS)
        try:
            async with asyncio.timeout(limit):
                hints = await self._hints.get()
        except TimeoutError:
            return set()
        everything = not hints
        while not self._hints.empty():
            more = self._hints.get_nowait()
            everything = everything or not more
            hints |= more
        return set() if everything or len(hints) > MANY else hints

    async def _seen(self, hints: set[str], *, first: bool) -> Snapshot | Exception | None:
        """Return what is new; None when nothing is."""
        try:
            result = await self._look_at(hints) if hints else await self._look_at_all()
        except FileNotFoundError:
            return self._failed("SourceMissing", "there is no such folder", "create it")
        except PermissionError:
            return self._failed("SourceUnreadable", "the folder can't be read", "check its mode")
        recovered, self._failure = bool(self._failure), ""
        snapshot = self._snapshot(result)
        return snapshot if first or recovered or snapshot.changed or result.faults else None

    def _failed(self, reason: str, problem: str, remedy: str) -> StalledError | None:
        """The same failure is told once."""
        if self._failure == reason:
            return None
        self._failure = reason
        return StalledError(problem, reason=reason, where=self.location, remedy=remedy)

    async def _look_at_all(self) -> Scan:
        return await asyncio.to_thread(scan, self._root, self._ignored, self._known, self._now_ns())

    async def _look_at(self, hints: set[str]) -> Scan:
        """Look at hinted files only; a hint at a folder, or at too much, is a look at all."""
        paths = {path for hint in hints if (path := self._relative(hint)) is not None}
        if any(is_folder(self._root / path) for path in paths):
            return await self._look_at_all()
        if not is_folder(self._root):
            raise FileNotFoundError(self._root)
        await Settling(self._root, self._known).wait(paths, self._clock)
        return Scan(found=self._found_at(paths))

    def _found_at(self, paths: set[str]) -> dict[str, Found]:
        found = dict(self._known)
        for path in paths:
            seen = look(self._root, path, self._now_ns())
            if seen is None:
                gone = [one for one in found if one == path or one.startswith(path + "/")]
                for one in gone:
                    del found[one]
            elif not is_folder(self._root / path):
                found[path] = seen
        return found

    def _relative(self, hint: str) -> str | None:
        """Return a hinted path relative to the root; None when it is not read."""
        try:
            path = Path(hint).relative_to(self._root).as_posix()
        except ValueError:
            return None
        path = "" if path == "." else path
        hidden = any(part.startswith(".") for part in path.split("/"))
        return None if hidden or self._ignored(path) else path

    def _ignored(self, path: str) -> bool:
        return bool(self._settings.ignore) and self._ignore.match_file(path)

    def _now_ns(self) -> int:
        return int(self._clock.now().timestamp() * 1e9)

    def _snapshot(self, result: Scan) -> Snapshot:
        entries = {path: one.entry for path, one in result.found.items() if one.entry is not None}
        hidden = [path for path in self._entries if path not in entries and below(path, result)]
        entries |= {path: self._entries[path] for path in hidden}
        changed = frozenset(
            path
            for path in self._entries.keys() | entries.keys()
            if self._entries.get(path) != entries.get(path)
        )
        before = self._revision
        if changed or not before:
            self._revision = keys.digest_of(entries)
        self._entries, self._known = entries, result.found
        return Snapshot(
            source=self.name,
            revision=self._revision,
            entries=entries,
            changed=changed if before else None,
            faults=tuple(result.faults),
            unreadable=tuple(result.unreadable),
        )

    def _forget_contents(self) -> None:
        for one in self._known.values():
            one.content = None

    async def read(self, snapshot: Snapshot, paths: Iterable[str]) -> Mapping[str, bytes]:
        contents = {}
        for path in paths:
            known = self._known.get(path)
            data = known.content if known else None
            if data is None:
                data = await asyncio.to_thread(self._read_again, path)
            if data is not None and digest.git_blob(data) == snapshot.entries[path].blob:
                contents[path] = data
        return contents

    def _read_again(self, path: str) -> bytes | None:
        found = look(self._root, path, 0)
        return found.content if found else None

    async def materialise(self, revision: str, wanted: Input, target: Path) -> str:
        del revision  # a folder has only its present; the digest tells what was copied
        return await asyncio.to_thread(self._copy, wanted, target)

    def _copy(self, wanted: Input, target: Path) -> str:
        """Copy an input; the digest is of the copies, so it says what a run really gets."""
        place = keys.normal(wanted.path)
        entries = {}
        try:
            for path in self._input_files(place, wanted):
                full = self._root / place / path if path else self._root / place
                entries[path] = copy(
                    self._root,
                    full.relative_to(self._root).as_posix(),
                    target / path if path else target,
                )
        except OSError as error:
            raise TransientError(
                f"input {wanted.name!r}: {error}", reason="SourceUnavailable", where=self.location
            ) from error
        if not entries:
            raise StalledError(
                f"input {wanted.name!r}: nothing at {wanted.path}",
                reason="InputMissing",
                where=self.location,
                remedy="add the files, or correct the path",
            )
        return keys.digest_of(entries)

    def _input_files(self, place: str, wanted: Input) -> Iterable[str]:
        full = self._root / place
        if full.is_file():
            return [""]
        ignored = GitIgnoreSpec.from_lines(wanted.ignore)
        prefix = f"{place}/" if place else ""
        return (
            [
                path
                for path, _ in walk(full, lambda path: self._ignored(prefix + path), [])
                if not ignored.match_file(path)
            ]
            if full.is_dir()
            else []
        )

    async def close(self) -> None:
        return


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def below(path: str, result: Scan) -> bool:
    return any(not one or path.startswith(one + "/") for one in result.unreadable)


def copy(root: Path, path: str, target: Path) -> Entry:
    """Copy one file (a link inside the root is followed once); return what was copied."""
    found = look(root, path, 0)
    if found is None or found.entry is None:
        problem = str(found.fault) if found and found.fault else f"{path} is gone"
        raise OSError(problem)
    target.parent.mkdir(parents=True, exist_ok=True)
    if found.content is not None:
        target.write_bytes(found.content)
    else:
        shutil.copyfile(root / path, target)
    target.chmod(0o755 if found.entry.mode == "100755" else 0o644)
    blob, _ = blob_of(target)
    return Entry(found.entry.mode, blob)
