"""A Git repository as a source: a bare mirror, read by object; no checkout but for a run."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import structlog

from controller import ids
from controller.clock import Clock
from controller.errors import StalledError, TransientError, UsageError
from controller.model.settings import GitSource
from controller.model.source import Entry, Snapshot
from controller.model.workflow import Input
from controller.reconcile import keys
from controller.source import remote
from controller.source.objects import Objects, write_files
from controller.source.processes import GitError, git
from controller.source.watch import watching

log = structlog.get_logger()

JITTER = 0.05
FIRST_RETRY_SECONDS = 2.0
SHORT_SECONDS = 20.0  # for what never leaves this host
HEAD = "refs/rondel/head"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the wanted ref is, and what to call it."""

    refspec: str  # what is fetched
    name: str  # shown before "@sha1:"


class Git:
    """Implements `source.ports.Source` for one ref of one repository."""

    def __init__(
        self,
        settings: GitSource,
        *,
        state_dir: Path,
        clock: Clock,
        secrets: remote.Secret | None = None,
    ) -> None:
        remote.check_url(settings.url)
        self.name = settings.name
        self.location = remote.shown(settings.url)
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        mark = sha256(settings.url.encode()).hexdigest()[:12]
        self._mirror = state_dir / "mirrors" / f"{settings.name}-{mark}"
        self._local = local_git_dir(settings)
        alternates = self._local / "objects" if self._local else None
        self._objects = Objects(self._mirror, alternates)
        self._hints: asyncio.Queue[None] = asyncio.Queue()
        self._attempted = ""
        self._failure = ""
        self._failures = 0
        self._snapshot: Snapshot | None = None
        self._trees: dict[str, Mapping[str, Entry]] = {}
        self._keeping: set[asyncio.Task[None]] = set()

    def attempted(self) -> str:
        return self._attempted

    def look(self) -> None:
        self._hints.put_nowait(None)

    async def snapshots(self) -> AsyncIterator[Snapshot | Exception]:
        async with AsyncExitStack() as stack:
            if self._local is not None:
                await stack.enter_async_context(
                    watching(self._ref_folders, self._hint, recursive=False)
                )
            while True:
                seen = await self._seen()
                if seen is not None:
                    yield seen
                await self._next_look()

    def _ref_folders(self) -> tuple[Path, ...]:
        """Return the folders in which a local repository's wanted ref may move."""
        if self._local is None:
            return ()
        common = common_dir(self._local)
        return (self._local, *dict.fromkeys((common, common / "refs", common / "refs/heads")))

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

    async def _seen(self) -> Snapshot | Exception | None:
        """Return what is new; None when nothing is. The same failure is told once."""
        try:
            commit, name = await self._find()
            recovered = bool(self._failures)
            self._failures, self._failure = 0, ""
            revision = f"{name}@sha1:{commit}"
            self._attempted = revision
            if self._snapshot is not None and self._snapshot.revision == revision:
                return self._snapshot_again() if recovered else None
            return await self._load(commit, revision)
        except (StalledError, TransientError) as error:
            return self._failed(error)
        except UsageError as error:
            return self._failed(StalledError(str(error), reason="InvalidSource"))
        except GitError as error:
            return self._failed(remote.meaning(error.text, self.location))
        except (OSError, EOFError, KeyError, TimeoutError) as error:
            return self._failed(
                TransientError(repr(error), reason="FetchFailed", where=self.location)
            )

    def _failed(self, error: StalledError | TransientError) -> Exception | None:
        self._failures += 1
        if self._failure == str(error):
            return None
        self._failure = str(error)
        return error

    def _snapshot_again(self) -> Snapshot:
        """Nothing changed while the remote was away; say that it is back."""
        assert self._snapshot is not None  # noqa: S101 - asked for only when there is one
        last = self._snapshot
        self._snapshot = Snapshot(
            source=last.source,
            revision=last.revision,
            entries=last.entries,
            manifests=last.manifests,
            changed=frozenset(),
            faults=last.faults,
        )
        return self._snapshot

    # Finding the commit.

    async def _find(self) -> tuple[str, str]:
        """Return the wanted ref's commit and its shown name, fetching when it must."""
        if self._local is not None:
            self._check_local(self._local)
        await self._ensure_mirror()
        place = await self._place()
        if self._local is not None:
            return await self._find_locally(self._local, place), place.name
        await self._fetch(place.refspec)
        return await self._commit(self._mirror, HEAD), place.name

    async def _ensure_mirror(self) -> None:
        if (self._mirror / "HEAD").is_file():
            return
        self._mirror.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        await git(
            ["init", "--quiet", "--bare", "--template=", str(self._mirror)],
            folder=self._mirror,
            seconds=SHORT_SECONDS,
        )

    async def _place(self) -> Place:
        ref = self._settings.ref
        if ref.commit is not None:
            return Place(ref.commit, "HEAD")
        if ref.name is not None:
            return Place(remote.check_ref(ref.name), ref.name)
        if ref.tag is not None:
            return Place(f"refs/tags/{remote.check_ref(ref.tag)}", ref.tag)
        if ref.branch is not None:
            return Place(f"refs/heads/{remote.check_ref(ref.branch)}", ref.branch)
        return Place("HEAD", await self._head_name())

    async def _head_name(self) -> str:
        """Return the branch that the remote's HEAD is; HEAD when it is detached."""
        if self._local is not None:
            text = (self._local / "HEAD").read_text("utf-8", errors="replace").strip()
            return text.removeprefix("ref: refs/heads/") if text.startswith("ref: ") else "HEAD"
        told = await self._remote(["ls-remote", "--symref", "--", self._settings.url, "HEAD"])
        first = told.decode("utf-8", "replace").split("\n", 1)[0]
        if first.startswith("ref: refs/heads/"):
            return first.removeprefix("ref: refs/heads/").split("\t")[0]
        return "HEAD"

    async def _find_locally(self, git_dir: Path, place: Place) -> str:
        """Read the ref where it is; its objects are read there too, and kept in the mirror."""
        try:
            commit = await self._commit(git_dir, place.refspec)
        except GitError as error:
            raise self._no_ref(git_dir, error) from None
        if self._snapshot is None or commit not in self._snapshot.revision:
            task = asyncio.create_task(self._keep(commit), name=f"keep {commit[:12]}")
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)
        return commit

    def _no_ref(self, git_dir: Path, error: GitError) -> StalledError | TransientError:
        if not any((git_dir / "refs").rglob("*")) and not (git_dir / "packed-refs").exists():
            return TransientError(
                "the repository has no commits", reason="NoCommits", where=self.location
            )
        return remote.meaning(error.text, self.location)

    def _check_local(self, git_dir: Path) -> None:
        if not (git_dir / "HEAD").is_file():
            raise StalledError(
                "there is no repository",
                reason="RepositoryNotFound",
                where=self.location,
                remedy="correct `url`",
            )
        if not self._settings.trusted and git_dir.stat().st_uid != os.geteuid():
            raise StalledError(
                "the repository belongs to another user",
                reason="NotTrusted",
                where=self.location,
                remedy="set `trusted: true` if its owner may decide what runs",
            )

    async def _commit(self, folder: Path, ref: str) -> str:
        told = await git(
            ["rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}"],
            folder=folder,
            seconds=SHORT_SECONDS,
        )
        return told.decode().strip()

    async def _keep(self, commit: str) -> None:
        """Copy a commit into the mirror, so that a run can have it whatever becomes of its ref."""
        try:
            await self._fetch(commit, f"refs/rondel/keep/{commit}")
        except (GitError, StalledError, TransientError) as error:
            # It can still be read where it is; the next commit tries again.
            log.warning("commit_not_kept", source=self.name, commit=commit, error=str(error))

    async def _fetch(self, ref: str, target: str = HEAD) -> None:
        await self._remote(
            [
                *("fetch", "--quiet", "--no-tags", "--force", "--no-write-fetch-head"),
                *("--no-recurse-submodules", "--", self._settings.url, f"+{ref}:{target}"),
            ]
        )
        if target == HEAD:
            commit = await self._commit(self._mirror, HEAD)
            await git(
                ["update-ref", f"refs/rondel/keep/{commit}", commit],
                folder=self._mirror,
                seconds=SHORT_SECONDS,
            )

    async def _remote(self, arguments: list[str]) -> bytes:
        env = await remote.login(self._settings, self._secrets, self._mirror)
        limit = self._settings.timeout.total_seconds()
        return await git(arguments, folder=self._mirror, seconds=limit, env=env)

    # Reading it.

    async def _load(self, commit: str, revision: str) -> Snapshot:
        tree = await self._objects.tree(commit)
        before = self._snapshot.entries if self._snapshot else None
        self._snapshot = Snapshot(
            source=self.name,
            revision=revision,
            entries=tree.entries,
            manifests=self._settings.path,
            changed=None if before is None else difference(before, tree.entries),
            faults=tuple(
                fault for fault in tree.faults if keys.within(fault.file, self._settings.path)
            ),
        )
        return self._snapshot

    async def read(self, snapshot: Snapshot, paths: Iterable[str]) -> Mapping[str, bytes]:
        blobs = {path: snapshot.entries[path].blob for path in paths if path in snapshot.entries}
        contents = await self._objects.contents(blobs.values())
        return {path: contents[blob] for path, blob in blobs.items()}

    async def materialise(self, revision: str, wanted: Input, target: Path) -> str:
        commit = revision.rpartition("@sha1:")[2]
        try:
            entries = await self._entries(revision, commit)
            selected = keys.select(entries, wanted)
            if not selected:
                raise StalledError(
                    f"input {wanted.name!r}: nothing at {wanted.path} in {revision}",
                    reason="InputMissing",
                    where=self.location,
                    remedy="commit the files, or correct the path",
                )
            await write_files(self._objects, selected, target)
        except (GitError, KeyError, EOFError, OSError, TimeoutError) as error:
            raise TransientError(
                f"input {wanted.name!r}: {error}", reason="SourceUnavailable", where=self.location
            ) from error
        return keys.digest_of(selected)

    async def _entries(self, revision: str, commit: str) -> Mapping[str, Entry]:
        if self._snapshot is not None and self._snapshot.revision == revision:
            return self._snapshot.entries
        return (await self._objects.tree(commit)).entries

    async def close(self) -> None:
        for task in self._keeping:
            task.cancel()
        if self._keeping:
            await asyncio.wait(self._keeping)


def local_git_dir(settings: GitSource) -> Path | None:
    """Return the Git directory of a file:// repository: bare, a work tree's, or a worktree's."""
    folder = remote.local_folder(settings.url)
    if folder is None:
        return None
    inner = folder / ".git"
    if inner.is_file():
        told = inner.read_text("utf-8", errors="replace").removeprefix("gitdir:").strip()
        return (folder / told).resolve()
    return inner if inner.is_dir() else folder


def common_dir(git_dir: Path) -> Path:
    """Return where a worktree's shared refs are."""
    pointer = git_dir / "commondir"
    if pointer.is_file():
        return (git_dir / pointer.read_text("utf-8").strip()).resolve()
    return git_dir


def tells(path: str) -> bool:
    """Tell whether a changed path of a Git directory may mean a moved ref."""
    return not path.endswith((".lock", "index", "COMMIT_EDITMSG", "ORIG_HEAD", "FETCH_HEAD"))


def difference(before: Mapping[str, Entry], now: Mapping[str, Entry]) -> frozenset[str]:
    return frozenset(
        path for path in before.keys() | now.keys() if before.get(path) != now.get(path)
    )
