"""Sessions of local runs; every process is a child of the keeper."""

import asyncio
import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from controller import environment, layout
from controller.errors import StalledError
from controller.execute.keeper import Child, Keeper
from controller.execute.local.streams import Stream
from controller.execute.local.workspace import Workspace
from controller.execute.ports import AttemptRequest, Outcome, Output, Session, Verdict
from controller.model.run import Run
from controller.model.workflow import Step, Workflow

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_FOUND, NOT_RUNNABLE = 127, 126  # exit codes, as a shell says it
TERM_GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL of a cancelled step
DRAIN_SECONDS = 2.0  # for what a step printed last; every process that could add to it is gone


class LocalExecutor:
    """Implements `execute.ports.Executor` with processes of this host."""

    name = "local"

    def __init__(
        self, *, state_dir: Path, user: str | None = None, path: str | None = None
    ) -> None:
        self._work = layout.work(state_dir)
        self._user = user_ids(user)
        self._path = path or environment.get("PATH") or STANDARD_PATH
        self.keeper = Keeper(self._path)

    def refusal(self, workflow: Workflow) -> tuple[str, str] | None:
        for step in workflow.every_step:
            if (problem := needs_dagger(step)) is not None:
                return "NeedsDagger", f"step {step.name!r}: {problem}; use the dagger executor"
        return None

    async def start(self) -> None:
        if self._user is not None:
            # Another user may not pass through the state directory, and never should.
            self._work = Path(tempfile.mkdtemp(prefix="rondel-work-"))
        await self.keeper.start()

    async def open(self, run: Run, workflow: Workflow) -> Session:
        del workflow
        folder = self._work / run.id
        folder.mkdir(parents=True, exist_ok=True)
        return LocalSession(folder, self.keeper, self._path, self._user)

    async def stop(self) -> None:
        await self.keeper.stop()
        if self._user is not None:
            await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)


def needs_dagger(step: Step) -> str | None:
    """Return what of a step this executor can't do."""
    for mount in step.mounts:
        if mount.path.startswith("/"):
            return f"the mount path {mount.path} is absolute"
    if step.workdir is not None and step.workdir.startswith("/"):
        return f"the workdir {step.workdir} is absolute"
    return None


def user_ids(user: str | None) -> tuple[int, int] | None:
    """Return the (uid, gid) that steps run as; None: the daemon's own.

    Raises:
        StalledError: no such user, or the daemon isn't root.
    """
    if user is None:
        return None
    if os.geteuid() != 0:
        raise StalledError(
            f"steps can run as {user!r} only when the daemon runs as root",
            where="local.user",
            reason="NotRoot",
        )
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise StalledError(
            f"no such user: {user!r}", where="local.user", reason="NoUser"
        ) from error
    return entry.pw_uid, entry.pw_gid


class LocalSession:
    """One run's processes; implements `execute.ports.Session`."""

    versions: Mapping[str, str] = {}

    def __init__(
        self, folder: Path, keeper: Keeper, path: str, user: tuple[int, int] | None
    ) -> None:
        self._folder = folder
        self._keeper = keeper
        self._path = path
        self._user = user
        self._clearing: set[asyncio.Task[None]] = set()

    async def attempt(self, request: AttemptRequest, output: Output) -> Outcome:
        place = f"{request.step}.{request.index}.{request.number}"
        workspace = Workspace(self._folder / place, self._user)
        try:
            if request.mounts:
                await asyncio.to_thread(workspace.prepare, request)
            else:
                workspace.prepare(request)
            code = await self._run(request, workspace, output)
            return Outcome(exit_code=code, collected=workspace.collect(request))
        finally:
            self._clear(workspace)

    async def _run(self, request: AttemptRequest, workspace: Workspace, output: Output) -> int:
        streams = [Stream("stdout", output), Stream("stderr", output)]
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            child = await self._keeper.spawn(
                request.argv,
                env=workspace.environment(request, self._path),
                cwd=str(workspace.workdir(request)),
                stdin=null,
                stdout=streams[0].writer,
                stderr=streams[1].writer,
                user=self._user,
            )
        finally:
            os.close(null)
            for stream in streams:
                stream.close_writer()
        try:
            return await self._wait(child, streams, request, output)
        finally:
            for stream in streams:
                stream.close()

    async def _wait(
        self, child: Child, streams: list[Stream], request: AttemptRequest, output: Output
    ) -> int:
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            await end(child)
            raise
        except OSError as error:
            output.write("stderr", f"{request.argv[0]}: {error.strerror}\n".encode())
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
        for stream in streams:
            await stream.drained(DRAIN_SECONDS)
        return code

    def _clear(self, workspace: Workspace) -> None:
        """Remove the workspace while the next step runs."""
        task = asyncio.create_task(asyncio.to_thread(workspace.remove))
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    async def close(self) -> None:
        if self._clearing:
            await asyncio.wait(self._clearing)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


async def end(child: Child) -> None:
    """End a process politely, then surely; returns when it is gone."""
    child.terminate()
    waiting = asyncio.ensure_future(asyncio.wait([child.ended], timeout=TERM_GRACE_SECONDS))
    with suppress(asyncio.CancelledError):  # cancelled again: no more patience
        await asyncio.shield(waiting)
    child.kill()
    while not child.ended.done():
        await asyncio.wait([child.ended], timeout=1)


__all__ = ["LocalExecutor", "LocalSession", "Verdict"]
