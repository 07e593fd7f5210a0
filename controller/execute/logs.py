"""An attempt's log: an append-only segment of JSON lines, scrubbed before the write.

A line is `{"time", "stream", "line"}`; `stream` is "stdout", "stderr", or null for Rondel's own
words. A log that grows over its limit keeps its first and its last part.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from controller import layout
from controller.clock import Clock
from controller.execute.scrub import Scrubber

LONGEST_LINE = 64 * 1024  # bytes; longer ones are cut into several
Line = Callable[[str | None, str, datetime], None]
"""Told of each line: stream, text, time."""


class LogSegment:
    """The live log of one attempt; implements `execute.ports.Output`."""

    def __init__(
        self,
        path: Path,
        *,
        scrubber: Scrubber,
        clock: Clock,
        max_size: int,
        on_line: Line | None = None,
    ) -> None:
        self.path = path
        self.truncated = False
        self._scrubber = scrubber
        self._clock = clock
        self._on_line = on_line
        self._partial: dict[str, bytes] = {}
        self._files = Halves(path, max_size)
        self._lost: OSError | None = None  # why the disk took no line of late
        self._missing = False

    def write(self, stream: str, data: bytes) -> None:
        """Take raw bytes; whole lines are written at once, the rest when it is whole."""
        *lines, rest = (self._partial.get(stream, b"") + data).split(b"\n")
        while self._too_long(rest):
            rest = self._scrubber.scrub(rest)
            if self._too_long(rest):  # still: what is cut off can't be the head of a secret
                lines.append(rest[:LONGEST_LINE])
                rest = rest[LONGEST_LINE:]
        self._partial[stream] = rest
        if lines:
            self._append(stream, lines)

    def _too_long(self, rest: bytes) -> bool:
        return len(rest) >= LONGEST_LINE + self._scrubber.longest

    def note(self, text: str) -> None:
        """Write Rondel's own words."""
        self._append(None, text.encode().split(b"\n"))

    def close(self) -> None:
        """Write what is left of unfinished lines; the segment stays."""
        for stream, rest in self._partial.items():
            if rest:
                self._append(stream, [rest])
        self._partial = {}
        self.truncated = self._files.close() or self._missing

    def _append(self, stream: str | None, lines: list[bytes]) -> None:
        now = self._clock.now()
        time = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = f'{{"time":"{time}","stream":{json.dumps(stream)},"line":'
        whole = self._scrubber.scrub(b"\n".join(lines)).split(b"\n")
        texts = [text for raw in whole for text in pieces(raw.removesuffix(b"\r"))]
        self._keep("".join([f"{head}{quoted(text)}}}\n" for text in texts]).encode(), time)
        if self._on_line is not None:
            for text in texts:
                self._on_line(stream, text, now)

    def _keep(self, data: bytes, time: str) -> None:
        """A disk that takes no more costs lines, and a word in their place; never the step."""
        try:
            if self._lost is not None:
                self._files.write(mark(time, f"the disk took none: {self._lost.strerror}"))
                self._lost = None
            self._files.write(data)
        except OSError as error:
            self._lost, self._missing = error, True


def mark(time: str | None, why: str) -> bytes:
    """Return the line that stands where lines are missing."""
    line = {"time": time, "stream": None, "line": f"... lines left out: {why} ..."}
    return json.dumps(line).encode() + b"\n"


def pieces(line: bytes) -> Iterator[str]:
    """Yield a line as text, in pieces when it is very long."""
    for start in range(0, max(len(line), 1), LONGEST_LINE):
        yield line[start : start + LONGEST_LINE].decode("utf-8", "replace")


quoted = json.encoder.encode_basestring  # a string's JSON, in C; json.dumps asks more first


class Halves:
    """A file's first half, then the newest two quarters of what follows, in files beside it."""

    def __init__(self, path: Path, max_size: int) -> None:
        self._path = path
        self._half = max_size // 2
        self._quarter = max_size // 4
        self._file: int | None = None  # opened by the first line: most steps of a chain say nothing
        self._size = 0
        self._in_tail = False
        self._dropped = False

    def write(self, data: bytes) -> None:
        """Append whole lines; a flood is taken in pieces, so that no part outgrows its limit."""
        while len(data) > self._quarter:
            cut = data.rfind(b"\n", 0, self._quarter) + 1 or data.find(b"\n") + 1
            if cut in {0, len(data)}:
                break  # one line
            self._write(data[:cut])
            data = data[cut:]
        self._write(data)

    def _write(self, data: bytes) -> None:
        limit = self._quarter if self._in_tail else self._half
        if self._file is not None and self._size + len(data) > limit:
            self._turn()
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = opened(layout.tail(self._path) if self._in_tail else self._path)
        self._append(self._file, data)
        self._size += len(data)

    def _append(self, handle: int, data: bytes) -> None:
        """Append all of it or, when the disk is full, nothing."""
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
        except OSError:
            os.ftruncate(handle, self._size)
            raise

    def _turn(self) -> None:
        """Begin the tail, or put its older quarter away."""
        assert self._file is not None  # noqa: S101 - `write` has opened it
        os.close(self._file)
        self._file, self._size = None, 0
        if self._in_tail:
            self._dropped = older(self._path).exists() or self._dropped
            layout.tail(self._path).replace(older(self._path))
        self._in_tail = True

    def close(self) -> bool:
        """Join the parts into one file; return whether something was dropped."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._in_tail:
            self._dropped = join(self._path, dropped=self._dropped) or self._dropped
        return self._dropped


def opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def older(path: Path) -> Path:
    return path.with_suffix(".older")


def join(path: Path, *, dropped: bool) -> bool:
    """Append the tail's parts to the first half, with a mark where lines are missing.

    Returns whether the disk had no room for them: the first half is what is left then.
    """
    size = path.stat().st_size
    parts = [part for part in (older(path), layout.tail(path)) if part.exists()]
    try:
        with path.open("ab") as whole:
            if dropped:
                whole.write(mark(time_of_last(path), "over logs.maxSize"))
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole, 1 << 20)
    except OSError:
        os.truncate(path, size)
        return True
    finally:
        for part in parts:
            part.unlink()
    return False


def time_of_last(path: Path) -> str | None:
    """Return the time of a segment's last whole line."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * LONGEST_LINE))
        lines = file.read().splitlines()
    return parsed(lines[-1].decode("utf-8", "replace"))["time"] if lines else None


def mend(path: Path) -> bool:
    """Join the parts of a segment that nobody closed; return whether lines may be missing."""
    dropped = older(path).exists()
    if dropped or layout.tail(path).exists():
        dropped = join(path, dropped=dropped) or dropped
    return dropped


def parsed(line: str) -> dict[str, str | None]:
    """Return a segment's line; one that a crash has broken is shown as it is."""
    try:
        found: dict[str, str | None] = json.loads(line)
    except ValueError:
        return {"time": None, "stream": None, "line": line.rstrip("\n")}
    return found
