"""The services of a local step: processes beside it, reached at 127.0.0.1."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from controller.errors import StalledError, TransientError
from controller.execute import companions
from controller.execute.companions import WholeLines
from controller.execute.keeper import observed
from controller.execute.local.process import Host, Process
from controller.execute.local.workspace import SERVICE_ADDRESS, Workspace
from controller.execute.ports import AttemptRequest, Output, ServiceRequest

KNOCK_SECONDS = 0.05  # between two looks at a port


class Ports:
    """Whose turn a port of this host is: steps that want the same one wait for each other."""

    def __init__(self) -> None:
        self._turns: dict[int, asyncio.Lock] = {}

    @asynccontextmanager
    async def held(self, wanted: Collection[int]) -> AsyncIterator[None]:
        """Wait for the ports, always in one order.

        Raises:
            TransientError: ServicePortTaken, by a process that isn't Rondel's.
        """
        async with AsyncExitStack() as stack:
            for port in sorted(wanted):
                await stack.enter_async_context(self._turns.setdefault(port, asyncio.Lock()))
                if await answers(port):
                    raise TransientError(
                        f"port {port} of this host is taken by another process",
                        reason="ServicePortTaken",
                    )
            yield


class Service:
    """One running service of one attempt."""

    def __init__(self, request: ServiceRequest, process: Process, lines: WholeLines) -> None:
        self._request = request
        self._lines = lines
        self.terminate = process.terminate
        self.ended = asyncio.create_task(process.wait(), name=f"service {request.name}")
        self.ended.add_done_callback(observed)

    async def ready(self) -> None:
        """Wait until its port accepts a connection; one without a port is ready at once.

        Raises:
            StalledError: ServiceNotReady, with the end of what it said.
        """
        port = self._request.ready_port
        if port is None:
            return
        listening = asyncio.create_task(listens(port), name=f"port {port}")
        try:
            await asyncio.wait(
                {listening, self.ended},
                timeout=companions.READY_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self.ended.done():
                raise self._not_ready(companions.ended_early(self.ended.result()))
            if not listening.done():
                raise self._not_ready(companions.never_listened(port))
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    def _not_ready(self, problem: str) -> StalledError:
        self._lines.flush()
        return companions.not_ready(self._request.name, problem, self._lines.last_words())

    def gone(self) -> StalledError:
        """Return the error of a step whose service has ended while it ran."""
        return StalledError(
            f"it ended with exit code {self.ended.result()} while the step ran",
            where=f"service {self._request.name!r}",
            reason=companions.ENDED,
        )


class Services:
    """Every service of one attempt."""

    def __init__(self, running: list[Service]) -> None:
        self._running = running

    async def outlast(self, step: Process) -> int:
        """Return the step's exit code.

        Raises:
            StalledError: ServiceEnded, a service was gone before the step.
        """
        ending = asyncio.create_task(step.wait(), name="step beside services")
        try:
            every = {ending, *(one.ended for one in self._running)}
            await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                return ending.result()
            raise next(one for one in self._running if one.ended.done()).gone()
        finally:
            ending.cancel()
            await asyncio.wait({ending})


@asynccontextmanager
async def beside(
    host: Host, ports: Ports, request: AttemptRequest, folder: Path, output: Output
) -> AsyncIterator[Services]:
    """Start the request's services, each in a folder below `folder`; end them with the block.

    Raises:
        StalledError: ServiceNotReady.
        TransientError: ServicePortTaken.
    """
    wanted = {one.ready_port for one in request.services if one.ready_port is not None}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(ports.held(wanted))
        running = [
            await stack.enter_async_context(
                started(host, service, alone(request, service), folder / service.name, output)
            )
            for service in request.services
        ]
        try:
            await all_ready(running)
            yield Services(running)
        finally:
            for one in running:  # all at once: their time to end is one and the same
                one.terminate()


@asynccontextmanager
async def started(
    host: Host, service: ServiceRequest, request: AttemptRequest, folder: Path, output: Output
) -> AsyncIterator[Service]:
    folder.parent.mkdir(exist_ok=True)
    workspace = Workspace(folder, host.user)
    workspace.prepare(request)
    lines = WholeLines(output, service.name)
    try:
        async with host.running(request, workspace, lines) as process:
            running = Service(service, process, lines)
            try:
                yield running
            finally:
                running.ended.cancel()
                await asyncio.wait({running.ended})
    finally:
        lines.flush()
        await asyncio.to_thread(workspace.remove)


async def all_ready(running: list[Service]) -> None:
    """Wait for all of them at once. Raises as the first that fails."""
    waiting = [asyncio.create_task(one.ready()) for one in running]
    try:
        await asyncio.gather(*waiting)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


def alone(request: AttemptRequest, service: ServiceRequest) -> AttemptRequest:
    """Return a service as a request of its own: of the step's, it has only the run's names."""
    return replace(
        request,
        argv=service.argv or (),
        env=service.env,
        secrets=(),
        workdir=".",
        mounts=(),
        caches=(),
        services=(),
        collect={},
        inputs=None,
    )


async def listens(port: int) -> None:
    """Return when somebody does."""
    while not await answers(port):  # noqa: ASYNC110 - another process's port tells nobody
        await asyncio.sleep(KNOCK_SECONDS)


async def answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(SERVICE_ADDRESS, port)
    except OSError:
        return False
    writer.close()
    return True
