"""Webhooks, as the daemon takes them: verified, answered and kept in one transaction."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from controller import ids
from controller.clock import Clock
from controller.errors import RondelError, TransientError
from controller.loading import Loading
from controller.model.changes import Change, TakeDelivery
from controller.model.delivery import Delivery
from controller.model.settings import Receiver
from controller.observations import Key
from controller.reconcile.observed import Plan
from controller.reconcile.webhook import answer, named
from controller.reconciler import Reconciler
from controller.recorder import Recorder
from controller.secrets import ConfiguredSecrets
from controller.serve.ports import Outcome
from controller.serve.rate import Rate
from controller.serve.signatures import verify
from controller.store import Store

log = structlog.get_logger()


class Deliveries:
    """Implements `serve.ports.Deliveries`."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        loading: Loading,
        reconciler: Reconciler,
        secrets: ConfiguredSecrets,
        clock: Clock,
        turn: asyncio.Lock,
        receivers: Callable[[], Mapping[str, Receiver]],
        dispatch: Callable[[], None],
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._loading = loading
        self._reconciler = reconciler
        self._secrets = secrets
        self._clock = clock
        self._turn = turn  # a delivery and a pass never decide on the same workflow at once
        self._receivers = receivers
        self._dispatch = dispatch
        self._rate = Rate()

    def admits(self, peer: str) -> bool:
        return self._rate.admits(peer, self._clock.monotonic())

    async def accept(self, receiver: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Take a webhook when its signature holds: what it starts is kept when this returns.

        Raises:
            TransientError: a source was not loaded yet, or the store can't be written.
        """
        known = self._receivers().get(receiver)
        secret = await self._secret(known) if known else ids.nonce()
        now = self._clock.now()
        signed = verify(known.type if known else "github", headers, body, secret, now)
        if known is None or signed is None:
            log.warning("delivery_refused", receiver=receiver if known else None)
            return Outcome.REFUSED
        if signed.ping:
            return Outcome.NOTHING
        delivery = Delivery(receiver=receiver, id=signed.id, marks=signed.marks, at=now)
        self._look(known)
        self._refuse_unloaded(known)
        return Outcome.TAKEN if await self._take(delivery, known) else Outcome.REPEATED

    async def _secret(self, receiver: Receiver) -> str:
        """What can't be read verifies nothing; the sender isn't told."""
        try:
            return await self._secrets.operator(receiver.secret)
        except RondelError as error:
            log.error("receiver_without_secret", receiver=receiver.name, error=str(error))  # noqa: TRY400  # its words say it all
            return ""

    def _look(self, receiver: Receiver) -> None:
        for source in self._served(receiver):
            self._loading.look(source)

    def _served(self, receiver: Receiver) -> list[str]:
        return [name for name in receiver.sources if self._loading.serves(name)]

    def _refuse_unloaded(self, receiver: Receiver) -> None:
        """Nobody knows which workflows name it: better not taken than taken for some of them."""
        for source in self._served(receiver):
            if not self._loading.whole(source):
                raise TransientError(
                    f"source {source!r} has not been loaded yet",
                    reason="SourceNotLoaded",
                    remedy="deliver it again later",
                )

    async def _take(self, delivery: Delivery, receiver: Receiver) -> bool:
        async with self._turn:
            if await self._store.read(lambda r: r.delivered(delivery.receiver, delivery.marks)):
                return False
            keys = self._naming(receiver)
            changes = [change for key in keys for change in await self._answers(key, delivery)]
            await self._recorder.record(
                TakeDelivery(delivery=delivery, runs=len(changes)), *changes
            )
        log.info("delivery_taken", receiver=receiver.name, delivery=delivery.id, runs=len(changes))
        self._reconciler.enqueue(keys)
        self._dispatch()
        return True

    def _naming(self, receiver: Receiver) -> list[Key]:
        """Return the workflows of the receiver's sources that name it."""
        loaded = sorted(self._loading.keys())
        return [
            key for key in loaded if key[0] in receiver.sources and self._names(key, receiver.name)
        ]

    def _names(self, key: Key, receiver: str) -> bool:
        declaration = self._loading.declaration(key)
        return declaration is not None and named(declaration, receiver) is not None

    async def _answers(self, key: Key, delivery: Delivery) -> list[Change]:
        declaration = self._loading.declaration(key)
        if declaration is None:
            return []
        made = answer(declaration, self._reconciler.observed(key), delivery, delivery.at)
        completed = await self._reconciler.complete(key, Plan(changes=made), delivery.at)
        return list(completed.changes)
