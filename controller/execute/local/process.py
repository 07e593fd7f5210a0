"""One process of this host: a child of the keeper with its two pipes."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from controller.execute.keeper import Child, Keeper
from controller.execute.local.streams import Stream
from controller.execute.local.workspace import Workspace
from controller.execute.ports import AttemptRequest, Output

NOT_FOUND, NOT_RUNNABLE = 127, 126  # exit codes, as a shell says it
TERM_GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL of a cancelled step
DRAIN_SECONDS = 2.0  # for what a step printed last; every process that could add to it is gone


@dataclass(frozen=True, slots=True)
class Host:
    """What processes are started with."""

    keeper: Keeper
    path: str  # the daemon's PATH
    user: tuple[int, int] | None  # None: the daemon's own

    @asynccontextmanager
    async def running(
        self, request: AttemptRequest, workspace: Workspace, output: Output
    ) -> AsyncIterator["Process"]:
        """Start the request's command; it is ended when the block is left before it."""
        streams = [Stream("stdout", output), Stream("stderr", output)]
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            child = await self.keeper.spawn(
                request.argv,
                env=workspace.environment(request, self.path),
                cwd=str(workspace.workdir(request)),
                stdin=null,
                stdout=streams[0].writer,
                stderr=streams[1].writer,
                user=self.user,
            )
        finally:
            os.close(null)
            for stream in streams:
                stream.close_writer()
        try:
            yield Process(child, streams, request.argv[0], output)
        finally:
            try:
                if not child.ended.done():
                    await end(child)
            finally:
                for stream in streams:
                    stream.close()


class Process:
    def __init__(self, child: Child, streams: list[Stream], command: str, output: Output) -> None:
        self._child = child
        self._streams = streams
        self._command = command
        self._output = output

    def terminate(self) -> None:
        """Ask it to end; who leaves its block waits for that."""
        self._child.terminate()

    async def wait(self) -> int:
        """Return the exit code once everything it has said is written.

        Raises:
            KeeperLostError: the keeper ended first.
        """
        try:
            code = await self._child.wait()
        except OSError as error:
            self._output.write("stderr", f"{self._command}: {error.strerror}\n".encode())
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
        for stream in self._streams:
            await stream.drained(DRAIN_SECONDS)
        return code


async def end(child: Child) -> None:
    """End a process politely, then surely; returns when it is gone."""
    child.terminate()
    waiting = asyncio.ensure_future(asyncio.wait([child.ended], timeout=TERM_GRACE_SECONDS))
    with suppress(asyncio.CancelledError):  # cancelled again: no more patience
        await asyncio.shield(waiting)
    child.kill()
    while not child.ended.done():
        await asyncio.wait([child.ended], timeout=1)
