"""Waits until files are whole: a half-written one must not be taken for its new self."""

import fcntl
import os
import signal
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from controller.source.confined import opened
from controller.source.files import MACHINE, Found, Times, times

LOOK_SECONDS = 0.02  # between two looks that must agree
LONGEST_SECONDS = 1.0  # a file that is written to for longer is taken as it is
TICK_NS = 10_000_000  # the clock of file times: what is closer together is one moment


class Verdict(Enum):
    WAIT = "it may be in the middle of a change"
    WHOLE = "nobody writes to it"
    ANYWAY = "it has been written to for so long that it is taken as it is"


@dataclass(slots=True)
class Open:
    """A path that may be in the middle of a change."""

    times: Times  # () when nothing was there
    at: float  # since when it looks like that
    since: float  # when it was first seen so


class Settling:
    """Decides which changed files are whole.

    One that somebody has open for writing is not. One whose inode is new was renamed into place,
    or made and closed: it is whole. One written in place, or gone, must look the same twice.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, Open] = {}

    @property
    def paths(self) -> set[str]:
        """What to look at again, LOOK_SECONDS later."""
        return set(self._open)

    @property
    def gone(self) -> set[str]:
        """Those of the paths at which nothing was any more."""
        return {path for path, one in self._open.items() if not one.times}

    def hold(self, path: str) -> None:
        """Take a file that is whole not now, but at the next look if it is the same then."""
        moment = MACHINE.monotonic()
        try:
            seen = times((self._root / path).lstat())
        except OSError:  # the next look sees what is there
            seen = ()
        self._open[path] = Open(seen, moment - LOOK_SECONDS, moment)

    def forget(self) -> None:
        self._open.clear()

    def judge(
        self, path: str, info: os.stat_result | None, known: Found | None, now: int
    ) -> Verdict:
        """Tell whether `path` may be taken as `info` shows it (None: it is gone)."""
        waited = self._open.get(path)
        if waited is not None:
            verdict = self._again(path, info, waited)
        elif info is not None and self._whole_at_once(path, info, known, now):
            verdict = Verdict.WHOLE
        else:
            verdict = Verdict.WAIT
            self.wait(path, info)
        if verdict is not Verdict.WAIT:
            self._open.pop(path, None)
        return verdict

    def wait(self, path: str, info: os.stat_result | None) -> None:
        moment = MACHINE.monotonic()
        self._open[path] = Open(times(info) if info else (), moment, moment)

    def _whole_at_once(
        self, path: str, info: os.stat_result, known: Found | None, now: int
    ) -> bool:
        age = now - max(info.st_ctime_ns, info.st_mtime_ns)
        if age > LONGEST_SECONDS * 1e9:
            return True
        written = being_written(self._root, path)
        if written is False and (known is None or known.inode != info.st_ino):
            return True
        renamed = info.st_ctime_ns - info.st_mtime_ns > TICK_NS
        return not written and (renamed or age > LOOK_SECONDS * 2e9)

    def _again(self, path: str, info: os.stat_result | None, waited: Open) -> Verdict:
        moment = MACHINE.monotonic()
        seen = times(info) if info else ()
        if moment - waited.since > LONGEST_SECONDS:
            return Verdict.ANYWAY
        if seen != waited.times:
            waited.times, waited.at = seen, moment
            return Verdict.WAIT
        if moment - waited.at < LOOK_SECONDS or (info and being_written(self._root, path)):
            return Verdict.WAIT
        return Verdict.WHOLE


def being_written(root: Path, path: str) -> bool | None:
    """Tell whether a process has this file open for writing; None when the kernel won't tell.

    The kernel grants a read lease only on a file that nobody writes to. It is given back at once;
    whoever opens the file meanwhile waits for that, and we get a signal that does nothing.
    """
    try:
        with opened(root, path) as file:
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None  # another user's file, a link, a file system without leases
    return False
