"""What an attempt has said: live as it comes, and at its end what did not come live."""

import asyncio
import re
from collections.abc import Sequence

from controller.execute.ports import Output

LARGEST = 8 << 20  # bytes of a stream that are kept for comparing; beyond, live output is all
CAP = 100 * 1024  # bytes that the engine keeps of a failed command's stream: the last ones
OMITTING = re.compile(r"\[omitting (\d+) bytes\]\.\.\.")
DRAIN_SECONDS = 0.5  # for what is on its way, once the process has ended
LEFT_OUT = "... these lines did not come live:"
INCOMPLETE = "... some lines may be missing: over the size that can be asked for again ..."


class Stream:
    """One of the two streams of an attempt."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0  # bytes heard
        self.ended = False

    def hear(self, data: bytes) -> None:
        self.size += len(data)
        if self.comparable:
            self.chunks.append(data)
        else:
            self.chunks.clear()

    @property
    def comparable(self) -> bool:
        return self.size <= LARGEST


class Listener:
    """Writes each line once: first what is heard live, then what the engine says was left out.

    Live output is fast and may have holes: the engine drops a piece that is not valid UTF-8 by
    itself, as one cut inside a letter is.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._streams = {"stdout": Stream(), "stderr": Stream()}
        self._closed = False
        self.drained = asyncio.Event()

    @property
    def heard(self) -> int:
        """Bytes heard so far."""
        return sum(stream.size for stream in self._streams.values())

    @property
    def comparable(self) -> bool:
        return all(stream.comparable for stream in self._streams.values())

    def take(self, name: str, text: str, *, ended: bool) -> None:
        """Write a piece of live output, unless the rest was written already."""
        if self._closed:
            return
        stream = self._streams[name]
        if text:
            data = text.encode("utf-8", "replace")
            stream.hear(data)
            self._output.write(name, data)
        stream.ended = stream.ended or ended
        if all(one.ended for one in self._streams.values()):
            self.drained.set()

    async def drain(self) -> None:
        """Wait a moment for the end of both streams."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.drained.wait()
        except TimeoutError:
            return  # what is missing is written by `complete`

    async def complete(self, stdout: str, stderr: str) -> None:
        """Write what of the whole texts was not heard; nothing is taken any more after that."""
        if stdout and stderr and not self.drained.is_set():
            await self.drain()  # only what came live tells how two streams were mixed
        self._closed = True
        for name, whole in (("stdout", stdout), ("stderr", stderr)):
            self._complete(name, whole)

    def give_up(self) -> None:
        """Take nothing any more, and say that the live output is all there is."""
        self._closed = True
        self._output.note(INCOMPLETE)

    def _complete(self, name: str, whole: str) -> None:
        stream = self._streams[name]
        cut = OMITTING.match(whole)
        if cut and stream.size:
            # The text's beginning is cut off: it can't be laid beside what was heard.
            if stream.size < int(cut[1]) + CAP:
                self._output.note(INCOMPLETE)
            return
        holes, rest = unheard(whole.encode("utf-8", "replace"), stream.chunks)
        if rest:
            self._output.write(name, rest)  # first: it may end the line that was heard last
        if holes:
            if not whole.endswith("\n"):
                self._output.write(name, b"\n")
            self._output.note(LEFT_OUT)
            self._output.write(name, b"".join(holes))


def unheard(whole: bytes, chunks: Sequence[bytes]) -> tuple[list[bytes], bytes]:
    """Return the holes between the chunks, in whole lines, and what follows the last one.

    The chunks are pieces of `whole` in its order. The engine trims the text of a failed command,
    so a chunk may end in white space that `whole` doesn't have.
    """
    holes, position = [], 0
    for chunk in chunks:
        start, length = found(whole, chunk, position)
        if start < 0:
            continue
        if start > position:
            holes.append(lines_around(whole, position, start))
        position = start + length
    return holes, whole[position:]


def found(whole: bytes, chunk: bytes, position: int) -> tuple[int, int]:
    """Return where the chunk stands in `whole`, and its length there; -1 when it doesn't."""
    start = whole.find(chunk, position)
    if start >= 0:
        return start, len(chunk)
    trimmed = chunk.rstrip()
    return (whole.find(trimmed, position), len(trimmed)) if trimmed else (position, 0)


def lines_around(whole: bytes, start: int, end: int) -> bytes:
    """Return the lines that the hole is part of, whole: half a line tells nobody anything.

    Where it begins within a line, what came live behind it was joined to that line's first half:
    the line there is told again too.
    """
    first = whole.rfind(b"\n", 0, start) + 1
    last = whole.find(b"\n", end if first < start else end - 1)
    return whole[first : len(whole) if last < 0 else last + 1]
