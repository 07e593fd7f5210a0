"""Which commit a source is at: its ref, looked for at a remote or in a repository of this host."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Protocol

import structlog

from controller.clock import Clock
from controller.errors import RondelError, StalledError, TransientError
from controller.model.semver import highest, parse_range
from controller.model.settings import GitRef, GitSource
from controller.source import remote
from controller.source.local import LocalRepository, local_repository, tells
from controller.source.mirror import Mirror, Told, Watch
from controller.source.processes import GitError
from controller.source.watch import watching

log = structlog.get_logger()

SHA1_DIGITS = 40
KEEP_AFTER_SECONDS = 0.5  # git itself forgets nothing so soon; the run that is due goes first
TAGS = "refs/tags/"
TROUBLE = (GitError, OSError, EOFError, TimeoutError)


class Ref(Protocol):
    """A ref that is followed."""

    looked_at: float
    """When it was last looked for, of the clock's monotonic time."""

    watch: Watch
    """What the mirror knows of it."""

    at: tuple[str, str]
    """The ref's name, a tag's without what stands before it, and the object that it was last at."""

    @property
    def alternates(self) -> Path | None:
        """A folder of objects to look in besides the mirror's."""
        ...

    async def find(self, since: float) -> tuple[str, str]:
        """Return its commit, which can be read from then on, and its shown name.

        What was seen at `since` or later need not be looked for again.

        Raises:
            StalledError, TransientError, GitError.
        """
        ...

    async def have(self, commit: str) -> None:
        """See that an earlier commit can be read, fetching it when it must."""
        ...

    async def commit(self, revision: str | None) -> str:
        """Return the commit of any revision, which can be read from then on.

        An id of 40 digits, a branch, a tag, a ref's full name; None: what is followed, as it is
        now. What `find` has found last stays.

        Raises:
            StalledError, TransientError, GitError.
        """
        ...

    def watching(self) -> AbstractAsyncContextManager[object]:
        """Return the block in which the source is woken when the ref may have moved."""
        ...

    async def close(self) -> None: ...


class RemoteRef:
    """A ref of a repository that is fetched from."""

    def __init__(
        self, settings: GitSource, mirror: Mirror, clock: Clock, wake: Callable[[], None]
    ) -> None:
        self.looked_at = float("-inf")
        self.alternates: Path | None = None
        self._settings = settings
        self._mirror = mirror
        self._clock = clock
        self._seconds = settings.timeout.total_seconds()
        self._ref = full_ref(settings.ref)
        self.at = (self._ref, "")
        self.watch = Watch(self._ref, self._choose, wake)
        mirror.watches.append(self.watch)

    def _choose(self, told: Told) -> str | None:
        """Return the ref that is wanted of those that there are."""
        if self._ref != f"{TAGS}*":
            return self._ref if self._ref in told.refs else None
        tag = newest(self._settings.ref, (name.removeprefix(TAGS) for name in told.refs))
        return TAGS + tag if tag is not None else None

    async def find(self, since: float) -> tuple[str, str]:
        await self._mirror.ensure()
        if self._settings.ref.commit is not None:  # it never changes: once here, nobody is asked
            self.looked_at = self._clock.monotonic()
            return await self._mirror.have(self._settings.ref.commit, seconds=self._seconds), "HEAD"
        told = await self._mirror.told(self.watch, since=since, seconds=self._seconds)
        self.looked_at = told.at
        ref = self._choose(told)
        if ref is None:
            empty = not told.refs and await self._mirror.is_empty(seconds=self._seconds)
            raise no_ref(self._settings, empty=empty)
        commit = await self._mirror.commit_at(ref, told, seconds=self._seconds)
        self.at = (ref.removeprefix(TAGS), told.refs[ref])
        return commit, shown_ref(self._settings.ref, ref, told.head)

    async def have(self, commit: str) -> None:
        await self._mirror.ensure()
        await self._mirror.have(commit, seconds=self._seconds)

    async def commit(self, revision: str | None) -> str:
        await self._mirror.ensure()
        wanted = revision or self._ref
        if remote.ID.match(wanted):
            return await self._mirror.have(wanted, seconds=self._seconds)
        names = [self._ref] if revision is None else names_of(revision)
        told = await self._mirror.ask(*names, seconds=self._seconds)
        ref = next((one for one in names if one in told.refs), None)
        if revision is None:
            ref = self._choose(told)
        if ref is None:
            raise no_revision(self._settings, revision)
        return await self._mirror.commit_at(ref, told, seconds=self._seconds)

    def watching(self) -> AbstractAsyncContextManager[object]:
        return nullcontext()  # the mirror wakes whom another source's question concerns

    async def close(self) -> None:
        if self.watch in self._mirror.watches:
            self._mirror.watches.remove(self.watch)


