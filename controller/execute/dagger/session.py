"""One run's session: steps in containers of an engine."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from controller.errors import TransientError
from controller.execute.companions import WholeLines
from controller.execute.dagger import errors, watch
from controller.execute.dagger.collect import collect
from controller.execute.dagger.command import Address, Command
from controller.execute.dagger.connection import Connection
from controller.execute.dagger.container import prepare, with_command
from controller.execute.dagger.folder import PrivateFolder
from controller.execute.dagger.images import Images
from controller.execute.dagger.modules import Modules
from controller.execute.dagger.said import Listener
from controller.execute.dagger.services import Running, Services
from controller.execute.dagger.telemetry import Telemetry
from controller.execute.ports import AttemptRequest, Outcome, Output

if TYPE_CHECKING:
    import dagger

T = TypeVar("T")


class DaggerSession:
    """Implements `execute.ports.Session`; serves one run, then is closed."""

    def __init__(
        self,
        client: "dagger.Client",
        *,
        command: Command,
        connection: Connection,
        address: Address,
        folder: PrivateFolder,
        versions: Mapping[str, str],
        let_go: "Callable[[DaggerSession], None]",
    ) -> None:
        self.client = client
        self.images = Images()
        self._command = command
        self._connection = connection
        self._telemetry = Telemetry(address)
        self._folder = folder
        self._versions = versions
        self._let_go = let_go
        self._services = Services(client, self.images, self._telemetry)
        self._modules = Modules(client, address, self._telemetry)
        self._closed = False
        self._lost = asyncio.create_task(watch.lost(command, client), name="dagger session")

    @property
    def versions(self) -> Mapping[str, str]:
        return {**self._versions, **self.images.resolved}

    @property
    def alive(self) -> bool:
        return self._command.alive and not self._lost.done()

    async def attempt(self, request: AttemptRequest, output: Output) -> Outcome:
        """Run one attempt; a session that is lost on the way says so as an Outcome.

        Cancelled, the engine kills the process within a second or so; that is not awaited.
        """
        return await self._unless_lost(lambda: self._attempt(request, output))

    async def resolve_image(self, image: str) -> str:
        """Return the image's name with its digest. Raises TransientError, StalledError."""
        found = await self._unless_lost(lambda: self.images.reference(self.client, image))
        if isinstance(found, Outcome):
            raise errors.raised(found, image)
        return found

    async def _unless_lost(self, working: Callable[[], Awaitable[T]]) -> T | Outcome:
        work = asyncio.create_task(in_outcomes(working), name="dagger work")
        try:
            await asyncio.wait({work, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else errors.lost(self._lost.result())
        finally:
            work.cancel()
            await asyncio.wait({work})

    async def _attempt(self, request: AttemptRequest, output: Output) -> Outcome:
        if request.module is not None:
            return await self._modules.attempt(request.module, request, output)
        if not request.services:
            return await self._executed(request, output, {})
        async with self._services.beside(request, output) as services:
            lines = WholeLines(output)
            try:
                return await self._executed(never_cached(request), lines, services)
            finally:
                lines.flush()

    async def _executed(
        self, request: AttemptRequest, output: Output, services: Running
    ) -> Outcome:
        with self._telemetry.trace(output) as listener:
            base = await self.images.base(self.client, request.image or "")
            made = prepare(
                self.client,
                base.container,
                request,
                user=request.user or base.user,
                folder=self._folder.path,
            )
            for name, service in services.items():
                made = made.with_service_binding(name, service)
            return await result(with_command(made, request), request, listener)

    async def close(self) -> None:
        """Let go of everything; it ends in the background, within a bound, then surely."""
        if not self._closed:
            self._closed = True
            self._let_go(self)

    async def end(self) -> None:
        self._lost.cancel()
        await self._services.close()
        await self._telemetry.close()
        await self._connection.close()
        await self._command.close()
        await asyncio.to_thread(self._folder.remove)


async def in_outcomes(working: Callable[[], Awaitable[T]]) -> T | Outcome:
    """Return what it returns; what the engine says instead, as the outcome that it means."""
    import dagger  # noqa: PLC0415 - a second to import
    import httpx  # noqa: PLC0415 - comes with it
    from gql.transport.exceptions import (  # noqa: PLC0415 - comes with it
        TransportError,
        TransportQueryError,
    )

    gone = (dagger.TransportError, dagger.ClientConnectionError, TransportError, httpx.HTTPError)
    try:
        return await working()
    except (dagger.QueryError, TransportQueryError) as error:
        return errors.outcome(str(error))
    except gone as error:
        return errors.lost(str(error) or repr(error))


def never_cached(request: AttemptRequest) -> AttemptRequest:
    """A step with services is never answered by the engine's cache: they are never the same."""
    return replace(request, cacheable=False)


async def result(done: "dagger.Container", request: AttemptRequest, listener: Listener) -> Outcome:
    """Run the command; return what came of it."""
    import dagger  # noqa: PLC0415 - a second to import

    try:
        code = await done.exit_code()  # alone and first: what fails must not be asked for twice
    except dagger.ExecError as error:  # 128 to 191 are raised whatever is expected
        await listener.complete(error.stdout, error.stderr)
        return Outcome(exit_code=error.exit_code)
    _, collected = await asyncio.gather(hear_out(done, listener), collect(done, request))
    return Outcome(exit_code=code, collected=collected)


async def hear_out(done: "dagger.Container", listener: Listener) -> None:
    """Write what did not come live: it was late, it was cached, or it was dropped on the way."""
    if not listener.comparable:
        await listener.drain()
        listener.give_up()
        return
    await listener.complete(*await texts(done))


async def texts(done: "dagger.Container") -> tuple[str, str]:
    """Return both streams by one request: a second one would cost a tenth of a short step."""
    both = done._ctx.select_multiple(  # noqa: SLF001 - the SDK's own way to ask for several
        "Container", stdout="stdout", stderr="stderr"
    )
    answer: Any = await both.conn.session.execute(await both.request())
    while "stdout" not in answer:
        (answer,) = answer.values()
    return answer["stdout"], answer["stderr"]


async def attached(connection: Connection) -> "tuple[dagger.Client, str]":
    """Return the client and the engine's version; nothing but the caller bounds it.

    Raises:
        TransientError: EngineUnavailable.
    """
    try:
        client = await connection.client()
        return client, await client.version()
    except Exception as error:
        raise TransientError(
            f"the Dagger engine does not answer: {errors.brief(str(error) or repr(error))}",
            reason="EngineUnavailable",
            remedy="look at the engine's own log",
        ) from error
