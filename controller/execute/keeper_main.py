"""The keeper: the parent of every process a step starts. Standard library only, run by -I -S.

It is told what to start over a socket and says when it ended. When a step's process ends, every
descendant is ended with it, also one that forked twice or called setsid; when the socket closes,
because the daemon is gone, everything is. It is a child subreaper, so what loses its parent
becomes its child and can be found.

Messages are JSON, one a packet. In: {"op": "spawn", "id", "argv", "env", "cwd", "uid", "gid"} with
three descriptors (stdin, stdout, stderr), larger ones in a memory file that is a fourth;
{"op": "signal", "id", "signal"}: to all of a step; {"op": "end", "id"}: end all of it now.
Out: {"id", "pid"}; {"id", "status"}: as wait() gives it; {"id", "errno"}: it could not be started.
"""

import array
import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
PACKET = 256 * 1024
NONCE = b"RONDEL_NONCE="
STANDARD = 3  # stdin, stdout, stderr
INT = 4  # bytes
NOT_FOUND, NOT_RUNNABLE = 127, 126  # exit codes, as a shell says it
Message = dict[str, Any]
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # it ends with the daemon, not beside it
INHERITED = tuple(  # of who started the daemon: `nohup rondel serve &` ignores SIGQUIT
    one for one in signal.valid_signals() if signal.getsignal(one) is signal.SIG_IGN
)
OURS = {*IGNORED, *INHERITED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ}
"""What a step has as usual, whatever it is here."""
SWEEPS = 200  # rounds of killing before giving up on a process that can't die (stuck in the kernel)


class Step:
    """One started process, a session of its own."""

    def __init__(self, number: int, pid: int, nonce: bytes) -> None:
        self.number = number
        self.pid = pid
        self.nonce = nonce


