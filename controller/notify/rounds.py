"""What an alert, and what a forge, is told in one go."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from controller.clock import Clock
from controller.errors import TransientError
from controller.model.run import Event
from controller.model.settings import Alert, Statuses
from controller.model.word import CommitStatus, Unsaid, Word
from controller.notify import alerts, forges
from controller.notify.message import message
from controller.notify.pace import Bucket, Pace
from controller.notify.ports import Outbox, Secrets
from controller.reconcile.statuses import NAMED, summary

if TYPE_CHECKING:
    import httpx

log = structlog.get_logger()

AT_ONCE = 1_000
"""Words of one message at most; the next says the rest."""


class AlertRound:
    """One alert: gathers what comes up together, and keeps to its pace."""

    def __init__(
        self,
        name: str,
        *,
        alert: Callable[[], Alert | None],
        outbox: Outbox,
        secrets: Secrets,
        bucket: Bucket,
        pace: Pace,
        clock: Clock,
    ) -> None:
        self._name = name
        self._alert = alert
        self._outbox = outbox
        self._secrets = secrets
        self._bucket = bucket
        self._pace = pace
        self._clock = clock

    async def deliver(self) -> float | None:
        words = await self._current()
        if not words:
            return None
        if wait := self._wait(words[0].at):
            return wait
        alert = self._alert()
        if alert is None:
            await self._give_up(words, "the configuration has no such alert any more")
            return 0.0
        url = await self._secrets.operator(alert.secret)
        await alerts.send(url, message(words), limit=self._pace.limit)
        log.info("alert_sent", name=self._name, words=len(words))
        self._bucket.take(self._clock.monotonic())
        await self._outbox.drop_words(words)
        return 0.0

    async def close(self) -> None:
        """There is nothing to close."""

    async def _current(self) -> list[Word]:
        """Return what is to be told; what is too old for it is given up."""
        words, now = await self._outbox.words(self._name, AT_ONCE), self._clock.now()
        old = [one for one in words if self._pace.is_too_old(one.at, now)]
        if old:
            await self._give_up(old, f"nobody took it within {self._pace.keep}")
        return words[len(old) :]

    def _wait(self, oldest: datetime) -> float:
        """Return the seconds until a message may go: others may join it until then."""
        age = (self._clock.now() - oldest).total_seconds()
        gathering = self._pace.gather - max(age, 0.0)
        return max(gathering, self._bucket.wait(self._clock.monotonic()), 0.0)

    async def _give_up(self, words: Sequence[Word], why: str) -> None:
        now = self._clock.now()
        await self._outbox.drop_words(words, [self._event(one, why, now) for one in words])

    def _event(self, word: Word, why: str, now: datetime) -> Event:
        return Event(
            at=now,
            reason="AlertGivenUp",
            source=word.source,
            workflow=word.workflow,
            run=word.run,
            message=f"alert {self._name!r} was not told of {word.occasion}: {why}",
            data={"alert": self._name, "occasion": str(word.occasion)},
        )


class ForgeRound:
    """One source's forge: told one status after another."""

    def __init__(
        self,
        source: str,
        *,
        place: Callable[[], Statuses | None],
        proxy: str | None,
        outbox: Outbox,
        secrets: Secrets,
        pace: Pace,
        clock: Clock,
    ) -> None:
        self._source = source
        self._place = place
        self._proxy = proxy
        self._outbox = outbox
        self._secrets = secrets
        self._pace = pace
        self._clock = clock
        self._client: httpx.AsyncClient | None = None
        self._pause: float | None = None  # asked for by the forge

    async def deliver(self) -> float | None:
        waiting = await self._outbox.statuses(self._source, 1)
        if not waiting:
            return None
        [one] = waiting
        place = self._place()
        if place is None:
            await self._outbox.note_said(one, one.told)
            return 0.0
        status = await self._summed(one.status)
        said = f"{status.state}: {status.text}"
        if said == one.told:
            await self._outbox.note_said(one, said)
        elif self._pace.is_too_old(status.at, self._clock.now()):
            await self._give_up(one, status, f"nobody took it within {self._pace.keep}")
        else:
            return await self._say(one, status, said, place)
        return 0.0

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _summed(self, status: CommitStatus) -> CommitStatus:
        """The source's own word on a commit is told together with that of its workflows."""
        if status.workflow:
            return status
        counts, bad = await self._outbox.work(status.source, status.commit, NAMED)
        state, text = summary(status, counts, bad)
        return replace(status, state=state, text=text)

    async def _say(
        self, one: Unsaid, status: CommitStatus, said: str, place: Statuses
    ) -> float | None:
        token = await self._secrets.operator(place.secret)
        response = await self._post(forges.request(place, token, status))
        told = {name.lower(): value for name, value in response.headers.items()}
        answer = forges.judged(place.type, response.status_code, told, response.text)
        why = forges.complaint(
            response.status_code, read_json(response.text), response.text[:1000], token
        )
        if answer is forges.Answer.TAKEN:
            log.debug("status_sent", name=forges.context(status), state=status.state)
            await self._outbox.note_said(one, said)
        elif answer is forges.Answer.REFUSED:
            await self._give_up(one, status, why)
        elif (pause := forges.asked_pause(told, self._clock.now())) is not None:
            return pause
        else:
            raise TransientError(why, where=place.api, reason="StatusFailed")
        return 0.0

    async def _post(self, request: forges.Request) -> "httpx.Response":
        if self._client is None:
            self._client = await asyncio.to_thread(connect, self._proxy, self._pace.limit)
        import httpx  # noqa: PLC0415 - only where commits are told something; it is there by now

        try:
            async with asyncio.timeout(self._pace.limit):
                return await self._client.post(
                    request.url, headers=dict(request.headers), json=dict(request.body)
                )
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            problem = str(error) or type(error).__name__
            raise TransientError(problem, where=request.url, reason="StatusFailed") from error

    async def _give_up(self, one: Unsaid, status: CommitStatus, why: str) -> None:
        event = Event(
            at=self._clock.now(),
            reason="StatusGivenUp",
            source=status.source,
            workflow=status.workflow,
            run=status.run,
            message=f"commit {status.commit[:10]} was not told of {status.state}: {why}",
            data={"commit": status.commit, "state": str(status.state)},
        )
        await self._outbox.note_said(one, one.told, [event])


def connect(proxy: str | None, limit: float) -> "httpx.AsyncClient":
    """Return a client. In a thread: the import and the certificates of this host take a while."""
    import httpx  # noqa: PLC0415 - only where commits are told something

    return httpx.AsyncClient(proxy=proxy, timeout=limit)


def read_json(text: str) -> Any:
    """Return the document of an answer; None when it isn't JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None
