"""A bare repository in the state directory: what was fetched from one URL, held by refs of our own.

All sources of that URL and login share it: what one of them asks and fetches, it asks and fetches
for all.
"""

import asyncio
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import structlog

from controller import ids
from controller.clock import Clock
from controller.errors import TransientError
from controller.model.settings import GitSource
from controller.source import remote
from controller.source.processes import GitError, commit_of, git

log = structlog.get_logger()

SECONDS = 20.0  # for what never leaves this host
TIDY_SECONDS = 600.0
TIDY_AFTER = 50  # commits kept; each leaves a pack of its own
FETCHED = "refs/rondel/fetched/"
KEEP = "refs/rondel/keep/"
EVERYTHING = ("+refs/heads/*:refs/rondel/all/heads/*", "+refs/tags/*:refs/rondel/all/tags/*")
NO_SHALLOW = "does not support shallow"


@dataclass(frozen=True, slots=True)
class Told:
    """What a remote said of its refs, and when; `head` is the branch that its HEAD is, if it is."""

    refs: Mapping[str, str]
    head: str | None = None
    at: float = 0.0  # of the clock's monotonic time, when it was asked
    patterns: frozenset[str] = frozenset()  # what it was asked for


@dataclass(eq=False, slots=True)
class Watch:
    """A source that looks at a mirror: what it asks for, which ref it takes, how it is woken."""

    pattern: str | None  # None: nothing
    choose: Callable[[Told], str | None]
    wake: Callable[[], None]
    held: set[str] = field(default_factory=set)  # commits that it works with


