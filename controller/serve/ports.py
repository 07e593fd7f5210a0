"""What the doors need of the house."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from controller.model.cache import CacheEntry, Prune
from controller.model.condition import SourceStatus, Suspension
from controller.model.run import Run
from controller.model.workflow import Json
from controller.reconcile.backfill import Wish

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether the controller can do its work, and why not."""

    ok: bool
    checks: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining:
    """Whether the controller claims no run any more; how many run still, and how many wait."""

    draining: bool
    running: int
    waiting: int


class Controller(Protocol):
    """What people may ask of the daemon."""

    async def run(
        self,
        source: str,
        workflow: str,
        params: Mapping[str, Json],
        *,
        fresh: bool = False,
        queue: bool = False,
        key: str | None = None,
    ) -> Run:
        """Create a manual run. Raises UsageError, RefusedError."""
        ...

    async def backfill(
        self, source: str, workflow: str, wish: Wish, *, dry_run: bool = False
    ) -> tuple[list[Run], int]:
        """Create a run for each slot; return them, and how many are new.

        Raises UsageError, RefusedError.
        """
        ...

    async def cancel_backfill(self, backfill: str, *, now: bool = False) -> int:
        """Cancel what is left of a backfill; return how many runs. Raises RefusedError."""
        ...

    async def retry(self, run_id: str, *, queue: bool = False) -> Run:
        """Set an ended run back to Pending. Raises UsageError, RefusedError."""
        ...

    async def rerun(
        self,
        run_id: str,
        *,
        step: str | None = None,
        latest: bool = False,
        queue: bool = False,
        key: str | None = None,
    ) -> Run:
        """Create a new run as recorded, or as it is now. Raises UsageError, RefusedError."""
        ...

    async def cancel(self, run_id: str, *, now: bool = False) -> bool:
        """Cancel a run; false when it is over."""
        ...

    async def prune_cache(self, wish: Prune) -> list[CacheEntry]:
        """Forget kept results of steps; return them."""
        ...

    async def suspend(
        self, source: str, workflow: str | None, suspension: Suspension | None
    ) -> str | None:
        """Suspend a workflow or a source; None resumes it. Return what else suspends it still.

        Raises UsageError, RefusedError.
        """
        ...

    def reconcile(self, source: str) -> int:
        """Have a source looked at now; return the request's number.

        Raises UsageError, RefusedError.
        """
        ...

    async def reconciled(self, source: str, request: int, seconds: float) -> SourceStatus | None:
        """Return the source's status once a request is answered; None after so many seconds.

        Raises UsageError, RefusedError.
        """
        ...

    async def plan(
        self, source: str | None, base: str | None, head: str | None
    ) -> Mapping[str, Json]:
        """Return which work would follow from a revision; None: what is loaded, the newest.

        Raises UsageError, StalledError, TransientError.
        """
        ...

    async def drain(self, *, undo: bool = False) -> Draining:
        """Claim no run any more; with `undo` claim again."""
        ...

    def draining(self) -> Draining:
        """Return whether runs are claimed, and how many run and wait."""
        ...

    async def readiness(self) -> Readiness:
        """Look whether the work can be done, and what stands in its way."""
        ...


class Outcome(StrEnum):
    """What became of a webhook."""

    TAKEN = "Taken"
    NOTHING = "Nothing"  # a ping: it was signed, and asks for nothing
    REPEATED = "Repeated"
    REFUSED = "Refused"


class Deliveries(Protocol):
    """Who takes webhooks."""

    def admits(self, peer: str) -> bool:
        """Tell whether one more webhook of this address is looked at now."""
        ...

    async def accept(self, receiver: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Take a webhook when its signature holds: what it starts is kept when this returns.

        `headers` are by their names in lower case. Raises TransientError when it can't be kept.
        """
        ...


class Records(Protocol):
    """What has happened; `Store` is one."""

    async def read(self, look: Callable[[Any], T]) -> T:
        """Return what `look` returns for a reader of the store."""
        ...
