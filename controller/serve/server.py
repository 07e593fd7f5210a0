"""The API's server, inside the daemon's own loop, on sockets that we bind ourselves."""

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Any

import uvicorn

from controller.model.settings import Tls
from controller.serve.who import from_peer

STOP_SECONDS = 3.0
MODE = 0o600
CONNECTIONS = 512  # to the TCP address, at once
HEAD_SECONDS = 15.0  # for a first request there; uvicorn itself waits for ever


class Server:
    """Serves an app on one bound socket until it is stopped."""

    def __init__(self, app: Any, bound: socket.socket, **options: Any) -> None:
        self._server = Embedded(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                date_header=False,  # it would be as old as the server: see `main_loop`
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,  # nobody says who a peer is but the kernel
                timeout_graceful_shutdown=2,
                **options,
            )
        )
        self._socket = bound
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve from now on."""
        self._task = asyncio.create_task(
            self._server.serve(sockets=[self._socket]), name="api server"
        )
        await asyncio.wait(
            [self._task, asyncio.create_task(self._server.ready.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )

    async def stop(self) -> None:
        """Let requests end, bounded."""
        self._server.should_exit = True
        self._server.ended.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_SECONDS)
            self._task.cancel()
        self._socket.close()


class ApiServer(Server):
    """On the Unix socket. The folder is ours alone, so nobody else reaches it."""

    def __init__(self, app: Any, path: Path) -> None:
        self.path = path
        super().__init__(app, bind(path), http=peer_checked())

    async def stop(self) -> None:
        """Let requests end, bounded, and take the socket away."""
        await super().stop()
        self.path.unlink(missing_ok=True)


class TcpServer(Server):
    """On a TCP address, with TLS when there is a certificate."""

    def __init__(self, app: Any, bound: socket.socket, tls: Tls | None) -> None:
        secured = {"ssl_certfile": tls.cert, "ssl_keyfile": tls.key} if tls else {}
        super().__init__(app, bound, http=impatient(), limit_concurrency=CONNECTIONS, **secured)
        host, port = bound.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{'https' if tls else 'http'}://{shown}:{port}"


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
            user = peer_user(transport.get_extra_info("socket"))
            if user not in {os.geteuid(), 0}:
                transport.abort()
                return
            self.app = from_peer(self.app, user)
            super().connection_made(transport)

    return PeerChecked


def impatient() -> Any:
    """Return uvicorn's HTTP protocol, closing connections that never ask for anything."""
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415 - only in a server

    class Impatient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(HEAD_SECONDS, self.give_up)

        def give_up(self) -> None:
            if self.cycle is None:  # no request was read
                self.transport.close()  # type: ignore[unreachable]  # uvicorn hides that it may be None

    return Impatient


def peer_user(sock: Any) -> int:
    """Return the user id at the other end of a Unix socket."""
    size = struct.calcsize("3i")
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, user, _ = struct.unpack("3i", data)
    return int(user)
