"""Every state change passes here once: written by the store, then seen by all who follow."""

from collections.abc import Callable, Collection, Iterable
from typing import Protocol, TypeAlias

import structlog

from controller.model.changes import Change, Together
from controller.observations import Observations
from controller.store import Store

log = structlog.get_logger()

Follower: TypeAlias = Callable[[Change], None]
"""Told of each applied change after it is on disk: the log, the metrics, the dispatcher."""


class Companion(Protocol):
    """Decides what is written together with changes: what the outside is to be told."""

    def accompanied(self, changes: Collection[Change]) -> tuple[Change, ...]:
        """Return each change, alone or `Together` with what stands beside it. Never raises."""
        ...

    def follow(self, change: Change) -> None:
        """Be told of each written change, and of what stood beside it."""
        ...


class Recorder:
    """The daemon's ledger; implements `execute.ports.Ledger`."""

    def __init__(
        self, store: Store, observations: Observations, followers: Iterable[Follower] = ()
    ) -> None:
        self._store = store
        self._observations = observations
        self._followers = list(followers)
        self._companion: Companion | None = None
        self._completed: Callable[[Change], Change] = lambda change: change

    def accompany(self, companion: Companion) -> None:
        """Write what `companion` says beside each change from now on."""
        self._companion = companion
        self.follow(companion.follow)

    def complete_with(self, completed: Callable[[Change], Change]) -> None:
        """Have each change completed by what is written in the same transaction."""
        self._completed = completed

    def follow(self, follower: Follower) -> None:
        self._followers.append(follower)

    async def record(self, *changes: Change) -> tuple[bool, ...]:
        """Write the changes in one transaction; return which were applied."""
        changes = tuple(map(self._completed, changes))
        written = self._companion.accompanied(changes) if self._companion else changes
        applied = await self._store.record(*written)
        for change, one, done in zip(changes, written, applied, strict=True):
            if done:
                self._observations.apply(change)
                self._tell(change)
                if isinstance(one, Together):
                    for beside in one.beside:
                        self._tell(beside)
        return applied

    def _tell(self, change: Change) -> None:
        """What is written is true, whatever a follower makes of it: its defect fails no run."""
        for follower in self._followers:
            try:
                follower(change)
            except Exception:
                log.exception("follower_crashed", change=type(change).__name__)
