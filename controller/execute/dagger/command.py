"""`dagger session` as a process of the keeper's: our deadline, our kill, a clean environment."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from controller import environment
from controller.errors import StalledError, TransientError
from controller.execute.keeper import Child, Keeper
from controller.model.settings import DaggerSettings

RUNNER_HOST = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
CLI_VARIABLE = "_EXPERIMENTAL_DAGGER_CLI_BIN"
OPEN_SECONDS = 30.0  # for the command's first line: with the engine down it would wait for minutes
VERSION_SECONDS = 10.0
END_SECONDS = 10.0  # for a polite end, once its standard input is closed
VERSION = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+\S*")
EMPTY = "empty"  # where it runs: a module's function can read the whole of that folder
TAIL = 2000  # bytes of its last words
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

    def __init__(self, child: Child, stdin: int, folder: Path) -> None:
        self._child = child
        self._stdin: int | None = stdin
        self._folder = folder

    @property
    def alive(self) -> bool:
        return not self._child.ended.done()

    async def ended(self) -> None:
        """Return when the process is gone."""
        await asyncio.wait([self._child.ended])

    def last_words(self) -> str:
        try:
            return (
                (self._folder / "cli.log").read_bytes()[-TAIL:].decode("utf-8", "replace").strip()
            )
        except OSError:
            return ""

    async def close(self) -> None:
        """End it politely, then surely."""
        if self._stdin is not None:
            os.close(self._stdin)
            self._stdin = None
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
    line = await first_line(read, VERSION_SECONDS)
    child.kill()
    found = VERSION.search(line.decode("utf-8", "replace"))
    return found[0] if found else ""


async def start(
    keeper: Keeper, settings: DaggerSettings, folder: Path, nonce: str
) -> tuple[Command, Address]:
    """Start a session's process and wait for its address.

    Raises:
        StalledError: DaggerMissing.
        TransientError: EngineUnavailable.
    """
    argv = [find_cli(settings), "--silent", "session"]
    workspace = folder / EMPTY
    workspace.mkdir(mode=0o700)
    env = {**clean_environment(settings, folder), "RONDEL_NONCE": nonce}
    stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
    stdout_read, stdout_write = os.pipe2(os.O_CLOEXEC)
    log = os.open(folder / "cli.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = await keeper.spawn(
            argv, env=env, cwd=str(workspace), stdin=stdin_read, stdout=stdout_write, stderr=log
        )
    finally:
        for descriptor in (stdin_read, stdout_write, log):
            os.close(descriptor)
    command = Command(child, stdin_write, folder)
    try:
        return command, await address(command, stdout_read)
    except BaseException:
        await command.close()
        raise


async def address(command: Command, descriptor: int) -> Address:
    """Return what the first line says, within our own deadline."""
    line = await first_line(descriptor, OPEN_SECONDS)
    try:
        told = json.loads(line)
        return Address(int(told["port"]), str(told["session_token"]))
    except (ValueError, KeyError, TypeError) as error:
        words = command.last_words() or "it said nothing"
        raise TransientError(
            f"the Dagger engine can't be reached: {words}",
            reason="EngineUnavailable",
            remedy=f"start the engine, or correct {RUNNER_HOST} or `engines`",
        ) from error


async def first_line(descriptor: int, seconds: float) -> bytes:
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
