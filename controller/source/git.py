"""A Git repository as a source: a bare mirror, read by object; no checkout but for a run."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from controller import ids
from controller.clock import Clock
from controller.errors import RondelError, StalledError, TransientError, UnverifiedError
from controller.model.settings import GitSource
from controller.model.source import Entry, Snapshot
from controller.model.workflow import Input
from controller.reconcile import keys
from controller.source import ignoring, remote
from controller.source.files import SMALL
from controller.source.large import LargeFiles
from controller.source.mirrors import Mirrors
from controller.source.objects import Objects, Tree
from controller.source.pointers import is_large
from controller.source.processes import GitError
from controller.source.refs import TROUBLE, LocalRef, Ref, RemoteRef
from controller.source.requests import Requests
from controller.source.submodules import Submodules
from controller.source.verify import Verifier

__all__ = ["Git"]

log = structlog.get_logger()

JITTER = 0.05
FRESH = 0.9  # of the interval: what another source has asked meanwhile is news enough
FIRST_RETRY_SECONDS = 2.0
RETRY_JITTER = 0.2


class Git:
    """Implements `source.ports.Source` for one ref of one repository.

    `applied` is the revision that works since an earlier life: it goes on working as long as
    there is no later one that verifies.

    Raises:
        UsageError: a URL, ref or pattern that can't be one.
    """

    def __init__(
        self, settings: GitSource, *, mirrors: Mirrors, clock: Clock, applied: str = ""
    ) -> None:
        remote.check(settings)
        ignoring.check(settings)
        self.name = settings.name
        self.location = remote.shown(settings.url)
        self._settings = settings
        self._clock = clock
        self._mirror = mirrors.of(settings)
        kind = RemoteRef if remote.local_folder(settings.url) is None else LocalRef
        self._ref: Ref = kind(settings, self._mirror, clock, self._wake)
        self._large = LargeFiles() if settings.lfs else None
        modules = Submodules(settings, mirrors, self._large) if settings.submodules else None
        self._submodules = modules
        self._verifier: Verifier | None = None
        if settings.verify is not None:
            place = self._mirror.folder.parent
            memory = place.parent / "sources" / f"{settings.name}.tag"
            self._verifier = Verifier(settings.verify, place, memory, self.location)
        self._applied = applied if self._verifier is not None else ""
        self._hints: asyncio.Queue[None] = asyncio.Queue()
        self._requests = Requests()
        self._since = float("-inf")  # what was seen before that is not new enough
        self._attempted = ""
        self._failure = ""
        self._failures = 0
        self._snapshot: Snapshot | None = None

    def attempted(self) -> str:
        return self._attempted

    def answered(self) -> int:
        return self._requests.answered

    def look(self, *, tell: bool = False) -> int:
        self._since = self._clock.monotonic()
        number = self._requests.make() if tell else 0
        self._wake()
        return number

    def _wake(self) -> None:
        self._hints.put_nowait(None)

    async def snapshots(self) -> AsyncGenerator[Snapshot | Exception]:
        async with self._ref.watching():
            first = True
            while True:
                seen = await self._seen(first=first)
                if isinstance(seen, UnverifiedError) and self._snapshot is None:
                    earlier = await self._last_verified()
                    if earlier is not None:
                        first = False
                        yield earlier
                if seen is not None:
                    first = first and not isinstance(seen, Snapshot)
                    yield seen
                await self._next_look()

    async def _next_look(self) -> None:
        try:
            async with asyncio.timeout(self._patience()):
                await self._hints.get()
        except TimeoutError:
            return
        while not self._hints.empty():
            self._hints.get_nowait()

    def _patience(self) -> float:
        """Return for how many seconds to wait for a hint."""
        interval = self._settings.interval.total_seconds()
        due = self._ref.looked_at + ids.spread(interval, JITTER) - self._clock.monotonic()
        if not self._failures:
            return max(0.0, due)
        pause = FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, 10)
        return ids.spread(min(interval, pause), RETRY_JITTER)

    async def _seen(self, *, first: bool) -> Snapshot | Exception | None:
        """Return what is new, or what was asked for; the same failure is told once."""
        asked = self._requests.begin()
        if asked:
            self._failure, self._failures = "", min(self._failures, 1)
        last = self._snapshot
        try:
            await self._look()
        except (StalledError, TransientError) as error:
            return self._failed(self._placed(error))
        except GitError as error:
            return self._failed(remote.meaning(error.text, self.location))
        except (OSError, EOFError, TimeoutError) as error:
            problem = f"{type(error).__name__}: {error}"
            return self._failed(TransientError(problem, reason="FetchFailed", where=self.location))
        finally:
            self._requests.end()
        recovered, self._failures, self._failure = bool(self._failures), 0, ""
        if self._snapshot is last and last is not None:
            self._snapshot = replace(last, changed=None if first else frozenset())
            return self._snapshot if first or recovered or asked else None
        return self._snapshot

    def _placed(self, error: StalledError | TransientError) -> RondelError:
        """Return an error with its place; a command that took too long knows none."""
        if error.reason != "FetchTimeout" or error.where:
            return error
        remedy = "see what is slow there, or raise `timeout`"
        return TransientError(
            error.problem, reason=error.reason, where=self.location, remedy=remedy
        )

    def _failed(self, error: RondelError) -> RondelError | None:
        self._failures += 1
        told, self._failure = self._failure, str(error)
        return None if told == self._failure else error

    async def _look(self) -> None:
        """Find the commit and load it; a damaged mirror is made anew, once."""
        interval = self._settings.interval.total_seconds()
        since = max(self._since, self._clock.monotonic() - FRESH * interval)
        try:
            await self._find(since)
        except GitError as error:
            if remote.is_away(error) or not await self._mirror.mend(error):
                raise
            await self._find(since)

    async def _find(self, since: float) -> None:
        commit, name = await self._ref.find(since)
        self._ref.watch.held = {commit, *self._working()}
        self._attempted = revision = f"{name}@sha1:{commit}"
        signer = await self._signer(commit, self._ref.at)
        last = self._snapshot
        if last is None or (last.revision, last.signer) != (revision, signer):
            self._snapshot = await self._load(commit, revision, signer)
        self._applied = ""
        self._ref.watch.held = {commit}

    def _working(self) -> set[str]:
        """Return the commit that works until the next one is loaded."""
        revision = self._snapshot.revision if self._snapshot else self._applied
        return {commit_of(revision)} if revision else set()

    async def _signer(self, commit: str, at: tuple[str, str], *, late: bool = False) -> str:
        """Return who signed; "" when nobody has to. Raises UnverifiedError."""
        if self._verifier is None:
            return ""
        return await self._verifier.signer(self._objects(), commit, at, late=late)

    async def _last_verified(self) -> Snapshot | None:
        """Return what worked before a restart, if it still verifies and can be read."""
        commit = commit_of(self._applied)
        if not commit:
            return None
        try:
            await self._ref.have(commit)
            at = (self._applied.rpartition("@sha1:")[0], "")
            signer = await self._signer(commit, at, late=True)
            self._snapshot = await self._load(commit, self._applied, signer)
        except (RondelError, *TROUBLE) as error:
            log.warning("last_revision_not_loaded", source=self.name, error=str(error))
        return self._snapshot

    # Reading it.

    def _objects(self) -> Objects:
        local = self._ref.alternates
        inner = self._submodules.objects if self._submodules else ()
        return Objects(self._mirror.folder, *((local,) if local else ()), *inner)

    async def _tree(self, commit: str, *, hold: bool = False) -> Tree:
        objects = self._objects()
        tree = await objects.tree(commit)
        if self._large is not None:
            tree = await self._large.resolved(tree, objects, self._mirror.depot)
        if self._submodules is not None:
            tree = await self._submodules.grafted(tree, objects, hold=hold)
        return await objects.without_ignored(tree, self._settings.ignore)

    async def _load(self, commit: str, revision: str, signer: str) -> Snapshot:
        tree = await self._tree(commit, hold=True)
        before = self._snapshot.entries if self._snapshot else None
        path = keys.normal(self._settings.path)
        if self._large is not None:
            await self._large.contents(manifests_among(tree.entries, path), SMALL + 1)
            self._large.hold(tree.entries)
        faults = tuple(
            fault
            for fault in tree.faults
            if keys.within(fault.file, path) or fault.file == ignoring.FILE
        )
        return Snapshot(
            source=self.name,
            revision=revision,
            entries=tree.entries,
            manifests=path,
            changed=None if before is None else difference(before, tree.entries),
            faults=faults,
            unreadable=tuple(fault.file for fault in faults),
            signer=signer,
        )

    async def at(self, revision: str | None) -> Snapshot:
        """Return the files of a revision; None: of the newest one.

        Raises:
            StalledError, TransientError: there is no such revision, or it can't be had.
        """
        try:
            commit = await self._ref.commit(revision)
            tree = await self._tree(commit)
        except GitError as error:
            raise remote.meaning(error.text, self.location) from error
        except (OSError, EOFError, TimeoutError) as error:
            raise self._unavailable(revision or "the newest commit", error) from error
        return Snapshot(
            source=self.name,
            revision=f"{revision or 'HEAD'}@sha1:{commit}",
            entries=tree.entries,
            manifests=keys.normal(self._settings.path),
        )

    async def read(self, snapshot: Snapshot, paths: Iterable[str]) -> Mapping[str, bytes]:
        """Return contents; of a file too large to be a manifest only enough to say so.

        Raises:
            StalledError, TransientError: SourceUnavailable, or why LFS has no such object.
        """
        blobs = {path: snapshot.entries[path].blob for path in paths if path in snapshot.entries}
        large = {blob for blob in blobs.values() if is_large(blob)}
        try:
            own = [blob for blob in blobs.values() if blob not in large]
            contents = await self._objects().contents(own, limit=SMALL + 1)
            if self._large is not None:
                contents |= await self._large.contents(large, SMALL + 1)
        except TROUBLE as error:
            raise self._unavailable(snapshot.revision, error) from error
        return {path: contents[blob] for path, blob in blobs.items()}

    async def materialise(self, revision: str, wanted: Input, target: Path) -> str:
        """Write an input as `revision` has it; what the mirror lost is fetched again.

        Raises:
            StalledError: InputMissing, or why LFS has no such object.
            TransientError: SourceUnavailable, or why LFS gives none now.
        """
        try:
            try:
                selected = await self._written(revision, wanted, target)
            except GitError as error:
                await self._restore(commit_of(revision), error)
                await asyncio.to_thread(clear, target)
                selected = await self._written(revision, wanted, target)
        except TROUBLE as error:
            raise self._unavailable(f"input {wanted.name!r}", error) from error
        if not selected:
            raise StalledError(
                f"input {wanted.name!r}: nothing at {wanted.path} in {revision}",
                reason="InputMissing",
                where=self.location,
                remedy="commit the files, or correct the path",
            )
        return keys.digest_of(selected)

    async def _written(self, revision: str, wanted: Input, target: Path) -> Mapping[str, Entry]:
        selected = keys.select(await self._entries(revision), wanted)
        own = {path: one for path, one in selected.items() if not is_large(one.blob)}
        await self._objects().write(own, target)
        if self._large is not None:
            large = {path: one for path, one in selected.items() if is_large(one.blob)}
            await self._large.write(large, target)
        return selected

    async def _restore(self, commit: str, error: GitError) -> None:
        """See that a commit can be read again. Raises what `error` was when it can't be had."""
        await self._mirror.mend(error)
        try:
            await self._ref.have(commit)
            if self._submodules is not None:
                await self._submodules.mend(error)
                await self._tree(commit)
        except (RondelError, *TROUBLE):
            raise error from None

    async def _entries(self, revision: str) -> Mapping[str, Entry]:
        if self._snapshot is not None and self._snapshot.revision == revision:
            return self._snapshot.entries
        return (await self._tree(commit_of(revision))).entries

    def _unavailable(self, what: str, error: Exception) -> TransientError:
        problem = f"{what}: {error or type(error).__name__}"
        return TransientError(problem, reason="SourceUnavailable", where=self.location)

    async def close(self) -> None:
        """End what runs in the background."""
        await self._ref.close()
        if self._submodules is not None:
            self._submodules.close()


def commit_of(revision: str) -> str:
    return revision.rpartition("@sha1:")[2]


def manifests_among(entries: Mapping[str, Entry], folder: str) -> set[str]:
    """Return the LFS objects that stand where manifests are read."""
    return {
        entry.blob
        for path, entry in entries.items()
        if is_large(entry.blob) and keys.is_manifest(path, folder)
    }


def clear(target: Path) -> None:
    """Remove what was written of an input."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def difference(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> frozenset[str]:
    return frozenset(
        path for path in before.keys() | now.keys() if before.get(path) != now.get(path)
    )
