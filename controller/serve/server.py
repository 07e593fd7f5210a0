"""The API's server, inside the daemon's own loop, on a Unix socket that we bind ourselves."""

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

STOP_SECONDS = 3.0
MODE = 0o600


class ApiServer:
    """Serves the API until it is stopped."""

    def __init__(self, app: FastAPI, path: Path) -> None:
        self.path = path
        self._server = Embedded(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                date_header=False,  # it would be as old as the server: see `main_loop`
                lifespan="off",
                timeout_graceful_shutdown=2,
                http=peer_checked(),
            )
        )
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and serve. The folder is ours alone, so nobody else reaches the socket."""
        self._socket = bind(self.path)
        self._task = asyncio.create_task(
            self._server.serve(sockets=[self._socket]), name="api server"
        )
        await asyncio.wait(
            [self._task, asyncio.create_task(self._server.ready.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )

    async def stop(self) -> None:
        """Let requests end, bounded, and take the socket away."""
        self._server.should_exit = True
        self._server.ended.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_SECONDS)
            self._task.cancel()
        self.path.unlink(missing_ok=True)
        if self._socket is not None:
            self._socket.close()


class Embedded(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon has its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own loop looks for it ten times a second."""
        await self.on_tick(0)
        await self.ended.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    def capture_signals(self) -> Any:
        from contextlib import nullcontext  # noqa: PLC0415 - a stand-in for uvicorn's own

        return nullcontext()


def bind(path: Path) -> socket.socket:
    """Return a listening socket; one that a dead controller left is removed.

    The caller holds the serve lock, so a socket that is there belongs to nobody.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)  # noqa: FBT003 - the only way to say it
    made.bind(str(path))
    path.chmod(MODE)
    made.listen(128)
    return made


def peer_checked() -> Any:
    """Return uvicorn's HTTP protocol, refusing peers that are neither this user nor root."""
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415 - only in a server

    class PeerChecked(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            sock = transport.get_extra_info("socket")
            if sock is not None and peer_user(sock) not in {os.geteuid(), 0}:
                transport.abort()
                return
            super().connection_made(transport)

    return PeerChecked


def peer_user(sock: Any) -> int:
    """Return the user id at the other end of a Unix socket."""
    size = struct.calcsize("3i")
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, user, _ = struct.unpack("3i", data)
    return int(user)