class LocalRef:
    """A ref of a repository of this host: read where it is, and copied into the mirror later."""

    def __init__(
        self, settings: GitSource, mirror: Mirror, clock: Clock, wake: Callable[[], None]
    ) -> None:
        self.looked_at = float("-inf")
        self._settings = settings
        self._mirror = mirror
        self._clock = clock
        self._wake = wake
        self._ref = full_ref(settings.ref)
        self.at = (self._ref, "")
        self._to_keep = ("", 0)
        self._kept = ("", 0)  # commit, and in which life of the mirror
        self._keeping: asyncio.Task[None] | None = None
        self.watch = Watch(self._ref, lambda _: None, wake)
        mirror.watches.append(self.watch)

    @property
    def alternates(self) -> Path | None:
        return self._repository().objects

    def _repository(self) -> LocalRepository:
        found = local_repository(self._settings)
        assert found is not None  # noqa: S101 - its URL is a folder's
        return found

    async def find(self, since: float) -> tuple[str, str]:
        del since  # looking costs next to nothing
        self.looked_at = self._clock.monotonic()
        repository = self._repository()
        repository.check(trusted=self._settings.trusted)
        await self._mirror.ensure()
        try:
            commit, name = await self._find(repository)
        except GitError:
            raise no_ref(self._settings, empty=await repository.is_empty()) from None
        if len(commit) != SHA1_DIGITS:
            raise unsupported_format(self._settings)
        self._to_keep = (commit, self._mirror.lives)
        if self._to_keep != self._kept and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(repository.git_dir))
        return commit, name

    async def _find(self, repository: LocalRepository) -> tuple[str, str]:
        if self._ref == "HEAD":
            return await repository.head()
        if self._ref != f"{TAGS}*":
            found, name = self._ref, shown_ref(self._settings.ref, self._ref)
            if self._settings.verify is not None:  # the tag and its commit are of one moment
                found = await repository.object(self._ref)
            self.at = (self._ref.removeprefix(TAGS), found)
            return await repository.commit(found), name
        tags = await repository.tags()
        tag = newest(self._settings.ref, tags)
        if tag is None:
            raise no_ref(self._settings, empty=await repository.is_empty())
        self.at = (tag, tags[tag])
        return await repository.commit(tags[tag]), tag

    async def _keep(self, origin: Path) -> None:
        """Copy commits into the mirror: a run can have them whatever becomes of their ref."""
        try:
            while self._to_keep != self._kept:
                await asyncio.sleep(KEEP_AFTER_SECONDS)
                wanted = self._to_keep
                await self._copied(wanted[0], origin)
                self._kept = wanted
        except (RondelError, *TROUBLE) as error:
            # They can still be read where they are; the next look tries again.
            log.warning("commit_not_kept", source=self._settings.name, error=str(error))
        finally:
            self._keeping = None

    async def _copied(self, commit: str, origin: Path) -> None:
        try:
            await self._mirror.keep(commit, origin)
        except GitError as error:
            if not await self._mirror.mend(error):
                raise
            await self._mirror.ensure()
            await self._mirror.keep(commit, origin)

    async def have(self, commit: str) -> None:
        await self._mirror.ensure()
        await self._mirror.keep(commit, self._repository().git_dir)

    async def commit(self, revision: str | None) -> str:
        repository = self._repository()
        repository.check(trusted=self._settings.trusted)
        await self._mirror.ensure()
        wanted = revision or self._ref
        if revision is None and self._ref == f"{TAGS}*":
            wanted = TAGS + (newest(self._settings.ref, await repository.tags()) or "")
        try:
            return await repository.commit(wanted)
        except GitError as error:
            raise no_revision(self._settings, revision) from error

    def watching(self) -> AbstractAsyncContextManager[object]:
        return watching(self._folders, self._hint, recursive=False)

    def _folders(self) -> tuple[Path, ...]:
        return self._repository().ref_folders(self._ref)

    def _hint(self, paths: set[str]) -> None:
        if not paths or any(tells(path) for path in paths):
            self._wake()

    async def close(self) -> None:
        """End what runs in the background."""
        if self.watch in self._mirror.watches:
            self._mirror.watches.remove(self.watch)
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])


def full_ref(ref: GitRef) -> str:
    """Return what is asked for: a ref's full name, all tags for a range, or an id."""
    match ref.given[:1]:
        case ("commit",):
            return ref.commit or ""
        case ("name",):
            return ref.name or ""
        case ("semver",):
            return f"{TAGS}*"
        case ("tag",):
            return f"{TAGS}{ref.tag}"
        case ("branch",):
            return f"refs/heads/{ref.branch}"
        case _:
            return "HEAD"


def shown_ref(wanted: GitRef, ref: str, head: str | None = None) -> str:
    """Return what stands before "@sha1:" in a revision; `head` is the branch that HEAD is."""
    match wanted.given[:1]:
        case ("commit",):
            return "HEAD"
        case ("name",):
            return ref
        case ():
            return head.removeprefix("refs/heads/") if head is not None else "HEAD"
        case _:
            return ref.removeprefix("refs/heads/").removeprefix(TAGS)


def newest(ref: GitRef, tags: Iterable[str]) -> str | None:
    """Return the tag with the highest version of those that the range takes."""
    return highest(tags, parse_range(ref.semver or "*"))


def names_of(revision: str) -> list[str]:
    """Return the refs that a revision may be, as git looks for them."""
    if revision == "HEAD" or revision.startswith("refs/"):
        return [revision]
    return [f"{TAGS}{revision}", f"refs/heads/{revision}"]


def no_revision(settings: GitSource, revision: str | None) -> StalledError | TransientError:
    if revision is None:
        return no_ref(settings, empty=False)
    return StalledError(
        f"there is no branch, tag or commit {revision!r}",
        reason="RefNotFound",
        where=remote.shown(settings.url),
        remedy="push it, or name a commit by all its 40 digits",
    )


def no_ref(settings: GitSource, *, empty: bool) -> StalledError | TransientError:
    where = remote.shown(settings.url)
    if empty:
        return TransientError("the repository has no commits", reason="NoCommits", where=where)
    return StalledError(
        f"there is no {settings.ref.text or 'HEAD'}",
        reason="RefNotFound",
        where=where,
        remedy=remote.REMEDIES["RefNotFound"],
    )


def unsupported_format(settings: GitSource) -> StalledError:
    return StalledError(
        "the repository names its objects by SHA-256, and sources are read by SHA-1",
        reason="ObjectFormatUnsupported",
        where=remote.shown(settings.url),
        remedy=remote.REMEDIES["ObjectFormatUnsupported"],
    )
