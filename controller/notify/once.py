"""Alerts of a foreground run: tried once at its end; what fails waits for a controller."""

from collections.abc import Mapping

import structlog

from controller.errors import RondelError
from controller.model.settings import Alert
from controller.notify import alerts as bell
from controller.notify.message import message
from controller.notify.ports import Outbox, Secrets
from controller.notify.rounds import AT_ONCE

log = structlog.get_logger()

LIMIT_SECONDS = 10.0
"""Somebody waits for the command's end."""


async def tell_once(
    outbox: Outbox, secrets: Secrets, alerts: Mapping[str, Alert], source: str
) -> None:
    """Send what the hooks of a source's runs have said. Never raises for what a far side does."""
    try:
        waiting, _ = await outbox.waiting()
    except RondelError as error:
        log.warning("words_not_read", error=str(error))
        return
    for name in waiting:
        if name in alerts:
            try:
                await _tell(outbox, secrets, alerts[name], source)
            except RondelError as error:
                log.warning("words_delayed", to="alert", name=name, error=str(error))


async def _tell(outbox: Outbox, secrets: Secrets, alert: Alert, source: str) -> None:
    words = [one for one in await outbox.words(alert.name, AT_ONCE) if one.source == source]
    if words:
        url = await secrets.operator(alert.secret)
        await bell.send(url, message(words), limit=LIMIT_SECONDS)
        await outbox.drop_words(words)
