"""The daemon's side of the keeper: starts it, watches it, has it start and end processes."""

import array
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from controller.errors import TransientError

MAIN = Path(__file__).with_name("keeper_main.py")
INLINE = 64 * 1024  # bytes of a message that fits a packet; larger ones go in a memory file
PACKET = 4096
PATIENCE_SECONDS = 10.0  # for a keeper that is sent away and still ends what it holds
SWEEPS, SWEEP_SECONDS = 200, 0.025  # rounds of killing, and the pause between two


class KeeperLostError(TransientError):
    """The keeper is gone, and with it every process it held."""

    def __init__(self) -> None:
        super().__init__("the keeper of local processes ended", reason="KeeperLost")


class Child:
    """One process (a session of its own) that the keeper holds."""

    def __init__(self, keeper: "Keeper", number: int, nonce: str) -> None:
        self._keeper = keeper
        self.nonce = nonce
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
        self._burials: set[asyncio.Task[None]] = set()

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
        self._lose()
        while self._burials:
            await asyncio.wait(self._burials)

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
        child = self._children[self._count] = Child(self, self._count, env.get("RONDEL_NONCE", ""))
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
        """The keeper is gone, or is sent away; its children are told once nothing is left."""
        if self._channel is None or self._process is None:
            return
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        task = asyncio.create_task(bury(self._process, list(self._children.values())))
        self._channel, self._process, self._children = None, None, {}
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)


async def bury(process: "subprocess.Popen[bytes]", children: Sequence[Child]) -> None:
    """Wait for the keeper's end, end what it left (it was killed), then tell who waits."""
    sessions = {child.started.result() for child in children if began(child)}
    nonces = {child.nonce for child in children if child.nonce}
    await asyncio.to_thread(end_left, process, sessions, nonces)
    for child in children:
        fail(child.started, KeeperLostError())
        fail(child.ended, KeeperLostError())


def began(child: Child) -> bool:
    return child.started.done() and child.started.exception() is None


def end_left(process: "subprocess.Popen[bytes]", sessions: set[int], nonces: set[str]) -> None:
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    sweep(nonces, sessions)


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


def sweep(nonces: set[str], sessions: Collection[int] = ()) -> int:
    """Kill what earlier attempts have left on this host; return how many processes that were.

    A keeper that outlived its daemon ends by itself; this catches what it could not. Returns when
    nothing marked is left, or after five seconds.

    Args:
        nonces: of the attempts; every process that has one in its environment is theirs.
        sessions: pids of first processes; each is the leader of a session of its own.
    """
    wanted = {f"RONDEL_NONCE={nonce}".encode() for nonce in nonces}
    killed: set[int] = set()
    for _ in range(SWEEPS):
        left = {pid for pid in processes() if marked(pid, wanted, sessions)}
        if not left:
            break
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= left
        time.sleep(SWEEP_SECONDS)
    return len(killed)


def processes() -> Iterator[int]:
    ours = os.getpid()
    entries = os.listdir("/proc")  # noqa: PTH208 - names are enough, of hundreds
    return (int(one) for one in entries if one.isdigit() and int(one) != ours)


def marked(pid: int, wanted: set[bytes], sessions: Collection[int]) -> bool:
    """Tell whether a living process is one of those; one not ours to read is not ours to end."""
    try:
        if sessions and os.getsid(pid) in sessions:
            return not is_zombie(pid)
        names = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if wanted else ()
    except OSError:
        return False
    return not wanted.isdisjoint(names)


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].startswith(b"Z")
