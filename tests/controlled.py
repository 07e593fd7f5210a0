"""A controller in this process that looks only when it is told to, and is asked what became of it."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from controller.daemon import Daemon
from controller.model.condition import find
from controller.model.run import Run
from controller.model.settings import GitSource, Settings
from tests.source_places import LONG, PATIENCE, Repository, serving

NOBODY = ("", "")
"""A key of no workflow."""


class Controlled:
    """A controller of one repository over HTTP, that looks only when it is told to."""

    def __init__(self, daemon: Daemon, repository: Repository) -> None:
        self.daemon = daemon
        self.repository = repository

    async def commit(self, *gone: str, **files: str) -> None:
        """Commit the work tree without `gone`, with `files`; return when all of it has happened."""
        for path in gone:
            (self.repository.folder / path).unlink()
        self.repository.commit(**files)
        await self.look()

    async def look(self, source: str = "ops") -> Any:
        requests = self.daemon._requests()
        status = await requests.reconciled(source, requests.reconcile(source), 20)
        assert status is not None
        await self.settled()
        return status

    async def settled(self) -> None:
        """Return when every pass that was asked for is over, and every run that may start."""
        async with asyncio.timeout(PATIENCE):
            await self.passed_over()
            while self.busy():
                await asyncio.sleep(0.01)
                await self.passed_over()

    async def passed_over(self) -> None:
        """Return when what the planner had to look at has been looked at.

        It takes all keys at once and comes back for more when it is done with them: when it has
        taken NOBODY for the second time, the pass with the first one is over.
        """
        reconciler = self.daemon._reconciler
        for _ in range(2):
            reconciler.enqueue([NOBODY])
            while NOBODY in reconciler._queue._ready:
                await asyncio.sleep(0.005)

    def busy(self) -> bool:
        """Tell whether a run waits or runs, or has ended and is not let go of yet."""
        unfinished = self.daemon._observations.unfinished()
        held = {run.id for run in unfinished if self.is_held(run)}
        ours = {run.id for run in unfinished} | self.daemon._dispatcher._tasks.keys()
        return bool(ours - held)

    def is_held(self, run: Run) -> bool:
        """Tell whether a run waits for something that the test has to do."""
        return run.workflow.startswith("held")

    async def runs(self, name: str, source: str = "ops") -> list[Run]:
        found = await self.daemon.store.read(lambda r: r.runs(source=source, workflow=name))
        return sorted(found, key=lambda run: run.created_at)

    def status(self, name: str, source: str = "ops") -> Any:
        return self.daemon._observations.status((source, name))

    def source(self, name: str = "ops") -> Any:
        return next(one for one in self.daemon._loading.sources() if one.name == name)

    def numbers(self, name: str) -> tuple[int, int]:
        return self.status(name).generation, self.status(name).change

    def ready(self, name: str) -> str:
        found = standing(self.status(name).conditions, "Ready")
        assert found is not None
        return f"{found.status} {found.message}".strip()

    async def events(self, name: str) -> list[str]:
        found = await self.daemon.store.read(lambda r: r.events(source="ops", workflow=name))
        return [one.reason for one in found if not one.run]

    async def retired(self) -> set[str]:
        found = await self.daemon.store.read(lambda r: r.workflows(retired=True))
        return {one.name for one in found if one.retired}


def standing(conditions: Any, type_: str) -> Any:
    """Return a condition whose fields a test may name without asking whether it is there."""
    return find(conditions, type_)


def source(url: str, name: str = "ops", **more: Any) -> GitSource:
    return GitSource(name=name, url=url, trusted=True, **({"interval": LONG} | more))


@asynccontextmanager
async def controlling(tmp_path: Path, repository: Repository, **more: Any) -> Any:
    """Serve a repository over HTTP to a controller; `more` is said of its source."""
    with serving(tmp_path) as server:
        own = source(server.url("repository/.git"), **more)
        async with daemon_of(tmp_path, own) as daemon:
            made = Controlled(daemon, repository)
            await made.settled()
            yield made


@asynccontextmanager
async def daemon_of(tmp_path: Path, *sources: GitSource) -> Any:
    settings = Settings(state_dir=tmp_path / "state", executor="local", sources=sources)
    async with running(settings) as daemon:
        yield daemon


@asynccontextmanager
async def running(settings: Settings, seconds: float = PATIENCE) -> Any:
    """Run a controller that is ready within so many seconds, until the end of the block."""
    daemon = Daemon(settings)
    task = asyncio.create_task(daemon.serve())
    try:
        async with asyncio.timeout(seconds):
            await daemon.ready.wait()
        yield daemon
    finally:
        daemon.stop()
        await task
