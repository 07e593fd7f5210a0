"""Sessions of Dagger runs: the next one is opened ahead of need."""

import asyncio
import importlib
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from controller import environment, ids
from controller.clock import Clock, SystemClock
from controller.errors import StalledError, TransientError
from controller.execute.dagger import command
from controller.execute.dagger.images import Login
from controller.execute.dagger.session import DaggerSession
from controller.execute.keeper import Keeper
from controller.execute.ports import Session
from controller.model.run import Run
from controller.model.settings import DaggerSettings
from controller.model.workflow import Workflow

MEMORY = Path("/dev/shm")  # noqa: S108 - secrets are better there than on a disk; folders are ours
OLDEST = timedelta(minutes=10)  # a spare session beyond this may not know the engine any more


class OperatorSecrets(Protocol):
    async def operator(self, name: str) -> str:
        """Return the value of a secret for the operator's own use."""
        ...


class DaggerExecutor:
    """Implements `execute.ports.Executor` with one Dagger session for each run."""

    name = "dagger"

    def __init__(
        self, settings: DaggerSettings, *, secrets: OperatorSecrets, state_dir: Path, clock: Clock
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._state_dir = state_dir
        self._clock = clock
        self._keeper = Keeper(environment.get("PATH") or os.defpath)
        self._spare: asyncio.Task[DaggerSession] | None = None
        self._spare_since: datetime = clock.now()
        self._closing: set[asyncio.Task[None]] = set()

    def refusal(self, workflow: Workflow) -> tuple[str, str] | None:
        everything = (
            *workflow.steps,
            *workflow.on_success,
            *workflow.on_failure,
            *workflow.on_cancel,
            *workflow.finally_,
        )
        bare = next((step for step in everything if not step.image), None)
        if bare is None:
            return None
        return "ImageMissing", f"step {bare.name!r} names no image; the dagger executor needs one"

    async def start(self) -> None:
        """Start the keeper, load the SDK beside the loop, and open the first session."""
        await self._keeper.start()
        await asyncio.to_thread(importlib.import_module, "dagger")
        self._open_ahead()

    def _open_ahead(self) -> None:
        self._spare_since = self._clock.now()
        self._spare = asyncio.create_task(self._new_session(), name="next dagger session")
        self._spare.add_done_callback(observed)

    async def _new_session(self) -> DaggerSession:
        folder = Path(tempfile.mkdtemp(prefix="rondel-", dir=memory(self._state_dir)))
        process, address = await command.start(self._keeper, self._settings, folder, ids.nonce())
        session = DaggerSession(process, address, folder)
        try:
            await session.connect()
        except BaseException:
            await session.close()
            raise
        return session

    async def open(self, run: Run, workflow: Workflow) -> Session:
        """Return the session that was opened ahead, or a new one; the next is begun at once."""
        del workflow
        session = await self._take_spare() or await self._new_session()
        self._open_ahead()
        session.images.default_registry = self._settings.default_registry
        session.images.logins = await self._logins(run.source)
        return session

    async def _take_spare(self) -> DaggerSession | None:
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        try:
            session = await asyncio.shield(spare)
        except (TransientError, StalledError):
            return None  # a fresh try says what is wrong now
        except asyncio.CancelledError:
            self._spare = spare
            raise
        if session.alive and self._clock.now() - self._spare_since < OLDEST:
            return session
        self._close_later(session)
        return None

    async def _logins(self, source: str) -> dict[str, Login]:
        """Return the logins that the run's source may use."""
        return {
            one.host: Login(one.host, one.username, await self._secrets.operator(one.secret))
            for one in self._settings.registries
            if source in one.sources
        }

    def _close_later(self, session: DaggerSession) -> None:
        task = asyncio.create_task(session.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def stop(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.cancel()
            with suppress(asyncio.CancelledError, TransientError, StalledError):
                self._close_later(await spare)
        if self._closing:
            await asyncio.wait(self._closing)
        await self._keeper.stop()


def memory(state_dir: Path) -> Path:
    """Return where a session's private folder goes: memory where there is some."""
    if os.access(MEMORY, os.W_OK):
        return MEMORY
    folder = state_dir / "sessions"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def observed(task: "asyncio.Task[DaggerSession]") -> None:
    """A spare that could not be opened is no news: the run that needs one says so."""
    if not task.cancelled():
        task.exception()


class NoSecrets:
    async def operator(self, name: str) -> str:
        raise StalledError(f"secret {name!r} is not asked for here", reason="SecretUnknown")


async def check(settings: DaggerSettings) -> Mapping[str, str]:
    """Open a session and return the versions of both sides.

    Raises:
        StalledError: DaggerMissing.
        TransientError: EngineUnavailable.
    """
    with tempfile.TemporaryDirectory() as folder:
        executor = DaggerExecutor(
            settings, secrets=NoSecrets(), state_dir=Path(folder), clock=SystemClock()
        )
        await executor._keeper.start()  # noqa: SLF001 - its own
        try:
            session = await executor._new_session()  # noqa: SLF001 - its own
            found = dict(session.versions)
            await session.close()
        finally:
            await executor.stop()
    return found
