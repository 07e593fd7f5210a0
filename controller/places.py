"""What is loaded of every source: what the planner, the dispatcher and runs ask of it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from controller import manifest
from controller.errors import StalledError
from controller.manifest.agents import pinned
from controller.manifest.calls import called_first, with_calls
from controller.model.condition import SourceStatus, WorkflowStatus
from controller.model.settings import DaggerSettings, DirectorySource, GitSource
from controller.model.source import Declaration, Fault
from controller.model.workflow import History, Input
from controller.observations import Key
from controller.place import NOTHING, Place, last_valid
from controller.reconcile.runs import GroupLimit, group_key
from controller.reconcile.sharing import shared
from controller.source import Source
from controller.store import Store


class Places:
    """Holds every source's desired state; implements `execute.ports.Inputs`."""

    def __init__(self, store: Store, *, dagger: DaggerSettings, groups: Mapping[str, int]) -> None:
        self._store = store
        self._dagger = dagger
        self._groups = groups  # of the configuration: name -> limit
        self._places: dict[str, Place] = {}

    async def close(self) -> None:
        for place in self._places.values():
            await place.source.close()

    def serves(self, name: str) -> bool:
        """Tell whether a source is configured and not suspended."""
        place = self._places.get(name)
        return place is not None and not place.status.suspended

    def _exports(self, source: str) -> bool:
        """Tell whether workflows of other sources may name those of this one."""
        place = self._places.get(source)
        return place is not None and place.settings.exports

    def sources(self) -> tuple[SourceStatus, ...]:
        return tuple(place.status for place in self._places.values())

    async def loaded(self) -> None:
        """Return when every source has been looked at once."""
        for place in tuple(self._places.values()):
            await place.seen.wait()

    def _shared(self) -> Mapping[str, tuple[str, ...]]:
        """Return which sources read the same manifests, of those that have been read."""
        places = self._places.items()
        return shared({name: place.reach for name, place in places if place.snapshot is not None})

    def keys(self) -> tuple[Key, ...]:
        return tuple(
            (name, workflow)
            for name, place in self._places.items()
            for workflow in place.loaded.declarations
        )

    def declaration(self, key: Key) -> Declaration | None:
        place = self._places.get(key[0])
        return place.loaded.declarations.get(key[1]) if place else None

    def histories(self) -> dict[Key, History]:
        """Return what each declared workflow says of its own history."""
        return {
            one.key: one.history
            for place in self._places.values()
            for one in place.loaded.declarations.values()
        }

    def known(self, key: Key) -> bool:
        """Tell whether what a source says of a workflow is known; before, it isn't gone."""
        place = self._places.get(key[0])
        return place is None or place.knows(key[1])

    def whole(self, source: str) -> bool:
        """Tell whether all that a source declares is known; what is remembered may be a part."""
        place = self._places.get(source)
        return place is None or place.snapshot is not None

    def expected(self, source: str) -> bool:
        """Tell whether a first look is still to come: until then nobody knows its limits."""
        place = self._places.get(source)
        return place is not None and not place.seen.is_set()

    def held(self, key: Key) -> bool:
        """Tell whether a workflow that isn't declared is nevertheless not known to be gone."""
        place = self._places.get(key[0])
        return place.loaded.holds(key[1]) if place else False

    def orphaned(self, key: Key) -> bool:
        """Tell whether a workflow goes on although its manifest is gone."""
        place = self._places.get(key[0])
        return place is not None and place.loaded.is_orphaned(key[1])

    def fault(self, key: Key) -> Fault | None:
        """Return what is wrong with a workflow's newest text, or with the names it uses."""
        place = self._places.get(key[0])
        if place is None:
            return None
        return place.loaded.invalid.get(key[1])

    def group_limit(self, key: Key) -> GroupLimit | None:
        """Return the group that runs of a workflow have to find room in, if it names one."""
        declaration = self.declaration(key)
        if declaration is None or declaration.concurrency is None:
            return None
        group, limits = declaration.concurrency.group, self._places[key[0]].loaded.limits
        limit = self._groups.get(group) or limits.get(group, 1)  # 1: lost before the last start
        return GroupLimit(group_key(key[0], group, self._groups), limit)

    def followed(self, source: str) -> tuple[GitSource | DirectorySource, Source] | None:
        """Return a source that is followed, and how it is configured."""
        place = self._places.get(source)
        return (place.settings, place.source) if place is not None else None

    def revision(self, source: str) -> str:
        place = self._places.get(source)
        return place.revision if place else ""

    def inputs(self, key: Key) -> Mapping[str, str]:
        """Return the digests of a workflow's inputs as they are now; absent ones are left out."""
        place, declaration = self._places.get(key[0]), self.declaration(key)
        if place is None or declaration is None or not declaration.inputs:
            return NOTHING
        return place.inputs(declaration)

    async def body(self, key: Key) -> str:
        """Return the manifest that a run of this workflow is pinned to, as canonical JSON.

        Those that it calls are pinned with it.

        Raises:
            StalledError: ManifestGone, when it is neither in the store nor in its source;
                CallUnknown, CallsTooDeep, CallsTooLarge.
        """
        source, wanted = key
        bodies: dict[str, str] = {}
        for name in called_first(wanted, lambda one: self._calls(source, one, wanted)):
            bodies[name] = with_calls(await self._own_body((source, name)), bodies)
        return bodies[wanted]

    def _calls(self, source: str, name: str, wanted: str) -> tuple[str, ...]:
        declaration = self.declaration((source, name))
        if declaration is None and name != wanted:
            raise StalledError(
                f"calls {name!r}, which is not loaded",
                where=f"{source}/{wanted}",
                reason="CallUnknown",
                remedy="commit its manifest, or mend it",
            )
        return declaration.calls if declaration else ()

    async def _own_body(self, key: Key) -> str:
        declaration = self.declaration(key)
        place = self._places.get(key[0])
        if declaration is None or place is None:
            raise StalledError("is not loaded", where="/".join(key), reason="ManifestGone")
        stored = await self._store.body(
            declaration.blob, manifest.READER_VERSION, declaration.document
        )
        body = stored or await self._read_again(place, declaration)
        return pinned(body, self._dagger, place.reading.around.agents)

    async def _read_again(self, place: Place, declaration: Declaration) -> str:
        """The parse cache was trimmed: its source still has the file."""
        if place.snapshot is not None:
            body = await place.reading.body(place.snapshot, declaration)
            if body is not None:
                return body
        raise StalledError(
            "its manifest can't be read any more",
            where=f"{declaration.source}/{declaration.name}",
            reason="ManifestGone",
        )

    def lasting(self, source: str) -> bool:
        place = self._places.get(source)
        return place is not None and isinstance(place.settings, GitSource)

    async def materialise(self, source: str, revision: str, wanted: Input, target: Path) -> str:
        place = self._places.get(source)
        if place is None:
            raise StalledError("is no longer configured", where=source, reason="SourceGone")
        return await place.source.materialise(revision, wanted, target)

    async def _last_valid(self, statuses: Iterable[WorkflowStatus]) -> list[Declaration]:
        wanted = [one for one in statuses if one.blob]
        blobs = {one.blob for one in wanted}
        index = await self._store.parsed(blobs, manifest.READER_VERSION) if blobs else {}
        return [known for one in wanted if (known := last_valid(one, index)) is not None]
