"""The configured sources, each followed by a task of its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog

from controller.clock import Clock
from controller.errors import RondelError, UsageError
from controller.loading import Loading
from controller.model.condition import SourceStatus
from controller.model.settings import DirectorySource, GitSource, Settings
from controller.observations import Observations
from controller.place import renewed, unread
from controller.secrets import ConfiguredSecrets
from controller.source import Source, open_source
from controller.source.mirrors import Mirrors
from controller.source.processes import GitError
from controller.source.remote import local_folder, shown
from controller.store import Store

log = structlog.get_logger()


UNUSED = timedelta(days=1)
"""How long a mirror is kept that no source looks at."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that may be followed, and what the store knows of it."""

    settings: GitSource | DirectorySource
    source: Source
    status: SourceStatus | None


class Following:
    """Takes sources in, follows them, lets them go."""

    def __init__(
        self,
        *,
        loading: Loading,
        observations: Observations,
        store: Store,
        secrets: ConfiguredSecrets,
        clock: Clock,
        settings: Callable[[], Settings],
    ) -> None:
        self._loading = loading
        self._observations = observations
        self._store = store
        self._secrets = secrets
        self._clock = clock
        self._settings = settings
        self._mirrors = Mirrors(Path(settings().state_dir), clock, secrets.operator)
        self._mirrors.forget_logins()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def open(self, one: GitSource | DirectorySource) -> Opened:
        """Return a source; nothing is read of it yet.

        Raises:
            RondelError: it may not be run here, its address can't be one, the store isn't read.
        """
        settings = self._settings()
        warn_untrusted(one, settings.executor)
        warn_several_refs(one)
        status = await self._store.read(lambda reader: reader.source(one.name))
        location = shown(one.url) if isinstance(one, GitSource) else one.path
        source = open_source(
            one,
            state_dir=Path(settings.state_dir),
            clock=self._clock,
            mirrors=self._mirrors,
            applied=renewed(status, unread(one, location)).last_applied_revision,
        )
        return Opened(one, source, status)

    def add(self, one: Opened) -> None:
        """Take a source in, with what is remembered of it."""
        remembered = self._observations.of_source(one.settings.name)
        self._loading.add(one.settings, one.source, status=one.status, remembered=remembered)

    async def left(self) -> list[str]:
        """Return the sources that the store knows and that are configured no more."""
        configured = {one.name for one in self._settings().sources}
        known = await self._store.read(lambda reader: reader.sources())
        return [one.name for one in known if one.name not in configured]

    def follow(self, group: asyncio.TaskGroup, one: GitSource | DirectorySource) -> None:
        task = group.create_task(self._loading.follow(one.name), name=f"source {one.name}")
        self._tasks[one.name] = task

    async def remove(self, name: str) -> None:
        """Follow a source no more, and close it; what runs of it goes on."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        try:
            await self._loading.remove(name)
        except (OSError, RondelError) as error:  # it is forgotten all the same
            log.warning("source_not_closed", source=name, error=str(error))

    async def prune(self) -> None:
        """Let go of fetched commits that no kept run is of, and of mirrors that nobody uses."""
        before = (self._clock.now() - UNUSED).timestamp()
        try:
            revisions = await self._store.read(lambda reader: reader.revisions())
            commits = {one.rpartition("@sha1:")[2] for one in revisions if "@sha1:" in one}
            gone = await self._mirrors.prune(commits, before)
        except (OSError, RondelError, GitError) as error:  # another time
            log.warning("mirrors_not_pruned", error=str(error))
        else:
            log.debug("mirrors_pruned", gone=gone)

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()


def warn_several_refs(settings: GitSource | DirectorySource) -> None:
    used, *others = settings.ref.given or ("",)
    if others:
        log.warning("ref_says_more_than_once", source=settings.name, used=used, left_out=others)


def warn_untrusted(settings: GitSource | DirectorySource, executor: str) -> None:
    """The local executor isolates nothing: whoever commits to what it serves is the operator.

    Raises:
        UsageError: a Git source that isn't trusted.
    """
    if executor != "local":
        return
    local = isinstance(settings, GitSource) and local_folder(settings.url) is not None
    if not settings.trusted and not local:
        raise UsageError(
            "the local executor runs whatever is committed there, as this user",
            where=f"source {settings.name}",
            remedy="set `trusted: true` if you mean it, or use executor: dagger",
        )
    log.warning("not_isolated", source=settings.name, executor=executor)
