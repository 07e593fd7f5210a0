"""Git LFS in one source's snapshots: an object stands where its pointer stood, by its SHA-256."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from controller.errors import TransientError
from controller.model.source import Entry, Fault
from controller.source.depot import Damaged, Depot
from controller.source.files import refused
from controller.source.objects import Objects, Tree, permissions
from controller.source.pointers import LONGEST, SHORTEST, Pointer, claims_to_be, is_large, pointer

REMEDY = "commit the file itself, or as Git LFS has it since version 1 without extensions"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Looked:
    """What the small files of one mirror's last tree were, by Git's ids."""

    plain: frozenset[str] = frozenset()
    pointers: Mapping[str, bytes] = field(default_factory=dict)


class LargeFiles:
    """The LFS objects of one source's trees, those of its submodules among them."""

    def __init__(self) -> None:
        self._looked: dict[Path, Looked] = {}
        self._known: dict[str, tuple[Depot, Pointer]] = {}  # of the newest tree, and of late
        self._late: set[str] = set()  # seen since the newest tree was loaded: by a run, a plan

    async def resolved(self, tree: Tree, objects: Objects, depot: Depot) -> Tree:
        """Return a tree with objects instead of their pointers; nothing is fetched.

        Raises:
            GitError: a file's blob is missing.
        """
        pointers = await self._pointers(tree, objects, depot.folder)
        if not pointers:
            return tree
        entries, faults = dict(tree.entries), list(tree.faults)
        for path, entry in tree.entries.items():
            if entry.blob in pointers:
                self._put(path, pointers[entry.blob], depot, entries, faults)
        return replace(tree, entries=entries, faults=tuple(faults))

    def _put(
        self,
        path: str,
        data: bytes,
        depot: Depot,
        entries: dict[str, Entry],
        faults: list[Fault],
    ) -> None:
        try:
            one = pointer(data, path)
        except ValueError as error:
            del entries[path]
            faults.append(refused(path, str(error), REMEDY))
            return
        self._known[one.oid] = (depot, one)
        self._late.add(one.oid)
        entries[path] = entries[path]._replace(blob=one.oid)

    async def _pointers(self, tree: Tree, objects: Objects, folder: Path) -> Mapping[str, bytes]:
        """Return what claims to be a pointer, by blob; what was looked at before isn't again."""
        before = self._looked.get(folder, Looked())
        blobs = {entry.blob for entry in tree.entries.values()}
        new = blobs - before.plain - before.pointers.keys()
        small = await objects.sized(new, SHORTEST, LONGEST)
        found = await objects.contents(small)
        pointers = {blob: data for blob, data in found.items() if claims_to_be(data)}
        pointers |= {blob: data for blob, data in before.pointers.items() if blob in blobs}
        self._looked[folder] = Looked(frozenset(blobs - pointers.keys()), pointers)
        return pointers

    def hold(self, entries: Mapping[str, Entry]) -> None:
        """Let go of no object of these files, and of no others.

        What others are is remembered until the next tree: a run may be about to write them.
        """
        held = defaultdict(set)
        for entry in entries.values():
            if is_large(entry.blob):
                held[self._of(entry.blob)[0]].add(entry.blob)
        for depot in {depot for depot, _ in self._known.values()}:
            depot.held[self] = frozenset(held.get(depot, ()))
        kept = self._late.union(*held.values())
        self._known = {oid: one for oid, one in self._known.items() if oid in kept}
        self._late = set()

    def _of(self, blob: str) -> tuple[Depot, Pointer]:
        """Return where an object of a tree is. Raises TransientError: it was of a tree long ago."""
        if blob not in self._known:
            problem = f"the LFS object {blob} was let go of meanwhile"
            raise TransientError(problem, reason="SourceUnavailable")
        return self._known[blob]

    # Contents.

    async def have(self, blobs: Iterable[str]) -> None:
        """See that objects are here. Raises StalledError, TransientError: one can't be had."""
        wanted: dict[Depot, set[Pointer]] = defaultdict(set)
        for blob in blobs:
            depot, one = self._of(blob)
            wanted[depot].add(one)
        for depot, pointers in wanted.items():
            await depot.have(pointers)

    async def contents(self, blobs: Collection[str], limit: int) -> dict[str, bytes]:
        """Return objects; of one that is larger than `limit` only as many bytes, not its own."""
        small = [blob for blob in blobs if self._of(blob)[1].size < limit]
        await self.have(small)
        found = dict.fromkeys(blobs, bytes(limit))
        for blob in small:
            found[blob] = await self._whole(blob, lambda depot, one: depot.content(one))
        return found

    async def write(self, files: Mapping[str, Entry], target: Path) -> None:
        """Write files as `Objects.write` does."""
        await self.have({entry.blob for entry in files.values()})
        for path, entry in files.items():
            place = target / path if path else target
            place.parent.mkdir(parents=True, exist_ok=True)
            await self._whole(entry.blob, writing(place))
            place.chmod(permissions(entry.mode))

    async def _whole(self, blob: str, act: Callable[[Depot, Pointer], T]) -> T:
        """Return what comes of an object; one that was damaged on this disk is fetched anew."""
        depot, one = self._of(blob)
        try:
            return await asyncio.to_thread(act, depot, one)
        except Damaged:
            await depot.have([one])
            return await asyncio.to_thread(act, depot, one)


def writing(place: Path) -> Callable[[Depot, Pointer], None]:
    return lambda depot, one: depot.write(one, place)
