"""Waits until files are whole: a half-written one must not be taken for its new self."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from controller.clock import Clock
from controller.source.files import Found

LOOK_SECONDS = 0.02  # between two looks that must agree
MOST_LOOKS = 50  # a file that is written to for longer is taken as it is
TICK_NS = 10_000_000  # the clock of file times: what is closer together is one moment


class Settling:
    """Decides which changed files may still be in the middle of a write.

    A file that was renamed into place is whole: its inode is another one, or its name came later
    than its last write. A file that is gone may be in the middle of being replaced.
    """

    def __init__(self, root: Path, known: dict[str, Found]) -> None:
        self._root = root
        self._known = known

    async def wait(self, paths: Iterable[str], clock: Clock) -> None:
        """Return when every path looks the same twice, or was whole at once."""
        now_ns = int(clock.now().timestamp() * 1e9)
        open_ = {
            path: seen
            for path in paths
            if not whole(seen := self._stat(path), self._inode(path), now_ns)
        }
        for _ in range(MOST_LOOKS):
            if not open_:
                return
            await asyncio.sleep(LOOK_SECONDS)
            again = {path: self._stat(path) for path in open_}
            open_ = {path: now for path, now in again.items() if times(now) != times(open_[path])}

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(self._root / path)
        except OSError:
            return None

    def _inode(self, path: str) -> int | None:
        known = self._known.get(path)
        return known.inode if known is not None else None


def whole(info: os.stat_result | None, inode: int | None, now_ns: int) -> bool:
    if info is None:
        return False
    if inode is not None and info.st_ino != inode:
        return True
    renamed = info.st_ctime_ns - info.st_mtime_ns > TICK_NS
    old = now_ns - info.st_ctime_ns > LOOK_SECONDS * 2e9
    return renamed or old


def times(info: os.stat_result | None) -> tuple[int, ...]:
    return (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino) if info else ()
