"""A bare repository in the state directory: what was fetched from one URL, held by refs of our own.

All sources of that URL and login share it: what one of them asks and fetches, it asks and fetches
for all.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

from controller.clock import Clock
from controller.model.settings import GitSource
from controller.source import remote
from controller.source.depot import Depot
from controller.source.holding import KEEP, Holding
from controller.source.login import login
from controller.source.processes import GitError

FETCHED = "refs/rondel/fetched/"
EVERYTHING = ("+refs/heads/*:refs/rondel/all/heads/*", "+refs/tags/*:refs/rondel/all/tags/*")
UNUSED = timedelta(weeks=2)  # how long an LFS object stays that nobody works with
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


class Mirror(Holding):
    """What we hold of one URL, and the questions to it."""

    def __init__(
        self, folder: Path, settings: GitSource, secrets: remote.Secret | None, clock: Clock
    ) -> None:
        super().__init__(folder)
        self.watches: list[Watch] = []
        self.depot = Depot(folder, settings, secrets)
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._asking = asyncio.Lock()
        self._told: Told | None = None
        self._fetched: tuple[int, dict[str, str]] = (0, {})
        self._shallow = remote.local_folder(settings.url) is None

    @property
    def _brought(self) -> dict[str, str]:
        """What refs were when they were fetched into the repository as it is."""
        if self._fetched[0] != self.lives:
            self._fetched = (self.lives, {})
        return self._fetched[1]

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

    async def ask(self, *names: str, seconds: float) -> Told:
        """Return what the remote says of these refs, for nobody who watches."""
        return await self._ask(seconds, *names)

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
        async with self.turn:
            wanted = told.refs[ref]
            if self._brought.get(ref) != wanted:
                if await self._has(wanted, ref):
                    return await self.hold(wanted)
                await self._bring(ref, told, seconds)
            return await self.hold(fetched(ref))

    async def _has(self, wanted: str, ref: str) -> bool:
        """Tell whether an earlier process fetched it."""
        if await self.keeps(wanted):
            return True
        words = ("for-each-ref", "--format=%(objectname)", fetched(ref))
        return (await self.git(*words)).decode().strip() == wanted

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
        self._brought.update(news)
        await self.tidy()

    async def have(self, commit: str, *, seconds: float) -> str:
        """Fetch a commit by its id if it isn't here; keep it and return it."""
        if await self.keeps(commit):
            return commit
        async with self.turn:
            try:
                await self._fetch(seconds, f"+{commit}:{fetched(commit)}")
            except GitError as error:
                if remote.meaning(error.text, "").reason != "RefNotFound":
                    raise
                # Servers may refuse a commit that no ref names.
                await self._fetch(seconds, *EVERYTHING, whole=True)
            return await self.hold(commit)

    async def keep(self, commit: str, origin: Path) -> None:
        """Copy a commit from a repository of this host, so that a run can have it later."""
        async with self.turn:
            if not await self.keeps(commit):
                seconds = self._settings.timeout.total_seconds()
                await self._fetch(seconds, f"+{commit}:{KEEP}{commit}", origin=str(origin))
                await self.release(commit)
                await self.tidy()

    # Letting go.

    async def prune(self, commits: Collection[str]) -> int:
        """Keep no other commits than these and those in use, and of LFS what is used.

        Return how many refs and objects went.
        """
        held = {one for watch in self.watches for one in watch.held}
        gone = await self.drop({*commits, *held}, {fetched(one) for one in self._brought})
        before = (self._clock.now() - UNUSED).timestamp()
        return gone + await asyncio.to_thread(self.depot.prune, before)

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
        async with login(self._settings, self._secrets, self.folder) as env:
            return await self.git(*words, limit=seconds, env=env)


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
