"""One run's session: the SDK attached to a `dagger session` of its own."""

import asyncio
import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from controller import environment
from controller.errors import TransientError
from controller.execute.dagger import errors
from controller.execute.dagger.command import Address, Command
from controller.execute.dagger.container import place, prepare, with_command
from controller.execute.dagger.images import Images
from controller.execute.dagger.telemetry import DRAIN_SECONDS, Listener, Telemetry
from controller.execute.ports import AttemptRequest, Outcome, Output

if TYPE_CHECKING:
    import dagger

CONNECT_SECONDS = 30.0
CLOSE_SECONDS = 15.0
ATTACHING = asyncio.Lock()  # the SDK reads its session from the environment, at one moment


class DaggerSession:
    """Implements `execute.ports.Session`; serves one run, then is closed."""

    def __init__(self, command: Command, address: Address, folder: Path) -> None:
        self._command = command
        self._address = address
        self._folder = folder
        self._closing = asyncio.Event()
        self._client: dagger.Client | None = None
        self._holder: asyncio.Task[None] | None = None
        self._telemetry: Telemetry | None = None
        self.images = Images()
        self._versions: dict[str, str] = {}

    @property
    def versions(self) -> Mapping[str, str]:
        return {**self._versions, **self.images.resolved}

    @property
    def alive(self) -> bool:
        return self._command.alive and self._holder is not None and not self._holder.done()

    async def connect(self) -> None:
        """Attach the SDK. Raises TransientError (EngineUnavailable)."""
        ready: asyncio.Future[dagger.Client] = asyncio.get_running_loop().create_future()
        self._holder = asyncio.create_task(self._hold(ready), name="dagger connection")
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                self._client = await ready
                self._versions = await versions(self._client)
        except Exception as error:
            raise TransientError(
                f"the Dagger engine does not answer: {errors.brief(str(error) or repr(error))}",
                reason="EngineUnavailable",
                remedy="look at the engine's own log",
            ) from error
        self._telemetry = Telemetry(self._address)

    async def _hold(self, ready: "asyncio.Future[dagger.Client]") -> None:
        """Enter and leave the connection in one task, as its library wants."""
        import dagger  # noqa: PLC0415 - a second to import

        try:
            async with contextlib.AsyncExitStack() as stack:
                async with ATTACHING:
                    session = {
                        "DAGGER_SESSION_PORT": str(self._address.port),
                        "DAGGER_SESSION_TOKEN": self._address.token,
                    }
                    with environment.exported(session):
                        # Its retries would send a broken request again: a step could run twice.
                        connection = dagger.Connection(dagger.Config(retry=None))
                        client = await stack.enter_async_context(connection)
                ready.set_result(client)
                await self._closing.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits is told
            if not ready.done():
                ready.set_exception(error)

    async def attempt(self, request: AttemptRequest, output: Output) -> Outcome:
        """Run one attempt; a session that is lost on the way says so as an Outcome."""
        if not self.alive or self._telemetry is None or self._client is None:
            return errors.lost("the session's process ended")
        work = asyncio.create_task(self._attempt(self._client, self._telemetry, request, output))
        gone = asyncio.create_task(self._command.ended())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            return errors.lost(self._command.last_words() or "the session's process ended")
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.wait({work, gone})

    async def _attempt(
        self, client: "dagger.Client", telemetry: Telemetry, request: AttemptRequest, output: Output
    ) -> Outcome:
        import dagger  # noqa: PLC0415 - a second to import
        from gql.transport.exceptions import TransportError  # noqa: PLC0415 - comes with it

        with telemetry.trace(output) as listener:
            try:
                base = await self.images.container(client, request.image or "")
                made = prepare(client, base, request, self._folder)
                done = with_command(made, request)
                code = await done.exit_code()
                await self._drain(listener, done)
                return Outcome(exit_code=code, collected=await collect(done, request))
            except dagger.ExecError as error:  # 128 to 191 are raised whatever is expected
                if not await drained(listener) or not listener.heard:
                    listener.complete("stdout", error.stdout)
                    listener.complete("stderr", error.stderr)
                return Outcome(exit_code=error.exit_code)
            except dagger.QueryError as error:
                return errors.outcome(str(error))
            except (dagger.TransportError, dagger.ClientConnectionError, TransportError) as error:
                return errors.lost(str(error) or repr(error))

    async def _drain(self, listener: Listener, done: "dagger.Container") -> None:
        """Wait for the last lines; what did not come live (it was cached, or late) is asked for."""
        if not await drained(listener) or not listener.heard:
            listener.complete("stdout", await done.stdout())
            listener.complete("stderr", await done.stderr())

    async def close(self) -> None:
        """Let go of everything, within a bound; the process is killed if it doesn't end."""
        self._closing.set()
        if self._telemetry is not None:
            await self._telemetry.close()
        if self._holder is not None:
            await asyncio.wait([self._holder], timeout=CLOSE_SECONDS)
            self._holder.cancel()
        await self._command.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


async def drained(listener: Listener) -> bool:
    """Wait a moment for the end of both streams; false when it did not come."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await listener.drained.wait()
    except TimeoutError:
        return False
    return True


async def versions(client: "dagger.Client") -> dict[str, str]:
    from importlib.metadata import version  # noqa: PLC0415 - once a session

    return {"dagger-engine": await client.version(), "dagger-sdk": version("dagger-io")}


async def collect(done: "dagger.Container", request: AttemptRequest) -> Mapping[str, Path]:
    """Export what is wanted and there; nothing outside the container is reached."""
    found: dict[str, Path] = {}
    for number, (key, path) in enumerate(request.collect.items()):
        at = place(f"{request.workdir}/{path}")
        target = request.staging / str(number)
        if await export(done, at, target):
            found[key] = target
    return found


async def export(done: "dagger.Container", path: str, target: Path) -> bool:
    """Write a file or folder of the container to `target`; false when it isn't there."""
    import dagger  # noqa: PLC0415 - a second to import

    if await done.exists(path, expected_type=dagger.ExistsType.REGULAR_TYPE):
        await done.file(path).export(str(target))
        return True
    if await done.exists(path, expected_type=dagger.ExistsType.DIRECTORY_TYPE):
        await done.directory(path).export(str(target))
        return True
    return False


__all__ = ["DaggerSession"]
