"""Is the session still there? Its process may end, and an engine may fall silent."""

import asyncio
from typing import TYPE_CHECKING

from controller.execute.dagger import errors
from controller.execute.dagger.command import Command

if TYPE_CHECKING:
    import dagger

PROBE_EVERY_SECONDS = 60.0
PROBE_SECONDS = 60.0  # an engine under load is slow, and not gone
ENDED = "the session's process ended"


async def lost(command: Command, client: "dagger.Client") -> str:
    """Return, with the reason, when the session is lost; the `dagger` command doesn't notice."""
    ended = asyncio.create_task(command.ended(), name="dagger process")
    silent = asyncio.create_task(silence(client), name="dagger watchdog")
    try:
        await asyncio.wait({ended, silent}, return_when=asyncio.FIRST_COMPLETED)
        return silent.result() if silent.done() else command.last_words() or ENDED
    finally:
        ended.cancel()
        silent.cancel()


async def silence(client: "dagger.Client") -> str:
    """Return when the engine doesn't answer any more."""
    while True:
        await asyncio.sleep(PROBE_EVERY_SECONDS)
        if (words := await unanswered(client, PROBE_SECONDS)) is not None:
            return words


async def unanswered(client: "dagger.Client", seconds: float) -> str | None:
    """Ask the engine for its version; return why there was no answer, None when there was."""
    import dagger  # noqa: PLC0415 - a second to import
    from gql.transport.exceptions import TransportError  # noqa: PLC0415 - comes with it

    try:
        async with asyncio.timeout(seconds):
            await client.version()
    except TimeoutError:
        return f"the engine has not answered for {seconds:.0f} s"
    except (dagger.DaggerError, TransportError) as error:
        return errors.brief(str(error) or repr(error))
    return None
