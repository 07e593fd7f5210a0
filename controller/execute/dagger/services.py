"""The services beside an attempt: containers of the engine's, reached by their names."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from controller.execute import companions
from controller.execute.companions import WholeLines
from controller.execute.dagger.container import BUSTER, WORK
from controller.execute.dagger.images import Base, Images
from controller.execute.dagger.said import Listener
from controller.execute.dagger.telemetry import Telemetry
from controller.execute.ports import AttemptRequest, Output, ServiceRequest

if TYPE_CHECKING:
    import dagger

STOP_SECONDS = 5.0
Running = Mapping[str, "dagger.Service"]
"""Services by name."""


class Services:
    """Starts and ends what stands beside the attempts of one session."""

    def __init__(self, client: "dagger.Client", images: Images, telemetry: Telemetry) -> None:
        self._client = client
        self._images = images
        self._telemetry = telemetry
        self._stopping: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def beside(self, request: AttemptRequest, output: Output) -> AsyncIterator[Running]:
        """Start the request's services, wait until they are ready, end them with the block.

        Raises:
            StalledError: ServiceNotReady.
            dagger.QueryError: as the engine says of an image.
        """
        bases = await asyncio.gather(
            *(self._images.base(self._client, one.image or "") for one in request.services)
        )
        async with AsyncExitStack() as stack:
            starts = {}
            for one, base in zip(request.services, bases, strict=True):
                lines = WholeLines(output, one.name)
                stack.callback(lines.flush)
                # Each in a trace of its own, so that its lines are known from the step's.
                listener = stack.enter_context(self._telemetry.trace(lines))
                made = service(base, request, one)
                starting = asyncio.create_task(started(one, made, listener, lines))
                starts[one.name] = starting
                stack.push_async_callback(self._end, made, starting)
            await asyncio.gather(*starts.values())
            yield {name: starting.result() for name, starting in starts.items()}

    async def _end(self, made: "dagger.Service", starting: "asyncio.Task[dagger.Service]") -> None:
        """End a service. One that isn't up yet is ended by the engine as soon as it is."""
        ready = starting.done() and not starting.cancelled() and not starting.exception()
        starting.cancel()
        await asyncio.wait({starting})
        task = asyncio.create_task(stop(made), name="dagger service's end")
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
        if ready:
            await asyncio.wait({task}, timeout=STOP_SECONDS)

    async def close(self) -> None:
        """Wait for nothing any more: the end of a session ends its services."""
        for task in self._stopping:
            task.cancel()
        if self._stopping:
            await asyncio.wait(self._stopping)


def service(base: Base, request: AttemptRequest, one: ServiceRequest) -> "dagger.Service":
    """Return a service that no other attempt shares: its environment names this one."""
    made = base.container
    # Volatile variables don't reach a service, so the run's names are plain ones here.
    env = {**request.context, **one.env, BUSTER: request.nonce}
    for name, value in sorted(env.items()):
        made = made.with_env_variable(name, value)
    if one.ready_port is not None:
        made = made.with_exposed_port(one.ready_port)
    if one.argv is None:
        return made.as_service(use_entrypoint=True)
    return made.with_workdir(WORK).as_service(args=list(one.argv))


async def started(
    one: ServiceRequest, made: "dagger.Service", listener: Listener, lines: WholeLines
) -> "dagger.Service":
    """Start a service; the engine looks at its port. Raises StalledError (ServiceNotReady)."""
    import dagger  # noqa: PLC0415 - a second to import

    try:
        async with asyncio.timeout(companions.READY_SECONDS) as limit:
            return await made.start()
    except dagger.ExecError as error:
        await listener.complete(error.stdout, error.stderr)
        problem = companions.ended_early(error.exit_code)
    except TimeoutError:
        if not limit.expired():
            raise
        problem = companions.never_listened(one.ready_port or 0)
    lines.flush()
    raise companions.not_ready(one.name, problem, lines.last_words())


async def stop(made: "dagger.Service") -> None:
    import dagger  # noqa: PLC0415 - a second to import
    from gql.transport.exceptions import TransportError  # noqa: PLC0415 - comes with it

    try:
        await made.stop(kill=True)
    except (dagger.DaggerError, TransportError):
        return  # it is gone, or its session is
