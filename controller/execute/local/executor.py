"""Sessions of local runs; every process is a child of the keeper."""

import asyncio
import os
import pwd
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from controller import environment, layout
from controller.errors import StalledError
from controller.execute.companions import WholeLines
from controller.execute.keeper import Keeper
from controller.execute.local import needs
from controller.execute.local.caches import Caches
from controller.execute.local.process import Host
from controller.execute.local.services import Ports, beside
from controller.execute.local.workspace import Workspace
from controller.execute.ports import AttemptRequest, Outcome, Output, Session, Verdict
from controller.model.run import Run
from controller.model.workflow import Workflow

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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
        self._host = Host(self.keeper, self._path, self._user)
        self._caches = Caches(state_dir, self._user)
        self._ports = Ports()
        self.up = True  # no engine is needed

    def refusal(self, workflow: Workflow) -> tuple[str, str] | None:
        for step in workflow.every_step:
            if (problem := needs.of_step(step, self._user)) is not None:
                return needs.REASON, f"step {step.name!r}: {problem}"
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
        return LocalSession(folder, self._host, self._caches, self._ports)

    async def stop(self) -> None:
        await self.keeper.stop()
        if self._user is not None:
            await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)


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

    def __init__(self, folder: Path, host: Host, caches: Caches, ports: Ports) -> None:
        self._folder = folder
        self._host = host
        self._caches = caches
        self._ports = ports
        self._spare: list[Path] = []  # places of attempts that left nothing
        self._clearing: set[asyncio.Task[None]] = set()

    async def resolve_image(self, image: str) -> str:
        return image  # recorded, not used

    async def attempt(self, request: AttemptRequest, output: Output) -> Outcome:
        place = self._folder / f"{request.step}.{request.index}.{request.number}"
        workspace = Workspace(place, self._host.user)
        problem = needs.of_request(request, self._host.user)
        if problem is not None:
            return Outcome(verdict=Verdict.STALLED, reason=needs.REASON, error=problem)
        try:
            async with self._caches.held(request.caches, output) as caches:
                await prepare(workspace, request, caches, self._take_spare())
                code = await self._run(request, workspace, output)
                workspace.let_go(request)
                return Outcome(exit_code=code, collected=workspace.collect(request))
        finally:
            self._clear(workspace)

    async def _run(self, request: AttemptRequest, workspace: Workspace, output: Output) -> int:
        if not request.services:
            async with self._host.running(request, workspace, output) as process:
                return await process.wait()
        lines = WholeLines(output)
        place = self._folder / f"{request.step}.{request.index}.{request.number}.services"
        try:
            async with (
                beside(self._host, self._ports, request, place, output) as services,
                self._host.running(request, workspace, lines) as process,
            ):
                return await services.outlast(process)
        finally:
            lines.flush()

    def _take_spare(self) -> Path | None:
        return self._spare.pop() if self._spare else None

    def _clear(self, workspace: Workspace) -> None:
        """Remove the workspace while the next step runs; one that is as new serves that step."""
        if workspace.is_as_new():
            self._spare.append(workspace.folder)
            return
        task = asyncio.create_task(asyncio.to_thread(workspace.remove))
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)

    async def close(self) -> None:
        if self._clearing:
            await asyncio.wait(self._clearing)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


async def prepare(
    workspace: Workspace,
    request: AttemptRequest,
    caches: Mapping[str, Path],
    spare: Path | None,
) -> None:
    """Furnish the workspace; beside the event loop where that copies files."""
    if request.mounts:
        await asyncio.to_thread(workspace.prepare, request, caches, spare)
    else:
        workspace.prepare(request, caches, spare)


__all__ = ["LocalExecutor", "LocalSession", "Verdict"]
