"""A step's output pipe, read on the event loop as it comes."""

import asyncio
import os

from controller.execute.ports import Output

CHUNK = 64 * 1024


class Stream:
    """One pipe: the step writes, we read; `output` gets the raw bytes."""

    def __init__(self, name: str, output: Output) -> None:
        self._name = name
        self._output = output
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._reader, self._read)

    def close_writer(self) -> None:
        """Our end of what the step writes to; without this the pipe would never end."""
        os.close(self.writer)

    def _read(self) -> None:
        try:
            data = os.read(self._reader, CHUNK)
        except BlockingIOError:
            return
        if data:
            self._output.write(self._name, data)
            return
        self._loop.remove_reader(self._reader)
        if not self._ended.done():
            self._ended.set_result(None)

    async def drained(self, seconds: float) -> None:
        """Wait for the pipe's end, `seconds` at most."""
        if not self._ended.done():
            await asyncio.wait([self._ended], timeout=seconds)

    def close(self) -> None:
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
