"""Alerts by apprise: one message to the address that a secret holds, which nobody else sees."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from controller.errors import StalledError, TransientError
from controller.notify.message import Message

TALKATIVE = ("apprise", "urllib3", "requests_oauthlib")
"""Loggers of those who are given the address, and may write it down."""


async def send(url: str, message: Message, *, limit: float) -> None:
    """Send a message; what came of it is all that is told.

    Args:
        url: an address of apprise.
        message: what it says.
        limit: the seconds that it may take.

    Raises:
        StalledError: AlertInvalid, no address that apprise knows.
        TransientError: AlertFailed, the far side didn't take it in time.
    """
    try:
        async with asyncio.timeout(limit):
            sent = await beside(lambda: _send(url, message))
    except TimeoutError as error:
        raise TransientError(f"it took over {limit:g} s", reason="AlertFailed") from error
    except StalledError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, its words may hold the address
        problem = f"apprise gave up with {type(error).__name__}"
        raise TransientError(problem, reason="AlertFailed") from None
    if not sent:
        raise TransientError("the far side did not take it", reason="AlertFailed")


def _send(url: str, message: Message) -> bool:
    """In a thread: apprise is imported when the first alert is sent, and waits for answers."""
    import apprise  # noqa: PLC0415 - an eighth of a second, only where there is an alert

    hush()
    bell = apprise.Apprise()
    if not bell.add(url):
        raise StalledError(
            "its address is none that apprise knows",
            reason="AlertInvalid",
            remedy="correct the secret of its `url`",
        )
    told = bell.notify(
        title=message.title,
        body=message.body,
        notify_type=apprise.NotifyType(message.kind),
        body_format=apprise.NotifyFormat.TEXT,
    )
    return bool(told)


def hush() -> None:
    """Keep the address out of every log, whoever has set up logging in this process."""
    for name in TALKATIVE:
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.propagate = False


async def beside(work: Callable[[], bool]) -> bool:
    """Run `work` in a thread of its own, which nobody waits for at the end of the process."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def settle(result: bool, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        result, error = False, None
        try:
            result = work()
        except Exception as problem:  # noqa: BLE001 - told to whoever waits
            error = problem
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="rondel-alert", daemon=True).start()
    return await done
