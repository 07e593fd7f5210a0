"""Another configuration, taken over while runs go on: all of it is checked before any of it."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

import structlog

from controller.clock import Clock
from controller.dispatcher import Dispatcher, most_runs
from controller.errors import RondelError
from controller.following import Following
from controller.loading import Loading
from controller.model.changes import Change, DropSource
from controller.model.settings import GitSource, Settings
from controller.model.view import time
from controller.observations import Key, Observations
from controller.reconcile.plan import retire
from controller.reconcile.reload import Difference, difference
from controller.reconciler import Reconciler
from controller.recorder import Recorder
from controller.secrets import ConfiguredSecrets

log = structlog.get_logger()

Stamp: TypeAlias = tuple[int, int, int] | None
"""What tells a file's content from another's: inode, size, time; None when it isn't there."""


class Reload:
    """Reads the configuration anew when it is asked to, and brings the controller to it.

    `read` raises RondelError for a configuration that can't be used; `use` is told the settings
    that hold from then on. It starts no run: a run's triggers don't look at the configuration.
    """

    def __init__(
        self,
        *,
        read: Callable[[], Settings],
        current: Callable[[], Settings],
        use: Callable[[Settings], None],
        following: Following,
        loading: Loading,
        secrets: ConfiguredSecrets,
        observations: Observations,
        recorder: Recorder,
        reconciler: Reconciler,
        dispatcher: Dispatcher,
        clock: Clock,
        turn: asyncio.Lock,
    ) -> None:
        self._read = read
        self._current = current
        self._use = use
        self._following = following
        self._loading = loading
        self._secrets = secrets
        self._observations = observations
        self._recorder = recorder
        self._reconciler = reconciler
        self._dispatcher = dispatcher
        self._clock = clock
        self._turn = turn  # neither a pass nor a claim sees a source that is half there
        self._asked = asyncio.Event()
        self._read_at: Stamp = self._stamp()  # what the file was when it was read
        self._seen_at = self._read_at
        self.trouble = ""  # what became of the last one, when it was not taken over

    def ask(self) -> None:
        self._asked.set()

    def notice(self) -> None:
        """Ask for a reload when the file is another one, and not being written just now."""
        before, self._seen_at = self._seen_at, self._stamp()
        if self._seen_at == before and before != self._read_at:
            self.ask()

    def _stamp(self) -> Stamp:
        file = self._current().file
        try:
            found = Path(file).stat() if file else None
        except OSError:  # reading it says what is wrong
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns) if found else None

    async def run(self, group: asyncio.TaskGroup, ready: asyncio.Event) -> None:
        """Reload whenever it is asked for, once the first load is over; until cancelled."""
        await ready.wait()
        await self._drop_left()
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._reload(group)
            except RondelError as error:
                self._failed(error)
            except Exception:
                log.exception("reload_crashed")  # a defect met here stops no run

    def _failed(self, error: RondelError) -> None:
        """/readyz is open to everybody: the log has the words, which may quote the file."""
        log.error("reload_failed", error=str(error))
        at = time(self._clock.now())
        self.trouble = f"not reloaded at {at}: the one before is in use; see the log"

    async def _reload(self, group: asyncio.TaskGroup) -> None:
        self._read_at = self._stamp()
        log.info("reloading", file=self._current().file)
        new = await asyncio.to_thread(self._read)
        found = difference(self._current(), new)
        by_name = {one.name: one for one in found.settings.sources}
        opened = [
            await self._following.open(by_name[name]) for name in (*found.added, *found.changed)
        ]
        async with self._turn:  # from here on nothing fails
            self._take_over(found.settings)
            for name in (*found.changed, *found.removed):
                await self._following.remove(name)
            for one in opened:
                self._following.add(one)
                self._following.follow(group, one.settings)
        await self._drop_left()
        self._look_at_keys(found)
        self._dispatcher.look()
        self.trouble = ""
        self._tell(found)

    def _look_at_keys(self, found: Difference) -> None:
        """Files of keys may say something else by now."""
        opened = {*found.added, *found.changed}
        for one in found.settings.sources:
            followed = one.name not in opened and self._loading.serves(one.name)
            if followed and isinstance(one, GitSource) and one.verify is not None:
                self._loading.look(one.name)

    def _take_over(self, settings: Settings) -> None:
        self._use(settings)
        self._secrets.use(settings.secrets)
        self._loading.use_groups(settings.groups)
        self._dispatcher.allow(most_runs(settings))

    async def _drop_left(self) -> None:
        """Drop what the store still has of sources that are gone, also from before the start."""
        try:
            for name in await self._following.left():
                async with self._turn:
                    await self._drop(name)
        except RondelError as error:
            log.error("drop_failed", error=str(error))  # noqa: TRY400  # its words say it all

    async def _drop(self, name: str) -> None:
        """Retire the workflows of a source that is gone; a pass does it if this can't be kept."""
        keys = [(name, one.name) for one in self._observations.of_source(name)]
        self._reconciler.enqueue(keys)
        await self._recorder.record(
            *self._retirements(keys), DropSource(name=name, at=self._clock.now())
        )

    def _retirements(self, keys: Iterable[Key]) -> list[Change]:
        now = self._clock.now()
        return [
            change for key in keys for change in retire(self._reconciler.observed(key), now).changes
        ]

    def _tell(self, found: Difference) -> None:
        log.info(
            "reloaded",
            added=found.added,
            removed=found.removed,
            changed=found.changed,
            settings=found.keys,
        )
        if found.restart:
            log.warning("needs_restart", settings=found.restart)
