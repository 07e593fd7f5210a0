"""What a source is to the rest of the house: snapshots out, file contents and inputs on demand."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from controller.model.source import Snapshot
from controller.model.workflow import Input


class Source(Protocol):
    """One configured place. Both kinds keep their last good snapshot through any trouble."""

    @property
    def name(self) -> str: ...

    @property
    def location(self) -> str:
        """The folder, or the URL without credentials."""
        ...

    def snapshots(self) -> AsyncGenerator[Snapshot | Exception]:
        """Yield the first snapshot, then one whenever something changed.

        A look that failed is yielded as StalledError or TransientError (reason as the
        condition's) and the source goes on by itself; repeated equal failures are yielded once.
        A failure that is over is followed by a snapshot, also when nothing else changed.
        """
        ...

    def attempted(self) -> str:
        """Return the revision last tried, also when it could not be read; "" for none."""
        ...

    def look(self, *, tell: bool = False) -> int:
        """Ask for a look at the place now (reconcile); return the request's number at once.

        With `tell` what it finds is yielded, also when nothing changed or the failure is old, and
        `answered` reaches the number; without, nobody waits for it and there is none (0).
        """
        ...

    def answered(self) -> int:
        """Return the number of the last request that what was yielded last is an answer to."""
        ...

    async def at(self, revision: str | None) -> Snapshot:
        """Return the files of a revision, applied or not; None: of the newest one.

        Nothing that follows the source hears of it, and no signature is checked.

        Raises:
            UsageError: a folder has no revisions.
            StalledError, TransientError: there is no such revision, or it can't be had.
        """
        ...

    async def read(self, snapshot: Snapshot, paths: Iterable[str]) -> Mapping[str, bytes]:
        """Return the contents as they are in `snapshot`; a path that is gone is left out."""
        ...

    async def materialise(self, revision: str, wanted: Input, target: Path) -> str:
        """Write the input's files at `target`; see execute.ports.Inputs."""
        ...

    async def close(self) -> None: ...
