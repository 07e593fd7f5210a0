"""The API's sockets: had at the start, opened when everything is loaded."""

import socket
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog

from controller.clock import Clock
from controller.model.settings import Settings
from controller.serve import listening
from controller.serve.address import socket_path
from controller.store import Store

log = structlog.get_logger()


class Sockets:
    """The Unix socket, and the TCP address when one is configured."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bound: socket.socket | None = None

    def bind(self, stack: AsyncExitStack) -> None:
        """Take the TCP address: what can't be had is told at once, not when all is loaded.

        Raises:
            UsageError: see `listening.listen`.
        """
        if self._settings.listen is not None:
            self._bound = stack.enter_context(listening.listen(self._settings))

    async def open(
        self, stack: AsyncExitStack, doors: ModuleType, app: Any, store: Store, clock: Clock
    ) -> None:
        """Serve `app` on both; `doors` is the module of servers, which is imported late."""
        inner = doors.ApiServer(app, socket_path(Path(self._settings.state_dir)))
        await serve(inner, stack)
        log.info("listening", socket=str(inner.path))
        if self._bound is not None:
            gate = doors.Gate(app, store, clock, listening.names(self._settings))
            outer = doors.TcpServer(gate, self._bound, self._settings.tls)
            await serve(outer, stack)
            log.info("listening", address=outer.address)


async def serve(server: Any, stack: AsyncExitStack) -> None:
    await server.start()
    stack.push_async_callback(server.stop)