class Keeper:
    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.steps: dict[int, Step] = {}  # pid of the first process -> Step
        self.by_number: dict[int, Step] = {}
        # pid of an orphan without marks -> pids of the steps that ran when it was first seen
        self.strays: dict[int, set[int]] = {}

    def run(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        poll.register(reader, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == reader:
                    os.read(reader, 4096)
                    self.reap()
                elif not self.receive():
                    self.end_everything()
                    return

    # What the daemon says.

    def receive(self) -> bool:
        """Take one message; false when the daemon is gone."""
        room = socket.CMSG_SPACE((STANDARD + 1) * INT)
        data, extra, _, _ = self.channel.recvmsg(PACKET, room, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return False
        descriptors: array.array[int] = array.array("i")
        for level, kind, payload in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(payload[: len(payload) - len(payload) % INT])
        try:
            if len(descriptors) > STANDARD:
                data = read_whole(descriptors[STANDARD])
            self.obey(json.loads(data), descriptors[:STANDARD])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def obey(self, message: Message, descriptors: Sequence[int]) -> None:
        number = message["id"]
        if message["op"] == "spawn":
            self.spawn(number, message, descriptors)
        elif number in self.by_number:
            step = self.by_number[number]
            if message["op"] == "signal":
                for pid in [step.pid, *self.family(step)]:
                    send(pid, message["signal"])
            else:
                self.end(step)

    def spawn(self, number: int, message: Message, descriptors: Sequence[int]) -> None:
        try:
            pid = start(message, descriptors)
        except OSError as error:
            self.say({"id": number, "errno": error.errno or errno.EIO})
            return
        except (ValueError, IndexError):  # a zero byte, a name with "=", nothing to run
            self.say({"id": number, "errno": errno.EINVAL})
            return
        step = Step(number, pid, message["env"].get("RONDEL_NONCE", "").encode())
        self.steps[pid] = self.by_number[number] = step
        self.say({"id": number, "pid": pid})

    def say(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # the daemon is gone; the next read says so
            self.channel.send(json.dumps(message).encode())

    # What ends.

    def reap(self) -> None:
        ended = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self.strays.pop(pid, None)
            if pid in self.steps:
                ended.append((self.steps[pid], status))
        for step, status in ended:
            self.settle(step, status)

    def settle(self, step: Step, status: int) -> None:
        """The step's own process has ended: so does everything it has left behind."""
        del self.steps[step.pid], self.by_number[step.number]
        if self.orphans():  # most steps leave none, and one look tells
            self.end_family(step)
            self.end_strays()
        else:
            self.strays = {}
        self.say({"id": step.number, "status": status})

    def end(self, step: Step) -> None:
        """End all of a step now; its own process is reaped as any other."""
        send(step.pid, signal.SIGKILL)
        for pid in self.family(step):
            send(pid, signal.SIGKILL)

    def end_family(self, step: Step) -> None:
        for _ in range(SWEEPS):
            family = self.family(step)
            if not family:
                return
            for pid in family:
                send(pid, signal.SIGKILL)
            self.reap_strangers()
            select.select([], [], [], 0.002)

    def reap_strangers(self) -> None:
        """Collect what was killed, but leave the first processes of other steps to `reap`."""
        for pid in children(os.getpid()):
            if pid not in self.steps:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def orphans(self) -> list[int]:
        """Return the children of ours that are no step's first process."""
        return [pid for pid in children(os.getpid()) if pid not in self.steps]

    def family(self, step: Step) -> list[int]:
        """Return every process that belongs to a step, but its first."""
        found = descendants(step.pid) if step.pid in self.steps else []
        for pid in children(os.getpid()):
            if pid not in self.steps and self.belongs(pid, step):
                found += [pid, *descendants(pid)]
        return found

    def belongs(self, pid: int, step: Step) -> bool:
        """Orphans come to the keeper: by session, process group or nonce they name their step."""
        try:
            if os.getsid(pid) == step.pid or os.getpgid(pid) == step.pid:
                return True
        except ProcessLookupError:
            return False
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                names = file.read().split(b"\0")
        except OSError:
            return False
        if any(name.startswith(NONCE) for name in names):
            return bool(step.nonce) and NONCE + step.nonce in names
        alive = self.strays.setdefault(pid, {*self.steps, step.pid})
        return alive == {step.pid}  # only one step can have been its origin

    def end_strays(self) -> None:
        """A stray without marks goes when every step that may have started it has ended."""
        orphans = self.orphans()
        # A pid that is no orphan any more may be another's by now: it is forgotten, never killed.
        self.strays = {pid: self.strays.get(pid, set(self.steps)) for pid in orphans}
        for pid, origins in self.strays.items():
            if not origins & set(self.steps):
                for one in [pid, *descendants(pid)]:
                    send(one, signal.SIGKILL)

    def end_everything(self) -> None:
        for _ in range(SWEEPS):
            left = descendants(os.getpid())
            if not left:
                return
            for pid in left:
                send(pid, signal.SIGKILL)
            self.steps = {}
            self.reap_strangers()
            select.select([], [], [], 0.002)


def read_whole(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0)


def start(message: Message, descriptors: Sequence[int]) -> int:
    """Start a process in a session of its own; posix_spawn has no working directory, we have."""
    env, argv = message["env"], message["argv"]
    os.chdir(message["cwd"])
    path = find(argv[0], env.get("PATH", ""))
    if message.get("uid") is not None:
        return start_as(message, path, descriptors)
    return os.posix_spawn(
        path,
        argv,
        env,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(descriptors)],
        setsid=True,
        setsigmask=[],
        setsigdef=OURS,
    )


def start_as(message: Message, path: str, descriptors: Sequence[int]) -> int:
    """As another user: fork, become them, exec."""
    pid = os.fork()
    if pid:
        return pid
    code = NOT_RUNNABLE
    try:
        become(message, descriptors)
        os.execve(path, message["argv"], message["env"])
    except FileNotFoundError:
        code = NOT_FOUND
    finally:
        os._exit(code)  # whatever went wrong: there must never be a second keeper


def become(message: Message, descriptors: Sequence[int]) -> None:
    os.setsid()
    for number, fd in enumerate(descriptors):
        os.dup2(fd, number)
    for one in OURS:
        signal.signal(one, signal.SIG_DFL)
    os.setgroups([])
    os.setgid(message["gid"])
    os.setuid(message["uid"])


def find(command: str, path: str) -> str:
    """Return the file that a command names, as a shell would find it.

    Raises:
        OSError: ENOENT, or EACCES when what was found may not be run.
    """
    if "/" in command:
        candidates = [command]
    else:
        candidates = [f"{folder}/{command}" for folder in path.split(":") if folder]
    refused = errno.ENOENT
    for candidate in candidates:
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            refused = errno.EACCES
    raise OSError(refused, os.strerror(refused))


def children(pid: int) -> list[int]:
    """Return the pids of a process's children, of all its threads."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
        except OSError:
            continue  # it ended meanwhile
    return found


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for child in found:  # grows while it is walked
        found += children(child)
    return found


def send(pid: int, number: int) -> None:
    # Gone, or become another user's: the kernel has the last word.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)  # a step that held it could speak for the keeper
    Keeper(channel).run()


if __name__ == "__main__":
    main()
