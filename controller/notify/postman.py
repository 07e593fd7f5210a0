"""Tells what waits in the outbox: each alert and each forge by itself, none holding up another.

A word is told at least once: a crash after it was told and before that was noted tells it again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from controller.errors import RondelError
from controller.notify.pace import Pace
from controller.notify.ports import Outbox

log = structlog.get_logger()


class Round(Protocol):
    """One addressee: tells some of what waits for it."""

    async def deliver(self) -> float | None:
        """Tell some and return 0; or return the seconds to wait before, None when nothing is left.

        Raises:
            RondelError: the far side, a secret or the store fails; it is tried again.
        """
        ...

    async def close(self) -> None: ...


class Postman:
    """Runs a task for each addressee that has words waiting, for as long as it has."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        alert: Callable[[str], Round],
        forge: Callable[[str], Round],
        pace: Pace,
    ) -> None:
        self._outbox = outbox
        self._alert = alert
        self._forge = forge
        self._pace = pace
        self._woken = asyncio.Event()
        self._busy: set[tuple[str, str]] = set()

    def wake(self) -> None:
        """Something may wait."""
        self._woken.set()

    async def run(self) -> None:
        """Tell what waits until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                await self._begin(group)
                try:
                    async with asyncio.timeout(self._pace.poll):
                        await self._woken.wait()
                except TimeoutError:
                    continue

    async def _begin(self, group: asyncio.TaskGroup) -> None:
        try:
            alerts, sources = await self._outbox.waiting()
        except RondelError as error:
            log.warning("words_not_read", error=str(error))
            return
        rounds = [("alert", name, self._alert) for name in alerts]
        rounds += [("statuses", name, self._forge) for name in sources]
        for kind, name, make in rounds:
            if (kind, name) not in self._busy:
                self._busy.add((kind, name))
                group.create_task(self._go(kind, name, make), name=f"{kind} {name}")

    async def _go(self, kind: str, name: str, make: Callable[[str], Round]) -> None:
        made = make(name)
        try:
            await self._through(kind, name, made.deliver)
        finally:
            await made.close()
            self._busy.discard((kind, name))
            self.wake()  # something may have come after the last look

    async def _through(
        self, kind: str, name: str, deliver: Callable[[], Awaitable[float | None]]
    ) -> None:
        failures = 0
        while True:
            try:
                pause = await deliver()
                failures = failures if pause else 0  # to have waited is not to have told
            except RondelError as error:
                failures += 1
                pause = self._pace.pause(failures)
                self._tell(kind, name, failures, str(error), pause)
            except Exception:
                # A defect met in one addressee stops no other.
                failures += 1
                pause = self._pace.pause(failures)
                log.exception("words_crashed", to=kind, name=name)
            if pause is None:
                return
            await asyncio.sleep(pause)

    @staticmethod
    def _tell(kind: str, name: str, failures: int, error: str, pause: float) -> None:
        log.warning(
            "words_delayed",
            to=kind,
            name=name,
            failures=failures,
            error=error,
            again_seconds=round(pause, 1),
        )
