"""What would follow from a revision of a source that a controller follows."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from controller.clock import Clock
from controller.errors import StalledError, UsageError
from controller.loading import Loading
from controller.model.settings import Settings
from controller.plan_view import as_json
from controller.reconcile.preview import Side
from controller.sides import Comparison, Sides
from controller.source import Source
from controller.store import Store

AT_ONCE = 1
"""How many plans are made at once: each may hold a core for most of a second."""


class Planning:
    """Compares revisions for people who ask; changes nothing."""

    def __init__(
        self, *, loading: Loading, store: Store, settings: Callable[[], Settings], clock: Clock
    ) -> None:
        self._loading = loading
        self._store = store
        self._settings = settings
        self._clock = clock
        self._room = asyncio.Semaphore(AT_ONCE)

    async def plan(self, source: str | None, base: str | None, head: str | None) -> dict[str, Any]:
        """Return what follows, as `rondel plan -o json` prints it.

        Args:
            source: its name; None: every source.
            base: a revision; None: what is loaded.
            head: a revision; None: the newest one.

        Raises:
            UsageError: there is no such source, or it is a folder and a revision is named.
            StalledError, TransientError: there is no such revision, or it can't be had.
        """
        names = [one.name for one in self._settings().sources] if source is None else [source]
        async with self._room:
            results = [await self._compared(name, base, head) for name in names]
        return as_json(results, base, head)

    async def _compared(self, name: str, base: str | None, head: str | None) -> Comparison:
        found = self._loading.followed(name)
        if found is None:
            raise UsageError(f"there is no source {name!r}")
        configured, source = found
        sides = Sides(configured, self._settings())
        after = await self._side(sides, source, head)
        before = await self._side(sides, source, base) if base is not None else None
        return await self._store.read(
            lambda reader: asyncio.run(sides.compare(before, after, reader, self._clock))
        )

    async def _side(self, sides: Sides, source: Source, revision: str | None) -> Side:
        try:
            snapshot = await source.at(revision)
        except StalledError as error:
            if error.reason != "RefNotFound":
                raise
            raise UsageError(error.problem, where=error.where, remedy=error.remedy) from error
        contents = await source.read(snapshot, sides.unread(snapshot.entries))
        texts = {snapshot.entries[path].blob: text for path, text in contents.items()}

        async def read(_: Mapping[str, str]) -> Mapping[str, bytes]:
            return texts

        return await asyncio.to_thread(lambda: asyncio.run(sides.side(snapshot.entries, read)))
