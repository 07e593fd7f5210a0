"""The SDK attached to a `dagger session` that we started."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

import structlog

from controller import environment
from controller.execute.dagger.command import Address

if TYPE_CHECKING:
    import dagger

CLOSE_SECONDS = 5.0
DROP_SECONDS = 1.0  # dropped at once, its half-made socket would stay open
POLL_SECONDS = 0.01
# The SDK reads its session from the environment, which is the whole process's: one at a time,
# whatever event loop or thread it is in.
ENVIRONMENT = threading.Lock()

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def exported(variables: Mapping[str, str]) -> AsyncIterator[None]:
    """Set variables while nobody else does."""
    while not ENVIRONMENT.acquire(blocking=False):  # noqa: ASYNC110 - across event loops
        await asyncio.sleep(POLL_SECONDS)
    try:
        with environment.exported(variables):
            yield
    finally:
        ENVIRONMENT.release()


class Connection:
    """Holds one isolated client; entered and left in one task, as its library wants."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._ready: asyncio.Future[dagger.Client] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._holder = asyncio.create_task(self._hold(), name="dagger connection")

    async def client(self) -> "dagger.Client":
        """Return the client. Raises what the SDK raises."""
        return await self._ready

    async def _hold(self) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                client = await self._enter(stack)
                if not self._ready.done():
                    self._ready.set_result(client)
                    await self._leave.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits is told
            if self._ready.done():
                log.debug("dagger_connection_ended", error=repr(error))
            else:
                self._ready.set_exception(error)

    async def _enter(self, stack: contextlib.AsyncExitStack) -> "dagger.Client":
        import dagger  # noqa: PLC0415 - a second to import

        session = {
            "DAGGER_SESSION_PORT": str(self._address.port),
            "DAGGER_SESSION_TOKEN": self._address.token,
        }
        async with exported(session):
            # Its retries would send a broken request again: a step could run twice.
            connection = dagger.Connection(dagger.Config(retry=None))
            return await stack.enter_async_context(connection)

    async def close(self) -> None:
        """Leave; a connection that is still being made, or doesn't end, is dropped."""
        self._leave.set()
        made = self._ready.done() and not self._ready.cancelled()
        await asyncio.wait([self._holder], timeout=CLOSE_SECONDS if made else DROP_SECONDS)
        self._holder.cancel()
        await asyncio.wait([self._holder], timeout=CLOSE_SECONDS)
