"""`dagger session` as a process of the keeper's: our deadline, our kill, a clean environment."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from controller import environment
from controller.errors import StalledError, TransientError
from controller.execute.keeper import Child, Keeper
from controller.model.settings import DaggerSettings

RUNNER_HOST = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
CLI_VARIABLE = "_EXPERIMENTAL_DAGGER_CLI_BIN"
VERSION_SECONDS = 10.0
END_SECONDS = 10.0  # for a polite end, once its standard input is closed
VERSION = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+\S*")
LOG = "cli.log"
EMPTY = "empty"  # where it runs: a module's function can read the whole of that folder
TAIL = 2000  # bytes of its last words
START_IT = f"start the engine, or correct {RUNNER_HOST} or `engines`"
# What the command needs to reach an engine in a container, a cluster, or behind its own TLS.
PASSED = (
    "DOCKER_CERT_PATH",
    "DOCKER_CONTEXT",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "KUBECONFIG",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a session answers."""

    port: int
    token: str


class Command:
    """One running `dagger session`. Closing its standard input ends the session."""

    def __init__(self, child: Child, folder: Path, *, stdin: int, stdout: int) -> None:
        self._child = child
        self._folder = folder
        self._stdin: int | None = stdin
        self._stdout: int | None = stdout

    @property
    def alive(self) -> bool:
        return not self._child.ended.done()

    async def address(self) -> Address:
        """Wait for the first line and return what it says; to be asked once.

        Nothing but the caller bounds it: with the engine down the command is silent for minutes.

        Raises:
            TransientError: EngineUnavailable.
        """
        assert self._stdout is not None  # noqa: S101 - asked once
        descriptor, self._stdout = self._stdout, None
        line = await first_line(descriptor)
        try:
            return read_address(line)
        except (ValueError, KeyError, TypeError) as error:
            words = self.last_words() or "the dagger command said nothing"
            raise TransientError(
                f"the Dagger engine can't be reached: {words}",
                reason="EngineUnavailable",
                remedy=START_IT,
            ) from error

    async def ended(self) -> None:
        """Return when the process is gone."""
        await asyncio.wait([self._child.ended])

    def last_words(self) -> str:
        return last_words(self._folder)

    async def close(self) -> None:
        """End it politely, then surely."""
        for descriptor in (self._stdin, self._stdout):
            if descriptor is not None:
                os.close(descriptor)
        self._stdin = self._stdout = None
        await asyncio.wait([self._child.ended], timeout=END_SECONDS)
        if self.alive:
            self._child.kill()
            await asyncio.wait([self._child.ended], timeout=END_SECONDS)


def find_cli(settings: DaggerSettings) -> str:
    """Return the dagger command's path. Raises StalledError (DaggerMissing)."""
    named = environment.get(CLI_VARIABLE) if settings.cli == "dagger" else None
    found = shutil.which(named or settings.cli)
    if found is None:
        raise StalledError(
            f"there is no command {named or settings.cli!r}",
            reason="DaggerMissing",
            remedy="install the dagger command, or name it by `cli` in dagger.yaml",
        )
    return found


def clean_environment(settings: DaggerSettings, folder: Path) -> Mapping[str, str]:
    """Return all that the command sees: nothing of the daemon's own, and no secret."""
    engine = settings.engines[0] if settings.engines else environment.get(RUNNER_HOST)
    return {
        **{name: value for name in PASSED if (value := environment.get(name))},
        "PATH": environment.get("PATH") or os.defpath,
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "DAGGER_NO_UPDATE_CHECK": "1",
        "DAGGER_SILENT": "1",
        "DO_NOT_TRACK": "1",
        **({RUNNER_HOST: engine} if engine else {}),
    }


async def cli_version(keeper: Keeper, settings: DaggerSettings) -> str:
    """Return what the command says its version is, "" when it doesn't.

    Raises:
        StalledError: DaggerMissing.
    """
    read, write = os.pipe2(os.O_CLOEXEC)
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        child = await keeper.spawn(
            [find_cli(settings), "version"],
            env=clean_environment(settings, Path(os.devnull)),
            cwd="/",
            stdin=nowhere,
            stdout=write,
            stderr=nowhere,
        )
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
        os.close(nowhere)
    try:
        line = await first_line(read, VERSION_SECONDS)
    finally:
        child.kill()
    found = VERSION.search(line.decode("utf-8", "replace"))
    return found[0] if found else ""


async def start(keeper: Keeper, settings: DaggerSettings, folder: Path, nonce: str) -> Command:
    """Start a session's process.

    Raises:
        StalledError: DaggerMissing.
        TransientError: KeeperLost.
    """
    argv = [find_cli(settings), "--silent", "session"]
    workspace = folder / EMPTY
    workspace.mkdir(mode=0o700)
    env = {**clean_environment(settings, folder), "RONDEL_NONCE": nonce}
    with ExitStack() as theirs, ExitStack() as ours:
        stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
        theirs.callback(os.close, stdin_read)
        ours.callback(os.close, stdin_write)
        stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
        theirs.callback(os.close, stdout_write)
        ours.callback(os.close, stdout_read)
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        theirs.callback(os.close, log)
        child = await keeper.spawn(
            argv, env=env, cwd=str(workspace), stdin=stdin_read, stdout=stdout_write, stderr=log
        )
        ours.pop_all()
        return Command(child, folder, stdin=stdin_write, stdout=stdout_read)


def last_words(folder: Path) -> str:
    """Return the end of what the command of a session's folder has said, "" for nothing."""
    try:
        return (folder / LOG).read_bytes()[-TAIL:].decode("utf-8", "replace").strip()
    except OSError:
        return ""


def read_address(line: bytes) -> Address:
    """Return what the first line says. Raises ValueError, KeyError, TypeError: it isn't one."""
    told = json.loads(line)
    return Address(int(told["port"]), str(told["session_token"]))


async def first_line(descriptor: int, seconds: float | None = None) -> bytes:
    """Return the first line that comes through a pipe, b"" when none does; close the pipe."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        async with asyncio.timeout(seconds):
            return await reader.readline()
    except TimeoutError:
        return b""
    finally:
        transport.close()
