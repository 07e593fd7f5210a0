"""A Git repository as a source: a bare mirror, read by object; no checkout but for a run."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import structlog

from controller import ids
from controller.clock import Clock
from controller.errors import RondelError, StalledError, TransientError
from controller.model.settings import GitRef, GitSource
from controller.model.source import Entry, Snapshot
from controller.model.workflow import Input
from controller.reconcile import keys
from controller.source import remote
from controller.source.files import SMALL
from controller.source.local import (
    LocalRepository,
    common_dir,
    local_git_dir,
    local_repository,
    tells,
)
from controller.source.mirror import Mirror
from controller.source.objects import Objects
from controller.source.processes import GitError
from controller.source.watch import watching

__all__ = ["Git", "common_dir", "local_git_dir"]

log = structlog.get_logger()

JITTER = 0.05
FIRST_RETRY_SECONDS = 2.0
KEEP_AFTER_SECONDS = 0.5  # git itself forgets nothing so soon; the run that is due goes first
TROUBLE = (GitError, OSError, EOFError, TimeoutError)


class Git:
    """Implements `source.ports.Source` for one ref of one repository.

    Raises:
        UsageError: a URL or ref that we don't fetch.
    """

    def __init__(
        self,
        settings: GitSource,
        *,
        state_dir: Path,
        clock: Clock,
        secrets: remote.Secret | None = None,
    ) -> None:
        del clock  # intervals are waited for, nothing is dated
        remote.check(settings)
        self.name = settings.name
        self.location = remote.shown(settings.url)
        self._settings = settings
        self._ref = full_ref(settings.ref)
        mark = sha256(settings.url.encode()).hexdigest()[:12]
        self._mirror = Mirror(state_dir / "mirrors" / f"{settings.name}-{mark}", settings, secrets)
        self._hints: asyncio.Queue[None] = asyncio.Queue()
        self._attempted = ""
        self._failure = ""
        self._failures = 0
        self._asked = False  # for a look: what it finds is told even when it is nothing new
        self._snapshot: Snapshot | None = None
        self._fetched = ("", "")  # what the remote's ref was when it was fetched, and its commit
        self._to_keep = self._kept = ""
        self._keeping: asyncio.Task[None] | None = None

    def attempted(self) -> str:
        return self._attempted

    def look(self, *, tell: bool = False) -> None:
        self._asked = self._asked or tell
        self._hints.put_nowait(None)

    async def snapshots(self) -> AsyncIterator[Snapshot | Exception]:
        async with AsyncExitStack() as stack:
            if remote.local_folder(self._settings.url) is not None:
                watch = watching(self._ref_folders, self._hint, recursive=False)
                await stack.enter_async_context(watch)
            first = True
            while True:
                seen = await self._seen(first=first)
                if seen is not None:
                    first = first and not isinstance(seen, Snapshot)
                    yield seen
                await self._next_look()

    def _ref_folders(self) -> tuple[Path, ...]:
        repository = local_repository(self._settings)
        return repository.ref_folders(self._ref) if repository else ()

    def _hint(self, paths: set[str]) -> None:
        if not paths or any(tells(path) for path in paths):
            self._hints.put_nowait(None)

    async def _next_look(self) -> None:
        limit = ids.spread(self._settings.interval.total_seconds(), JITTER)
        if self._failures:
            limit = min(limit, FIRST_RETRY_SECONDS * 2 ** min(self._failures - 1, 10))
        try:
            async with asyncio.timeout(limit):
                await self._hints.get()
        except TimeoutError:
            return
        while not self._hints.empty():
            self._hints.get_nowait()

    async def _seen(self, *, first: bool) -> Snapshot | Exception | None:
        """Return what is new, or what was asked for; the same failure is told once."""
        asked, self._asked = self._asked, False
        if asked:
            self._failure = ""
        try:
            commit, name = await self._find()
            self._attempted = revision = f"{name}@sha1:{commit}"
            last = self._snapshot
            if last is None or last.revision != revision:
                self._snapshot = await self._load(commit, revision)
        except (StalledError, TransientError) as error:
            return self._failed(error)
        except GitError as error:
            return self._failed(remote.meaning(error.text, self.location))
        except (OSError, EOFError, TimeoutError) as error:
            problem = f"{type(error).__name__}: {error}"
            return self._failed(TransientError(problem, reason="FetchFailed", where=self.location))
        recovered, self._failures, self._failure = bool(self._failures), 0, ""
        if self._snapshot is last and last is not None:
            self._snapshot = replace(last, changed=None if first else frozenset())
            return self._snapshot if first or recovered or asked else None
        return self._snapshot

    def _failed(self, error: RondelError) -> RondelError | None:
        self._failures += 1
        told, self._failure = self._failure, str(error)
        return None if told == self._failure else error

    # Finding the commit.

    async def _find(self) -> tuple[str, str]:
        """Return the wanted ref's commit and its shown name, fetching when it must."""
        repository = local_repository(self._settings)
        if repository is not None:
            repository.check(trusted=self._settings.trusted)
        await self._mirror.ensure()
        if repository is not None:
            return await self._find_locally(repository)
        if self._settings.ref.commit is not None:
            return await self._find_commit(self._settings.ref.commit), "HEAD"
        return await self._find_remotely()

    async def _find_locally(self, repository: LocalRepository) -> tuple[str, str]:
        """Read the ref where it is; its objects are read there too, and kept in the mirror."""
        try:
            if self._ref == "HEAD":
                commit, name = await repository.head()
            else:
                commit, name = await repository.commit(self._ref), shown_ref(self._settings.ref)
        except GitError:
            raise self._no_ref(empty=await repository.is_empty()) from None
        self._to_keep = commit
        if commit != self._kept and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(repository.git_dir))
        return commit, name

    async def _keep(self, origin: Path) -> None:
        """Copy commits into the mirror: a run can have them whatever becomes of their ref."""
        try:
            while self._to_keep != self._kept:
                await asyncio.sleep(KEEP_AFTER_SECONDS)
                commit = self._to_keep
                await self._mirror.keep(commit, origin)
                self._kept = commit
                await self._mirror.tidy()
        except (RondelError, *TROUBLE) as error:
            # They can still be read where they are; the next look tries again.
            log.warning("commit_not_kept", source=self.name, error=str(error))
        finally:
            self._keeping = None

    async def _find_remotely(self) -> tuple[str, str]:
        """Ask for the ref, and fetch it when it is not what was fetched last."""
        told = await self._mirror.listed(self._ref)
        name = shown_ref(self._settings.ref)
        if self._ref == "HEAD" and told.head is not None:
            name = told.head.removeprefix("refs/heads/")
        wanted = told.refs.get(self._ref)
        if wanted is None:
            raise self._no_ref(empty=not (await self._mirror.listed()).refs)
        if self._fetched[0] != wanted:
            kept = await self._mirror.keeps(wanted)
            self._fetched = (wanted, wanted if kept else await self._mirror.fetch(self._ref))
            await self._mirror.tidy()
        return self._fetched[1], name

    async def _find_commit(self, commit: str) -> str:
        """A commit never changes: once it is here, the remote isn't asked."""
        if await self._mirror.keeps(commit):
            return commit
        try:
            return await self._mirror.fetch(commit)
        except GitError as error:
            if remote.meaning(error.text, "").reason != "RefNotFound":
                raise
        await self._mirror.fetch_everything()
        return await self._mirror.hold(commit)

    def _no_ref(self, *, empty: bool) -> StalledError | TransientError:
        if empty:
            return TransientError(
                "the repository has no commits", reason="NoCommits", where=self.location
            )
        return StalledError(
            f"there is no {self._settings.ref.text or 'HEAD'}",
            reason="RefNotFound",
            where=self.location,
            remedy=remote.REMEDIES["RefNotFound"],
        )

    # Reading it.

    def _objects(self) -> Objects:
        repository = local_repository(self._settings)
        return Objects(self._mirror.folder, repository.objects if repository else None)

    async def _load(self, commit: str, revision: str) -> Snapshot:
        tree = await self._objects().tree(commit)
        before = self._snapshot.entries if self._snapshot else None
        path = keys.normal(self._settings.path)
        faults = tuple(fault for fault in tree.faults if keys.within(fault.file, path))
        return Snapshot(
            source=self.name,
            revision=revision,
            entries=tree.entries,
            manifests=path,
            changed=None if before is None else difference(before, tree.entries),
            faults=faults,
            unreadable=tuple(fault.file for fault in faults),
        )

    async def read(self, snapshot: Snapshot, paths: Iterable[str]) -> Mapping[str, bytes]:
        """Return contents; of a file too large to be a manifest only enough to say so.

        Raises:
            TransientError: SourceUnavailable.
        """
        blobs = {path: snapshot.entries[path].blob for path in paths if path in snapshot.entries}
        try:
            contents = await self._objects().contents(blobs.values(), limit=SMALL + 1)
        except TROUBLE as error:
            raise self._unavailable(snapshot.revision, error) from error
        return {path: contents[blob] for path, blob in blobs.items()}

    async def materialise(self, revision: str, wanted: Input, target: Path) -> str:
        """Write an input as `revision` has it.

        Raises:
            StalledError: InputMissing.
            TransientError: SourceUnavailable.
        """
        try:
            selected = keys.select(await self._entries(revision), wanted)
            await self._objects().write(selected, target)
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

    async def _entries(self, revision: str) -> Mapping[str, Entry]:
        if self._snapshot is not None and self._snapshot.revision == revision:
            return self._snapshot.entries
        return (await self._objects().tree(revision.rpartition("@sha1:")[2])).entries

    def _unavailable(self, what: str, error: Exception) -> TransientError:
        problem = f"{what}: {error or type(error).__name__}"
        return TransientError(problem, reason="SourceUnavailable", where=self.location)

    async def close(self) -> None:
        """End what runs in the background."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])


def full_ref(ref: GitRef) -> str:
    """Return what is asked for: a ref's full name, or an id."""
    if ref.commit is not None:
        return ref.commit
    if ref.name is not None:
        return ref.name
    if ref.tag is not None:
        return f"refs/tags/{ref.tag}"
    return f"refs/heads/{ref.branch}" if ref.branch is not None else "HEAD"


def shown_ref(ref: GitRef) -> str:
    """Return what stands before "@sha1:" in a revision."""
    if ref.commit is not None:
        return "HEAD"
    return ref.name or ref.tag or ref.branch or "HEAD"


def difference(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> frozenset[str]:
    return frozenset(
        path for path in before.keys() | now.keys() if before.get(path) != now.get(path)
    )
