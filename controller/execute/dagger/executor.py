"""Sessions of Dagger runs: the next one is opened ahead of need."""

import asyncio
import importlib
import os
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from controller import environment, ids
from controller.clock import Clock, SystemClock
from controller.errors import StalledError, TransientError
from controller.execute.dagger import command
from controller.execute.dagger.connection import Connection
from controller.execute.dagger.folder import PrivateFolder, place_for_sessions, sweep
from controller.execute.dagger.images import Login
from controller.execute.dagger.session import DaggerSession, attached
from controller.execute.dagger.watch import unanswered
from controller.execute.keeper import Keeper
from controller.execute.ports import Session
from controller.model.run import Run
from controller.model.settings import DaggerSettings
from controller.model.workflow import Step, Workflow

FRESH = timedelta(seconds=10)  # a spare session younger than this needs no second look
OLDEST = timedelta(hours=1)  # an engine frees nothing that a session has touched
LOOK_SECONDS = 2.0
AGAIN_SECONDS = 15.0  # after an opening that failed
OPEN_SECONDS = 30.0  # for a whole opening: version, process, address, connection


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
        self._cli = ""  # its version
        self.up = False  # until a session has been opened
        self._stopped = False
        self._spare: asyncio.Task[DaggerSession] | None = None
        self._spare_since: datetime = clock.now()
        self._open: set[DaggerSession] = set()
        self._closing: set[asyncio.Task[None]] = set()

    def refusal(self, workflow: Workflow) -> tuple[str, str] | None:
        bare = next((name for step in workflow.every_step for name in without_image(step)), None)
        if bare is None:
            return None
        return "ImageMissing", f"{bare} names no image; the dagger executor needs one"

    async def start(self) -> None:
        """Start the keeper, remove what a crash has left, begin the first session."""
        await self._keeper.start()
        await asyncio.to_thread(sweep, place_for_sessions(self._state_dir))
        self._open_ahead()

    def _open_ahead(self) -> None:
        self._spare_since = self._clock.now()
        self._spare = asyncio.create_task(self._new_session(), name="next dagger session")
        self._spare.add_done_callback(self._look_at_spare)

    def _look_at_spare(self, spare: "asyncio.Task[DaggerSession]") -> None:
        """A spare that could not be opened is no news: the run that needs one says so."""
        if failed(spare):
            self._open_later()

    def _open_later(self) -> None:
        """With the engine away, look again: so `up` is true soon after it is back."""
        asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._open_unless_there)

    def _open_unless_there(self) -> None:
        if not self._stopped and (self._spare is None or failed(self._spare)):
            self._open_ahead()

    async def _new_session(self) -> DaggerSession:
        """Open a session; what was begun of one that fails ends in the background.

        Raises:
            StalledError: DaggerMissing.
            TransientError: EngineUnavailable, after OPEN_SECONDS at the latest.
        """
        begun = AsyncExitStack()
        try:
            session = await self._session_in_time(begun)
        except BaseException as error:
            self.up = self.up and not isinstance(error, Exception)  # being cancelled says nothing
            self._in_background(begun.aclose())
            raise
        self.up = True
        self._open.add(session)
        return session

    async def _session_in_time(self, begun: AsyncExitStack) -> DaggerSession:
        folder = PrivateFolder(place_for_sessions(self._state_dir))
        begun.push_async_callback(asyncio.to_thread, folder.remove)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await self._session_in(folder, begun)
        except TimeoutError as error:
            words = command.last_words(folder.path) or "the dagger command has said nothing"
            raise TransientError(
                f"the Dagger engine was not ready within {OPEN_SECONDS:g} s: {words}",
                reason="EngineUnavailable",
                remedy=command.START_IT,
            ) from error

    async def _session_in(self, folder: PrivateFolder, begun: AsyncExitStack) -> DaggerSession:
        self._cli = self._cli or await command.cli_version(self._keeper, self._settings)
        process = await command.start(self._keeper, self._settings, folder.path, ids.nonce())
        begun.push_async_callback(process.close)
        address = await process.address()
        await asyncio.to_thread(importlib.import_module, "dagger")  # a second, the first time
        connection = Connection(address)
        begun.push_async_callback(connection.close)
        client, engine = await attached(connection)
        return DaggerSession(
            client,
            command=process,
            connection=connection,
            address=address,
            folder=folder,
            versions={
                "dagger-engine": engine,
                "dagger-cli": self._cli,
                "dagger-sdk": version("dagger-io"),
            },
            let_go=self._let_go,
        )

    async def open(self, run: Run, workflow: Workflow) -> Session:
        """Return the session that was opened ahead, or a new one; the next is begun at once."""
        del workflow
        logins = await self._logins(run.source)
        try:
            session = await self._take_spare() or await self._new_session()
        except (TransientError, StalledError):
            self._open_later()
            raise
        self._open_ahead()
        session.images.default_registry = self._settings.default_registry
        session.images.logins = logins
        session.images.pin(run.versions)
        return session

    async def _take_spare(self) -> DaggerSession | None:
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        failed_before = spare.done()
        try:
            session = await asyncio.shield(spare)
        except (TransientError, StalledError):
            if failed_before:
                return None  # a fresh try says what is wrong now
            raise
        except asyncio.CancelledError:
            self._spare = spare
            raise
        if await self._of_use(session, self._clock.now() - self._spare_since):
            return session
        await session.close()
        return None

    async def _of_use(self, session: DaggerSession, age: timedelta) -> bool:
        if not session.alive or age > OLDEST:
            return False
        return age < FRESH or await unanswered(session.client, LOOK_SECONDS) is None

    async def _logins(self, source: str) -> dict[str, Login]:
        """Return the logins that the run's source may use."""
        return {
            one.host: Login(one.host, one.username, await self._secrets.operator(one.secret))
            for one in self._settings.registries
            if source in one.sources
        }

    def _let_go(self, session: DaggerSession) -> None:
        """End a session in the background: nobody waits for its goodbye but `stop`."""
        self._open.discard(session)
        self._in_background(session.end())

    def _in_background(self, end: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(end, name="dagger session's end")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def versions(self) -> Mapping[str, str]:
        """Open a session for nothing but the versions of engine, command and SDK.

        Raises:
            StalledError: DaggerMissing.
            TransientError: EngineUnavailable.
        """
        session = await self._new_session()
        await session.close()
        return session.versions

    async def stop(self) -> None:
        """End every session and the keeper."""
        self._stopped = True
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.cancel()
            with suppress(asyncio.CancelledError, TransientError, StalledError):
                await spare
        for session in tuple(self._open):
            await session.close()
        while self._closing:
            await asyncio.wait(self._closing)
        await self._keeper.stop()


def without_image(step: Step) -> Iterator[str]:
    """Yield what of a step is a container and names no image."""
    container = step.alert is None and step.uses is None and step.module is None
    if container and not step.image:
        yield f"step {step.name!r}"
    for service in step.services:
        if not service.image:
            yield f"service {service.name!r} of step {step.name!r}"


def failed(opening: "asyncio.Task[DaggerSession]") -> bool:
    return opening.done() and not opening.cancelled() and opening.exception() is not None


class NoSecrets:
    async def operator(self, name: str) -> str:
        raise StalledError(f"secret {name!r} is not asked for here", reason="SecretUnknown")


async def check(settings: DaggerSettings) -> Mapping[str, str]:
    """Return the versions of engine, command and SDK, or say why there are none.

    Raises:
        StalledError: DaggerMissing.
        TransientError: EngineUnavailable, within a minute or so with the end of what was begun.
    """
    with tempfile.TemporaryDirectory() as folder:
        executor = DaggerExecutor(
            settings, secrets=NoSecrets(), state_dir=Path(folder), clock=SystemClock()
        )
        try:
            return await executor.versions()
        finally:
            await executor.stop()
