"""git as a process: a fixed argument vector, a clean environment, a time limit for the group.

docs/decisions/0004-git-processes.md says why no library stands in between.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from controller import environment
from controller.errors import StalledError, TransientError

CONFIG = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "protocol.ext.allow=never"),
    *("-c", "transfer.fsckObjects=true"),
    *("-c", "gc.auto=0"),  # it would outlive its command; `Mirror.tidy` calls it
    *("-c", "maintenance.auto=false"),
    *("-c", "gc.cruftPacks=true"),  # what nothing holds any more is not one file for each object
    *("-c", "credential.helper="),
    *("-c", "core.bigFileThreshold=8m"),  # what is larger is passed on in pieces
    *("-c", "core.alternateRefsCommand="),
    *("-c", "safe.directory=*"),  # whose a repository is, is asked before git is
)
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",  # but where a command says which
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
    "HOME": "/nonexistent",
}
PASSED_ON = ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")  # of our environment
MOST_OUTPUT = 64 << 20  # bytes: some 700,000 files of a tree, or as many refs
MOST_WORDS = 64 << 10  # of what it says of its troubles, the last
CHUNK = 1 << 18
CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "?")
Stream = int | IO[bytes]


class GitError(Exception):
    """git ended with an error; `text` is its own words or the remote's, fit for a terminal."""

    def __init__(self, command: str, text: str) -> None:
        text = text.replace("\r\n", "\n").translate(CONTROLS)  # ssh ends its lines so
        super().__init__(f"git {command}: {text}")
        self.command, self.text = command, text


@cache
def git_path() -> str:
    """Return git's own path. Raises StalledError (GitMissing)."""
    path = shutil.which("git")
    if path is None:
        raise StalledError("git is not installed", reason="GitMissing", remedy="install git")
    return path


def clean(env: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: text for name in PASSED_ON if (text := environment.get(name)) is not None}
    return {"PATH": os.defpath, **kept, **ENVIRONMENT, **(env or {})}


@asynccontextmanager
async def started(
    arguments: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str] | None = None,
    stdin: Stream = asyncio.subprocess.DEVNULL,
    stdout: Stream = asyncio.subprocess.PIPE,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run git on the repository `folder`; its whole process group ends with the block."""
    words = (git_path(), *CONFIG, f"--git-dir={folder}", *arguments)
    async with spawned(words, env=clean(env), stdin=stdin, stdout=stdout) as process:
        yield process


@asynccontextmanager
async def spawned(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    stdin: Stream = asyncio.subprocess.DEVNULL,
    stdout: Stream = asyncio.subprocess.PIPE,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program with this environment alone; its process group ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *words,
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    except BaseException:
        kill(process)
        raise
    finally:
        if process.returncode is None:
            kill(process)
        await asyncio.shield(ended(process))


async def ended(process: asyncio.subprocess.Process) -> None:
    """Wait for a process that ends; what is left in a pipe would keep its end from being seen."""
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(CHUNK):
            pass
    await process.wait()


def kill(process: asyncio.subprocess.Process) -> None:
    """End every process of git's group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def git(
    arguments: Sequence[str],
    *,
    folder: Path,
    seconds: float,
    env: Mapping[str, str] | None = None,
    data: bytes | None = None,
) -> bytes:
    """Return what git prints.

    Raises:
        GitError: it said no; `text` is what it said.
        StalledError: TooLarge, it prints more than we hold.
        TransientError: FetchTimeout, it took longer than `seconds`.
    """
    stdin = asyncio.subprocess.DEVNULL if data is None else asyncio.subprocess.PIPE
    try:
        async with (
            asyncio.timeout(seconds),
            started(arguments, folder=folder, env=env, stdin=stdin) as process,
        ):
            output, error = await said(process, data)
    except TimeoutError:
        raise TransientError(
            f"git {arguments[0]} took over {seconds:g} s", reason="FetchTimeout"
        ) from None
    if process.returncode != 0:
        raise GitError(arguments[0], error.decode("utf-8", "replace").strip())
    return output


async def said(process: asyncio.subprocess.Process, data: bytes | None) -> tuple[bytes, bytes]:
    """Return what a process prints, and the end of what it complains of."""
    assert process.stdout is not None  # noqa: S101 - `started` makes both
    assert process.stderr is not None  # noqa: S101 - as above
    tasks = (
        asyncio.ensure_future(whole(process.stdout)),
        asyncio.ensure_future(ending(process.stderr)),
        asyncio.ensure_future(fed(process, data)),
    )
    await together(*tasks)
    await process.wait()
    return tasks[0].result(), tasks[1].result()


async def together(*tasks: asyncio.Future[Any]) -> None:
    """Wait for all; when one fails, end the others first."""
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise


async def whole(stream: asyncio.StreamReader) -> bytes:
    """Return all of it. Raises StalledError (TooLarge): a repository may print without end."""
    pieces = bytearray()
    while chunk := await stream.read(CHUNK):
        pieces += chunk
        if len(pieces) > MOST_OUTPUT:
            raise StalledError(
                f"git prints over {MOST_OUTPUT >> 20} MiB: too many files or refs",
                reason="TooLarge",
                remedy="split the repository",
            )
    return bytes(pieces)


async def ending(stream: asyncio.StreamReader) -> bytes:
    pieces = bytearray()
    while chunk := await stream.read(CHUNK):
        pieces += chunk
        del pieces[:-MOST_WORDS]
    return bytes(pieces)


async def fed(process: asyncio.subprocess.Process, data: bytes | None) -> None:
    if data is None or process.stdin is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def commit_of(ref: str, *, folder: Path, seconds: float) -> str:
    """Return the commit of a ref or an id of the repository `folder`.

    Raises:
        GitError: there is none.
        TransientError: FetchTimeout.
    """
    words = ("rev-parse", "--verify", "--end-of-options", ref + "^{commit}")
    return (await git(words, folder=folder, seconds=seconds)).decode().strip()
