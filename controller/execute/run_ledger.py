"""A run's ledger that spares transactions: what can wait rides along with the next record.

Finished logs become blobs while the run goes on, and their rows wait for it too.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import structlog

from controller.errors import RondelError
from controller.execute.ports import Blobs, Ledger
from controller.model.changes import Change, SealLog
from controller.model.run import Attempt

Sealing: TypeAlias = asyncio.Task[SealLog | None]

log = structlog.get_logger()


class RunLedger:
    """Records what happens in one run; implements `execute.ports.Ledger`."""

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._deferred: list[Change] = []
        self._kept: list[tuple[SealLog, Path]] = []
        self._tasks: set[Sealing] = set()

    async def record(self, *changes: Change) -> tuple[bool, ...]:
        """Write what was deferred, the changes, and the seals that are ready, in one transaction.

        With nothing to write, nothing is asked of the store.
        """
        deferred, self._deferred = self._deferred, []
        kept, self._kept = self._kept, []
        seals = [seal for seal, _ in kept]
        if not (deferred or changes or seals):
            return ()
        applied = await self._ledger.record(*deferred, *changes, *seals)
        for _, path in kept:
            forget(path)
        return applied[len(deferred) : len(deferred) + len(changes)]

    def defer(self, *changes: Change) -> None:
        """Write these first thing with the next record; one follows soon, by whoever decides."""
        self._deferred += changes

    def seal(self, path: Path, attempt: Attempt, *, truncated: bool) -> Sealing | None:
        """Keep a segment as a blob, beside what runs; most steps of a chain have none.

        The task returns what it has become, None when it could not be kept.
        """
        if not path.exists():
            return None
        task = asyncio.create_task(self._keep(path, attempt, truncated=truncated))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep(self, path: Path, attempt: Attempt, *, truncated: bool) -> SealLog | None:
        size = path.stat().st_size  # noqa: ASYNC240 - a microsecond of a local file
        try:
            name = await self._blobs.put_path(path)
        except RondelError as error:  # the run is not to blame, and its segment stays readable
            log.warning("log_not_sealed", run=attempt.run, step=attempt.step, error=str(error))
            return None
        seal = SealLog(
            run=attempt.run,
            step=attempt.step,
            index=attempt.index,
            number=attempt.number,
            log=name,
            size=size,
            truncated=truncated,
        )
        self._kept.append((seal, path))
        return seal

    async def settled(self) -> None:
        """Wait until every log is a blob; `record` writes their rows."""
        while self._tasks:
            await asyncio.wait(self._tasks)


def forget(path: Path) -> None:
    """Remove a segment whose blob the store knows, and the run's folder with its last one."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()
