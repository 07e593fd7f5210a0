"""The configured sources, each followed by a task of its own."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from controller.clock import Clock
from controller.errors import UsageError
from controller.loading import Loading
from controller.model.settings import DirectorySource, GitSource, Settings
from controller.observations import Observations
from controller.secrets import ConfiguredSecrets
from controller.source import Source, open_source
from controller.source.remote import local_folder
from controller.store import Store

log = structlog.get_logger()


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
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def open(self, one: GitSource | DirectorySource) -> Source:
        """Return a source; nothing is read of it yet.

        Raises:
            RondelError: it may not be run here, or its address can't be one.
        """
        settings = self._settings()
        warn_untrusted(one, settings.executor)
        return open_source(
            one,
            state_dir=Path(settings.state_dir),
            clock=self._clock,
            secrets=self._secrets.operator,
        )

    async def add(self, one: GitSource | DirectorySource, source: Source) -> None:
        """Take an opened source in, with what the store remembers of it."""
        status = await self._store.read(lambda reader: reader.source(one.name))
        remembered = self._observations.of_source(one.name)
        self._loading.add(one, source, status=status, remembered=remembered)

    def follow(self, group: asyncio.TaskGroup, one: GitSource | DirectorySource) -> None:
        if not one.suspend:
            task = group.create_task(self._loading.follow(one.name), name=f"source {one.name}")
            self._tasks[one.name] = task

    async def remove(self, name: str) -> None:
        """Follow a source no more, and close it; what runs of it goes on."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._loading.remove(name)

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()


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
