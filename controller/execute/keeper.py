"""The daemon's side of the keeper: starts it, watches it, has it start and end processes."""

import array
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.errors import TransientError

MAIN = Path(__file__).with_name("keeper_main.py")
INLINE = 64 * 1024  # bytes of a message that fits a packet; larger ones go in a memory file
PACKET = 4096


class KeeperLostError(TransientError):
    """The keeper is gone, and with it every process it held."""

    def __init__(self) -> None:
        super().__init__("the keeper of local processes ended", reason="KeeperLost")


class Child:
    """One process (a session of its own) that the keeper holds."""

    def __init__(self, keeper: "Keeper", number: int) -> None:
        self._keeper = keeper
        self._number = number
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[int] = loop.create_future()  # its pid
        self.ended: asyncio.Future[int] = loop.create_future()  # its exit code

    async def wait(self) -> int:
        """Return the exit code, 128 + n when a signal ended it.

        By then every descendant has been ended too.

        Raises:
            OSError: it could not be started.
            KeeperLostError: the keeper ended first.
        """
        return await asyncio.shield(self.ended)

    def terminate(self) -> None:
        """Ask it and its descendants to end (SIGTERM)."""
        self._keeper.send({"op": "signal", "id": self._number, "signal": int(signal.SIGTERM)})

    def kill(self) -> None:
        """End it and its descendants now."""
        self._keeper.send({"op": "end", "id": self._number})


class Keeper:
    """One keeper process for one instance; started anew when it was lost."""

    def __init__(self, path: str) -> None:
        self._path = path  # of commands, when a step's environment has none
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._children: dict[int, Child] = {}
        self._count = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the keeper, unless it runs."""
        if self._channel is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a fork, once in a daemon's life
                [sys.executable, "-I", "-S", str(MAIN), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={"PATH": self._path},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C at the daemon's terminal is not for it
                cwd="/",
            )
        ours.settimeout(0)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._receive)

    async def stop(self) -> None:
        """End every process and the keeper itself."""
        if self._channel is None or self._process is None:
            return
        process = self._process
        self._lose()
        await asyncio.to_thread(process.wait)

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        stdin: int,
        stdout: int,
        stderr: int,
        user: tuple[int, int] | None = None,
    ) -> Child:
        """Start a process; the descriptors may be closed when this returns.

        `RONDEL_NONCE` in `env` marks the process and its descendants.

        Raises:
            KeeperLostError: the keeper could not be told.
        """
        await self.start()
        self._count += 1
        uid, gid = user or (None, None)
        message = {
            "op": "spawn",
            "id": self._count,
            "argv": list(argv),
            "env": dict(env),
            "cwd": cwd,
            "uid": uid,
            "gid": gid,
        }
        child = self._children[self._count] = Child(self, self._count)
        child.ended.add_done_callback(observed)
        child.started.add_done_callback(observed)
        try:
            await self._tell(message, [stdin, stdout, stderr])
        except OSError as error:
            self._lose()
            raise KeeperLostError from error
        return child

    async def _tell(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        data = json.dumps(message).encode("utf-8", "surrogateescape")
        if len(data) <= INLINE:
            await self._send(data, descriptors)
            return
        memory = os.memfd_create("message")
        try:
            os.write(memory, data)
            await self._send(b"{}", [*descriptors, memory])
        finally:
            os.close(memory)

    async def _send(self, data: bytes, descriptors: list[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        while True:
            if self._channel is None:
                raise KeeperLostError
            try:
                self._channel.sendmsg([data], rights)
            except BlockingIOError:
                await asyncio.sleep(0.001)  # a thousand starts at once: the keeper is busy
            else:
                return

    def send(self, message: Mapping[str, Any]) -> None:
        """Tell the keeper something small; a keeper that is gone has nothing left to end."""
        if self._channel is None:
            return
        try:
            self._channel.send(json.dumps(message).encode())
        except BlockingIOError:
            asyncio.get_running_loop().call_later(0.005, self.send, message)
        except OSError:
            self._lose()

    def _receive(self) -> None:
        while self._channel is not None:
            try:
                data = self._channel.recv(PACKET)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._lose()
                return
            self._note(json.loads(data))

    def _note(self, message: Mapping[str, int]) -> None:
        child = self._children.get(message["id"])
        if child is None:
            return
        if "pid" in message:
            settle(child.started, message["pid"])
            return
        del self._children[message["id"]]
        if "status" in message:
            settle(child.ended, exit_code(message["status"]))
        else:
            error = OSError(message["errno"], os.strerror(message["errno"]))
            fail(child.started, error)
            fail(child.ended, error)

    def _lose(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel)
            channel.close()
        children, self._children = self._children, {}
        for child in children.values():
            fail(child.started, KeeperLostError())
            fail(child.ended, KeeperLostError())


def settle(future: "asyncio.Future[int]", value: int) -> None:
    if not future.done():
        future.set_result(value)


def fail(future: "asyncio.Future[int]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def observed(future: "asyncio.Future[int]") -> None:
    """An ending that nobody waits for any more is no defect."""
    if not future.cancelled():
        future.exception()


def exit_code(status: int) -> int:
    """Return what a shell would say: 128 + n when signal n ended it."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def sweep(nonces: set[str]) -> int:
    """Kill what earlier attempts have left on this host, found by their nonces; return how many.

    A keeper that outlived its daemon ends by itself; this catches what it could not.
    """
    wanted = {f"RONDEL_NONCE={nonce}".encode() for nonce in nonces}
    killed = 0
    for entry in Path("/proc").iterdir() if wanted else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and marked(entry, wanted):
            try:
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue  # it ended by itself
    return killed


def marked(entry: Path, wanted: set[bytes]) -> bool:
    try:
        names = (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone, or not ours to read: then not ours to end
    return not wanted.isdisjoint(names)
