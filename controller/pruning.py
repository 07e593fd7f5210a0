"""Forgetting results of steps by a person's wish: from the command line or through the API."""

from datetime import datetime

from controller.execute.ports import Ledger
from controller.model.cache import CacheEntry, Prune
from controller.model.changes import DropCacheEntries
from controller.store import Store
from controller.store.results import prunable


async def prune(store: Store, ledger: Ledger, wish: Prune, now: datetime) -> list[CacheEntry]:
    """Forget what `wish` says; return it. Blobs that nothing names any more go by themselves."""
    found = await store.read(lambda reader: prunable(reader, wish, now))
    return await forget(ledger, found, "Pruned", now)


async def forget(
    ledger: Ledger, entries: list[CacheEntry], reason: str, now: datetime
) -> list[CacheEntry]:
    """Forget these; return them."""
    keys = tuple((one.source, one.ref, one.key) for one in entries)
    if keys:
        await ledger.record(DropCacheEntries(keys=keys, reason=reason, at=now))
    return entries
