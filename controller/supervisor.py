"""What the program that started us is told of our state: systemd's sd_notify(3)."""

import asyncio
import os
import socket
from datetime import timedelta

import structlog

from controller import environment

log = structlog.get_logger()

ADDRESS = "NOTIFY_SOCKET"
WATCHDOG, WATCHED = "WATCHDOG_USEC", "WATCHDOG_PID"


class Supervisor:
    """systemd, where it has started us; else nobody, and nothing is told."""

    def __init__(self, address: str | None, patience: timedelta | None = None) -> None:
        """`address`: of a datagram socket, "@" for an abstract one; `patience`: the watchdog's."""
        self._address = address
        self._patience = patience

    @classmethod
    def found(cls) -> "Supervisor":
        """Return the one that the environment names."""
        watched = environment.get(WATCHED) in {None, str(os.getpid())}
        limit = environment.get(WATCHDOG) if watched else None
        patience = timedelta(microseconds=int(limit)) if limit else None
        return cls(environment.get(ADDRESS), patience)

    def tell(self, **state: str) -> None:
        """Tell it such as `READY="1", STATUS="10 workflows"`; when it is gone we go on."""
        if self._address is None:
            return
        text = "\n".join(f"{name}={value}" for name, value in state.items())
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(0)  # one that doesn't read must not hold us up
                out.sendto(text.encode(), address)
        except OSError as error:
            log.warning("supervisor_not_told", error=str(error), **state)

    async def keep_alive(self) -> None:
        """Say so twice in each of its patience, from the loop: one that hangs says nothing."""
        if self._patience is None:
            return
        while True:
            self.tell(WATCHDOG="1")
            await asyncio.sleep(self._patience.total_seconds() / 2)
