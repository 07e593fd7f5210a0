"""Hints that something below a folder has changed. Only hints: a look is the judge."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from watchfiles._rust_notify import RustNotify

from controller.clock import SystemClock

log = structlog.get_logger()

# How often the watcher looks at its queue: latency against CPU at rest. Where something was
# changed, the next change is often near.
REST_MS = 25
BUSY_MS = 5
BUSY_SECONDS = 10.0
CHECK_MS = 1000  # between two looks at whether the folders are still those that are watched
AGAIN_SECONDS = 1.0  # between looks for a folder that isn't there
POLL_SECONDS = 2.0  # where the kernel gives no events
FLOOD = 500  # paths at once; after so many some events may have been lost

Folders = Callable[[], Iterable[Path]]
Hint = Callable[[set[str]], object]
CLOCK = SystemClock()


@asynccontextmanager
async def watching(folders: Folders, hint: Hint, *, recursive: bool) -> AsyncIterator[None]:
    """Call `hint` in this loop with the absolute paths that may have changed, until the end.

    An empty set says that anything may have changed. The block is entered once the watch stands,
    so that a look from then on misses nothing. A folder that vanishes, or that another takes the
    place of, is watched again when it is there; `folders` is asked each time.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    watcher = Watcher(
        folders,
        recursive=recursive,
        hint=lambda paths: loop.call_soon_threadsafe(hint, paths),
        ready=lambda: loop.call_soon_threadsafe(ready.set),
    )
    thread = threading.Thread(target=watcher.run, name="watch", daemon=True)
    thread.start()
    try:
        await ready.wait()
        yield
    finally:
        watcher.stop.set()
        await asyncio.shield(asyncio.to_thread(thread.join))


class Watcher:
    """Follows folders in a thread of its own."""

    def __init__(
        self, folders: Folders, *, recursive: bool, hint: Hint, ready: Callable[[], object]
    ) -> None:
        self._folders = folders
        self._recursive = recursive
        self._hint = hint
        self._ready = ready
        self._first = True
        self._active = -BUSY_SECONDS
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            folders = identities(self._folders())
            try:
                if folders:
                    self._follow(folders)
                else:
                    self._look_at_all()
                    self.stop.wait(AGAIN_SECONDS)
            except (OSError, RuntimeError) as error:
                if identities(folders) == folders:
                    self._poll(folders, error)

    def _follow(self, folders: dict[Path, tuple[int, int]]) -> None:
        """Return when the folders are not those that are watched any more."""
        with RustNotify(
            [str(one) for one in folders],
            debug=False,
            force_polling=False,
            poll_delay_ms=0,
            recursive=self._recursive,
            ignore_permission_denied=True,
        ) as watch:
            self._look_at_all()
            flooded = False
            while identities(self._folders()) == folders:
                step = self._step()
                seen = watch.watch(step, step, CHECK_MS, self.stop)
                if seen == "stop":
                    return
                if not isinstance(seen, str):
                    self._active = CLOCK.monotonic()
                    flooded = flooded or len(seen) > FLOOD
                    self._hint({path for _, path in seen})
                elif flooded:
                    flooded = False
                    self._hint(set())

    def _step(self) -> int:
        return BUSY_MS if CLOCK.monotonic() - self._active < BUSY_SECONDS else REST_MS

    def _look_at_all(self) -> None:
        """What happened before the watch stood is found by a look; the first one comes anyway."""
        if self._first:
            self._first = False
            self._ready()
        else:
            self._hint(set())

    def _poll(self, folders: Iterable[Path], error: Exception) -> None:
        """The kernel gives no events (its watches are used up): look now and then."""
        log.warning("watch_failed", folders=[*map(str, folders)], error=str(error), polling=True)
        self._look_at_all()
        for _ in range(POLLS):
            if self.stop.wait(POLL_SECONDS):
                return
            self._hint(set())


POLLS = 30  # before the kernel is asked again


def identities(folders: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Return which of the folders are there, and which ones they are."""
    found = {}
    for folder in folders:
        try:
            info = folder.stat()
        except OSError:
            continue
        found[folder] = (info.st_dev, info.st_ino)
    return found
