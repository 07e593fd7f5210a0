"""What is kept of the past stays within its limits: histories, blobs, caches, what crashes left."""

import asyncio
import shutil
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from controller import layout
from controller.clock import Clock
from controller.errors import RondelError
from controller.execute.local.caches import Caches
from controller.execute.local.executor import user_ids
from controller.model.settings import Settings
from controller.model.workflow import History
from controller.observations import Key
from controller.store import Store
from controller.store.retention import Keep

log = structlog.get_logger()

LEFT_BEHIND = timedelta(days=1)
"""How old a run's folder must be before it counts as left behind by a crash."""


async def housekeep(
    settings: Settings, store: Store, clock: Clock, declared: Mapping[Key, History]
) -> None:
    """Drop what is beyond its limits, beside all that runs; `declared` says whose are their own.

    What can't be dropped now is told, and dropped another time.
    """
    try:
        runs = await store.housekeep(keep_of(settings), declared)
        told = await store.read(lambda reader: (reader.run_ids(), reader.active()))
    except RondelError as error:
        log.warning("housekeeping_failed", error=str(error))
        return
    known, active = told[0], {run.id for run in told[1]}
    try:
        left = await asyncio.to_thread(sweep, settings, clock.now(), known, active)
    except (OSError, RondelError) as error:
        log.warning("housekeeping_failed", error=str(error))
        return
    log.debug("housekeeping_done", runs=runs, folders=left)


def keep_of(settings: Settings) -> Keep:
    """Return the configuration's limits."""
    return Keep(
        successful=settings.history_successful,
        failed=settings.history_failed,
        ttl=settings.history_ttl,
        results_size=settings.dagger.cache_max_size,
    )


def sweep(
    settings: Settings, now: datetime, known: Collection[str], active: Collection[str]
) -> int:
    """Remove the folders that nobody will use again; return how many.

    `known` are the runs that the store keeps, `active` those of them that go on: a log may still
    wait to be sealed when its run is over, a workspace is nobody's then.
    """
    state_dir, before = Path(settings.state_dir), (now - LEFT_BEHIND).timestamp()
    left = [
        *_left(layout.logs(state_dir), known, before),
        *_left(layout.work(state_dir), active, before),
    ]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)  # what stays is seen again next time
    caches = Caches(state_dir, user_ids(settings.local_user))
    return len(left) + caches.prune((now - settings.history_ttl).timestamp())


def _left(place: Path, used: Collection[str], before: float) -> Iterator[Path]:
    """Yield the runs' folders here that are old and of no run that is `used`."""
    for folder in place.glob("*/"):
        if folder.name not in used and _touched(folder) < before:
            yield folder


def _touched(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # its run ended this very moment
        return float("inf")
