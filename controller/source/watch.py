"""Hints that something below a folder has changed. Only hints: a full look stays the judge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import structlog
from watchfiles import awatch

log = structlog.get_logger()

STEP_MS = 20  # how often the watcher looks at its queue: latency against CPU at rest
DEBOUNCE_MS = 20
POLL_MS = 1000  # where the kernel gives no events
AGAIN_SECONDS = 1.0


async def watch(
    *roots: Path, recursive: bool = True, stop: asyncio.Event | None = None
) -> AsyncIterator[set[str]]:
    """Yield sets of absolute paths that may have changed; () of them all after trouble.

    It goes on when a root vanishes or the kernel has no watches left: then it polls.
    """
    polling = False
    while stop is None or not stop.is_set():
        present = [root for root in roots if root.exists()]
        if not present:
            await asyncio.sleep(AGAIN_SECONDS)
            yield set()
            continue
        hints = awatch(
            *present,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            recursive=recursive,
            force_polling=polling,
            poll_delay_ms=POLL_MS,
            ignore_permission_denied=True,
            stop_event=stop,
        )
        try:
            async with aclosing(hints):
                async for changes in hints:
                    yield {path for _, path in changes}
                    if any(not root.exists() for root in present):
                        break  # a watch on a folder that is gone says nothing of its successor
        except (OSError, RuntimeError) as error:
            polling = True
            log.warning("watch_failed", folder=str(present[0]), error=str(error), polling=True)
            await asyncio.sleep(AGAIN_SECONDS)
        yield set()