class Mirror:
    """Owns one bare repository; every command that writes to it passes here."""

    def __init__(
        self, folder: Path, settings: GitSource, secrets: remote.Secret | None, clock: Clock
    ) -> None:
        self.folder = folder
        self.lives = 0  # how often it was made; what was kept in an earlier one is gone
        self.watches: list[Watch] = []
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._asking = asyncio.Lock()
        self._turn = asyncio.Lock()  # one writes at a time
        self._told: Told | None = None
        self._brought: dict[str, str] = {}  # ref -> what it was when it was fetched
        self._shallow = remote.local_folder(settings.url) is None
        self._kept = 0

    async def ensure(self) -> None:
        """Make the repository if it isn't there; it appears whole or not at all."""
        if (self.folder / "HEAD").is_file():
            return
        async with self._turn:
            self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = self.folder.with_name(f"{self.folder.name}.{ids.nonce()}")
            try:
                await self._git("init", "--quiet", "--bare", "--template=", str(draft))
                shutil.rmtree(self.folder, ignore_errors=True)
                draft.rename(self.folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            self._brought.clear()
            self.lives += 1

    # Asking the remote.

    async def told(self, watch: Watch, *, since: float, seconds: float) -> Told:
        """Return what the remote says of the wanted refs, asked at `since` or later.

        It is asked for all who watch; those whose ref moved are woken.
        """
        async with self._asking:
            last = self._told
            if last is not None and last.at >= since and watch.pattern in last.patterns:
                return last
            wanted = {one.pattern for one in (*self.watches, watch)}
            now = await self._ask(seconds, *(one for one in wanted if one is not None))
            self._told = now
        for other in self.watches:
            if other is not watch and last is not None and moved(other, last, now):
                other.wake()
        return now

    async def is_empty(self, *, seconds: float) -> bool:
        """Tell whether the remote has no refs at all."""
        return not (await self._ask(seconds)).refs

    async def _ask(self, seconds: float, *patterns: str) -> Told:
        at = self._clock.monotonic()
        words = ("ls-remote", "--symref", "--end-of-options", self._settings.url, *sorted(patterns))
        refs, head = {}, None
        told = (await self._remote(seconds, *words)).decode("utf-8", "surrogateescape")
        for line in told.split("\n"):
            value, _, name = line.partition("\t")
            if value.startswith("ref: ") and name == "HEAD":
                head = value.removeprefix("ref: ")
            elif name and not value.startswith("ref: "):
                refs[name] = value
        return Told(refs, head, at, frozenset(patterns))

    # Having commits.

    async def commit_at(self, ref: str, told: Told, *, seconds: float) -> str:
        """Return the commit of a ref that the remote has, fetched and kept."""
        async with self._turn:
            wanted = told.refs[ref]
            if self._brought.get(ref) != wanted:
                if await self._has(wanted, ref):
                    return await self._hold(wanted)
                await self._bring(ref, told, seconds)
            return await self._hold(fetched(ref))

    async def _has(self, wanted: str, ref: str) -> bool:
        """Tell whether an earlier process fetched it."""
        if await self.keeps(wanted):
            return True
        words = ("for-each-ref", "--format=%(objectname)", fetched(ref))
        return (await self._git(*words)).decode().strip() == wanted

    async def _bring(self, ref: str, told: Told, seconds: float) -> None:
        """Fetch a ref, and with it those that moved for the others."""
        chosen = {ref, *(one.choose(told) for one in self.watches)} - {None}
        news = {
            one: told.refs[one]
            for one in chosen
            if one is not None and self._brought.get(one) != told.refs.get(one, "")
        }
        try:
            await self._fetch(seconds, *map(refspec, sorted(news)))
        except GitError:
            if len(news) == 1:
                raise
            news = {ref: told.refs[ref]}  # another source's trouble is not this one's
            await self._fetch(seconds, refspec(ref))
        self._brought |= news
        await self._tidy()

    async def have(self, commit: str, *, seconds: float) -> str:
        """Fetch a commit by its id if it isn't here; keep it and return it."""
        if await self.keeps(commit):
            return commit
        async with self._turn:
            try:
                await self._fetch(seconds, f"+{commit}:{fetched(commit)}")
            except GitError as error:
                if remote.meaning(error.text, "").reason != "RefNotFound":
                    raise
                # Servers may refuse a commit that no ref names.
                await self._fetch(seconds, *EVERYTHING, whole=True)
            return await self._hold(commit)

    async def keep(self, commit: str, origin: Path) -> None:
        """Copy a commit from a repository of this host, so that a run can have it later."""
        async with self._turn:
            if not await self.keeps(commit):
                seconds = self._settings.timeout.total_seconds()
                await self._fetch(seconds, f"+{commit}:{KEEP}{commit}", origin=str(origin))
                await self._release(commit)
                await self._tidy()

    async def keeps(self, commit: str) -> bool:
        try:
            await self.commit(KEEP + commit)
        except GitError:
            return False
        return True

    async def commit(self, ref: str) -> str:
        """Return the commit of a ref or id that is here. Raises GitError when there is none."""
        return await commit_of(ref, folder=self.folder, seconds=SECONDS)

    async def _hold(self, ref: str) -> str:
        """Keep what is here by the name or id `ref`; return its commit."""
        commit = await self.commit(ref)
        if not await self.keeps(commit):
            await self._git("update-ref", KEEP + commit, commit)
            await self._release(commit)
        return commit

    async def _release(self, commit: str) -> None:
        """Refs to its ancestors are no longer needed: `commit` holds them."""
        told = await self._git("for-each-ref", f"--merged={commit}", "--format=%(refname)", KEEP)
        await self._delete(ref for ref in told.decode().split() if ref != KEEP + commit)

    # Letting go.

    async def prune(self, commits: Collection[str]) -> int:
        """Keep no other commits than these and those that sources work with; return how many went.

        What no ref holds any more stays for two weeks more.
        """
        if not (self.folder / "HEAD").is_file():
            return 0
        async with self._turn:
            wanted = {KEEP + one for one in commits}
            for watch in self.watches:
                wanted |= {KEEP + one for one in watch.held}
            wanted |= {fetched(one) for one in self._brought}
            refs = (await self._git("for-each-ref", "--format=%(refname)", "refs/rondel")).decode()
            gone = [ref for ref in refs.split() if ref not in wanted]
            await self._delete(gone)
            if gone:
                await self._collect()
            return len(gone)

    async def _delete(self, refs: Iterable[str]) -> None:
        lines = "".join(f"delete {ref}\n" for ref in refs)
        if lines:
            await self._git("update-ref", "--stdin", data=lines)

    async def _tidy(self) -> None:
        """Pack what many fetches have left behind; what a ref holds stays."""
        self._kept += 1
        if self._kept % TIDY_AFTER == 0:
            await self._collect()

    async def _collect(self) -> None:
        words = ["gc", "--quiet", "--prune=2.weeks.ago"]
        await git(words, folder=self.folder, seconds=TIDY_SECONDS)

    # Damage.

    async def mend(self, error: GitError) -> bool:
        """Throw the repository away if it is damaged; tell whether it was. The next look makes it.

        What git says while it talks to a remote may be the remote's damage: then only what is
        here is asked for. What it can't read here, it is asked for bit by bit.
        """
        async with self._turn:
            quick = ("--connectivity-only",) if error.command in remote.COMMANDS else ()
            try:
                await self._git(
                    "fsck", *quick, "--no-dangling", "--no-progress", limit=TIDY_SECONDS
                )
            except GitError as damage:
                log.warning("mirror_damaged", folder=str(self.folder), error=damage.text[-500:])
            except TransientError:  # nobody knows: it stays
                return False
            else:
                return False
            away = self.folder.with_name(f"{self.folder.name}.{ids.nonce()}")
            self.folder.rename(away)
            await asyncio.to_thread(shutil.rmtree, away, ignore_errors=True)
            self._brought.clear()
            return True

    def _unlock(self) -> int:
        """Remove the locks that killed commands left: while it is our turn nobody holds one."""
        locks = [path for path in self.folder.rglob("*.lock") if path.is_file()]
        for path in locks:
            path.unlink(missing_ok=True)
        return len(locks)

    # Commands.

    async def _fetch(
        self, seconds: float, *refspecs: str, origin: str = "", whole: bool = False
    ) -> None:
        options = ("--quiet", "--no-tags", "--force", "--no-write-fetch-head", "--update-shallow")
        url = origin or self._settings.url
        rest = ("--no-recurse-submodules", "--end-of-options", url, *refspecs)
        if not self._shallow or whole:
            past = ("--unshallow",) if (self.folder / "shallow").is_file() and not origin else ()
            await self._remote(seconds, "fetch", *options, *past, *rest)
            return
        try:
            await self._remote(seconds, "fetch", *options, "--depth=1", *rest)
        except GitError as error:
            if NO_SHALLOW not in error.text:
                raise
            self._shallow = False
            await self._remote(seconds, "fetch", *options, *rest)

    async def _remote(self, seconds: float, *words: str) -> bytes:
        async with remote.login(self._settings, self._secrets, self.folder) as env:
            return await self._git(*words, limit=seconds, env=env)

    async def _git(
        self,
        *words: str,
        data: str | None = None,
        limit: float = SECONDS,
        env: Mapping[str, str] | None = None,
    ) -> bytes:
        encoded = data.encode() if data is not None else None
        try:
            return await git(words, folder=self.folder, seconds=limit, data=encoded, env=env)
        except GitError as error:
            if not ("File exists" in error.text and ".lock'" in error.text and self._unlock()):
                raise
        return await git(words, folder=self.folder, seconds=limit, data=encoded, env=env)


def moved(watch: Watch, before: Told, now: Told) -> bool:
    """Tell whether a source's ref is another than it was when the remote was asked before."""
    if watch.pattern not in before.patterns:
        return False
    old, new = watch.choose(before), watch.choose(now)
    return old != new or (new is not None and before.refs.get(new) != now.refs.get(new))


def fetched(ref: str) -> str:
    """Return the ref of ours that has what a remote's ref was when it was fetched."""
    return FETCHED + sha256(ref.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def refspec(ref: str) -> str:
    return f"+{ref}:{fetched(ref)}"
