"""Sources to desired state: snapshots come in, what they declare is kept, what changed is told."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import structlog

from controller import collector, manifest
from controller.clock import Clock
from controller.errors import RefusedError, RondelError, StalledError, TransientError
from controller.manifest.agents import pinned
from controller.manifest.calls import called_first, with_calls
from controller.model.changes import PutSource
from controller.model.condition import SourceStatus, Suspension, WorkflowStatus
from controller.model.run import Event
from controller.model.settings import DaggerSettings, DirectorySource, GitSource, Receiver
from controller.model.source import Declaration, Fault, Snapshot
from controller.model.workflow import History, Input
from controller.observations import Key
from controller.reading import Reading
from controller.reconcile import conditions, desired, keys, upstream
from controller.reconcile.runs import GroupLimit, group_key
from controller.reconcile.webhook import receiver_fault
from controller.recorder import Recorder
from controller.secrets import ConfiguredSecrets
from controller.source.ports import Source
from controller.store import Store

log = structlog.get_logger()

NOTHING: Mapping[str, str] = {}
AGAIN_SECONDS = 5.0  # before a source that crashed is looked at anew
Enqueue: TypeAlias = Callable[[Iterable[Key]], None]


@dataclass(slots=True)
class Place:
    """One source and what is loaded of it."""

    settings: GitSource | DirectorySource
    source: Source
    reading: Reading
    status: SourceStatus
    loaded: desired.Loaded
    remembered: Mapping[str, WorkflowStatus]  # by workflow, until the first snapshot is loaded
    snapshot: Snapshot | None = None
    index: keys.Index | None = None
    digests: dict[str, Mapping[str, str]] = field(default_factory=dict)  # by workflow
    seen: asyncio.Event = field(default_factory=asyncio.Event)  # the first look is over
    missed: frozenset[str] | None = frozenset()  # changes that could not be loaded; None: any
    moved: asyncio.Event = field(default_factory=asyncio.Event)  # its suspension is another one

    @contextmanager
    def whole(self, changed: frozenset[str] | None) -> Iterator[frozenset[str] | None]:
        """Load all of a snapshot or nothing; yields its changes with those missed before it."""
        before, around = replace(self), self.reading.around
        if changed is not None and self.missed is not None:
            changed |= self.missed
        else:
            changed = None
        try:
            yield changed
        except BaseException:
            for name in ("status", "loaded", "remembered", "snapshot", "index", "digests"):
                setattr(self, name, getattr(before, name))
            self.reading.around = around
            self.missed = changed
            raise
        self.missed = frozenset()


class Loading:
    """Holds every source's desired state; implements `execute.ports.Inputs`."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        enqueue: Enqueue,
        arrived: Callable[[], None],
        dagger: DaggerSettings,
        groups: Mapping[str, int],
        secrets: ConfiguredSecrets,
        receivers: Callable[[], Mapping[str, Receiver]],
    ) -> None:
        self._dagger = dagger
        self._groups = groups  # of the configuration: name -> limit
        self._secrets = secrets
        self._receivers = receivers
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._enqueue = enqueue
        self._arrived = arrived  # a first look is over: what waited for it may be claimed
        self._places: dict[str, Place] = {}

    def add(
        self,
        settings: GitSource | DirectorySource,
        source: Source,
        *,
        status: SourceStatus | None,
        remembered: Iterable[WorkflowStatus],
    ) -> None:
        """Take a source in; `status` and `remembered` are what the store knows of it."""
        fresh = SourceStatus(
            name=settings.name, kind=kind_of(settings), location=source.location, ref=ref(settings)
        )
        known = {one.name: one for one in remembered}
        self._places[settings.name] = Place(
            settings=settings,
            source=source,
            reading=Reading(self._store, source, self._dagger.agents, self._name_fault),
            status=renewed(status, fresh, suspend=settings.suspend),
            loaded=desired.Loaded.empty(
                settings.name,
                prune=settings.prune,
                allow_empty=settings.allow_empty,
                owners={name: one.file for name, one in known.items()},
                groups=self._groups,
            ),
            remembered=known,
        )

    async def remove(self, name: str) -> None:
        """Forget a source that isn't followed any more, and close it."""
        await self._places.pop(name).source.close()

    def use_groups(self, groups: Mapping[str, int]) -> None:
        """Limit by these groups of the configuration from now on."""
        self._groups = groups

    async def follow(self, name: str) -> None:
        """Load each snapshot of one source, until cancelled."""
        place = self._places[name]
        while True:
            try:
                if place.status.suspended:
                    await self._recall(place)
                if place.settings.suspend:
                    return  # a reload, which makes another place of it, ends that
                await self._rest(place)
                async for look in place.source.snapshots():
                    await self._rest(place)
                    await self._take(place, look)
            except Exception:
                # A defect met in one source stops no other; its last good state keeps working.
                log.exception("source_crashed", source=name, again_seconds=AGAIN_SECONDS)
            self._looked(place)
            await asyncio.sleep(AGAIN_SECONDS)

    def _looked(self, place: Place) -> None:
        if not place.seen.is_set():
            place.seen.set()
            self._arrived()

    async def _recall(self, place: Place) -> None:
        """Take up every last valid spec, where a first snapshot doesn't come (yet).

        Schedules and limits go on as they were, and runs can be asked for.
        """
        if place.snapshot is None and not place.loaded.declarations:
            known = await self._last_valid(place.remembered.values())
            place.loaded = desired.remembered(place.loaded, known)
            self._enqueue(one.key for one in known)
        self._looked(place)  # nothing is waited for that isn't looked at

    async def _rest(self, place: Place) -> None:
        """Return when the source isn't suspended by a person any more."""
        while (held := place.status.suspension) is not None:
            place.moved.clear()
            left = held.until - self._clock.now() if held.until else None
            try:
                async with asyncio.timeout(left.total_seconds() if left is not None else None):
                    await place.moved.wait()
            except TimeoutError:
                await self.suspend(place.settings.name, None)

    async def suspend(self, name: str, suspension: Suspension | None) -> None:
        """Look at a source no more, or with None again; what is loaded of it stays as it is.

        Raises:
            KeyError: there is no such source.
            RefusedError: the configuration says `suspend: true`.
        """
        place = self._places[name]
        if suspension is None and place.settings.suspend:
            raise RefusedError(
                "the configuration says `suspend: true`",
                where=f"source {name}",
                remedy="change it there",
            )
        suspended = place.settings.suspend or suspension is not None
        place.status = replace(place.status, suspension=suspension, suspended=suspended)
        event = Event(
            at=self._clock.now(),
            reason="SourceSuspended" if suspension else "SourceResumed",
            source=name,
            message=str(suspension or ""),
        )
        await self._recorder.record(PutSource(status=place.status, event=event))
        place.moved.set()
        if suspension is None:
            place.source.look()

    async def _take(self, place: Place, look: Snapshot | Exception) -> None:
        try:
            if isinstance(look, Snapshot):
                with place.whole(look.changed) as changed:
                    await self._load(place, replace(look, changed=changed))
            else:
                await self._failed(place, look)
        except RondelError as error:
            log.error("load_failed", source=place.settings.name, error=str(error))  # noqa: TRY400  # its words say it all
            place.source.look(tell=True)  # the store could not take it: once more
            await asyncio.sleep(1)
        except Exception:
            log.exception("load_crashed", source=place.settings.name)
        self._looked(place)

    async def loaded(self) -> None:
        """Return when every source has been looked at once."""
        for place in tuple(self._places.values()):
            await place.seen.wait()

    def look(self, name: str) -> None:
        """Ask a source for a look now. Raises KeyError when there is no such source."""
        self._places[name].source.look(tell=True)

    def serves(self, name: str) -> bool:
        """Tell whether a source is configured and not suspended."""
        place = self._places.get(name)
        return place is not None and not place.status.suspended

    def sources(self) -> tuple[SourceStatus, ...]:
        return tuple(place.status for place in self._places.values())

    async def close(self) -> None:
        for place in self._places.values():
            await place.source.close()

    # What the reconciler asks.

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
        """Tell whether what a source says of a workflow is known: before, it doesn't count as gone.

        What was taken up from before a restart counts as long as it is what was seen then.
        """
        place = self._places.get(key[0])
        if place is None or place.snapshot is not None:
            return True
        status, declaration = place.remembered.get(key[1]), place.loaded.declarations.get(key[1])
        if status is None or declaration is None or not status.valid:
            return False
        return status.spec_digest == declaration.spec_digest

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

    def _name_fault(self, declaration: Declaration) -> Fault | None:
        """Return what a workflow names that the configuration doesn't give to its source."""
        for secret in declaration.secrets:
            problem = self._secrets.fault(declaration.source, secret)
            if problem is not None:
                remedy = "define it, or list the source in its `sources`, in the configuration"
                return Fault(
                    file=declaration.file, pointer="/spec/secrets", problem=problem, remedy=remedy
                )
        for one in declaration.upstreams:
            place = self._places.get(upstream.key_of(declaration.source, one)[0])
            if "/" in one.workflow and (place is None or not place.settings.exports):
                return Fault(
                    file=declaration.file,
                    pointer="/spec/triggers",
                    problem=f"the source of {one.workflow!r} exports nothing",
                    remedy="set `exports: true` at that source in the configuration",
                )
        for alert in declaration.alerts:
            return Fault(
                file=declaration.file,
                pointer="/spec/onFailure",
                problem=f"there is no alert {alert!r}: this version sends none",
                remedy="let a hook's script send word",
            )
        return receiver_fault(declaration, self._receivers())

    def revision(self, source: str) -> str:
        place = self._places.get(source)
        if place is None:
            return ""
        return place.snapshot.revision if place.snapshot else place.status.last_applied_revision

    def inputs(self, key: Key) -> Mapping[str, str]:
        """Return the digests of a workflow's inputs as they are now; absent ones are left out."""
        place, declaration = self._places.get(key[0]), self.declaration(key)
        if place is None or declaration is None or not declaration.inputs:
            return NOTHING
        if place.snapshot is None:
            status = place.remembered.get(key[1])
            return status.inputs if status else NOTHING
        if key[1] not in place.digests:
            place.digests[key[1]] = digests(place.index, declaration.inputs)
        return place.digests[key[1]]

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

    # One look at a source.

    async def _load(self, place: Place, snapshot: Snapshot) -> None:
        began = self._clock.monotonic()
        place.status = replace(place.status, last_attempted_revision=snapshot.revision)
        gone = {*place.remembered}
        if place.snapshot is None:
            place.loaded = await self._remember(place, snapshot)
        with collector.off():
            known = place.loaded.files
            parsed = await place.reading.read(snapshot, touched(place, snapshot), known)
            place.loaded = desired.advance(place.loaded, told(place, snapshot), parsed)
        moved = self._moved_inputs(place, snapshot)
        place.snapshot = snapshot
        name = place.settings.name
        await self._put(
            place, conditions.applied(place.status, place.loaded, snapshot, self._clock.now())
        )
        gone -= place.loaded.declarations.keys()  # what was there before the first look
        changed = {*place.loaded.changed, *moved, *gone}
        self._enqueue((name, workflow) for workflow in changed)
        log.info(
            "source_loaded",
            source=name,
            revision=snapshot.revision,
            workflows=len(place.loaded.declarations),
            changed=len(changed),
            faults=len(place.loaded.faults),
            seconds=round(self._clock.monotonic() - began, 3),
        )

    async def _failed(self, place: Place, error: Exception) -> None:
        if not isinstance(error, StalledError | TransientError):
            raise error
        log.warning(
            "source_failed", source=place.settings.name, reason=error.reason, error=str(error)
        )
        attempted = place.source.attempted() or place.status.last_attempted_revision
        status = replace(place.status, last_attempted_revision=attempted)
        await self._put(place, conditions.fetch_failed(status, error, self._clock.now()))
        await self._recall(place)

    async def _put(self, place: Place, status: SourceStatus) -> None:
        if status != place.status or place.snapshot is None:
            await self._recorder.record(PutSource(status=status))
        place.status = status

    async def _remember(self, place: Place, snapshot: Snapshot) -> desired.Loaded:
        """Take up what was loaded before a restart, where the files say something else by now.

        A manifest that is broken or can't be read keeps its last valid spec; one that is gone
        retires as it would have done while we looked.
        """
        moved = [one for one in place.remembered.values() if is_moved(one, snapshot)]
        place.remembered = {}
        return desired.remembered(place.loaded, await self._last_valid(moved))

    async def _last_valid(self, statuses: Iterable[WorkflowStatus]) -> list[Declaration]:
        wanted = [one for one in statuses if one.blob]
        blobs = {one.blob for one in wanted}
        index = await self._store.parsed(blobs, manifest.READER_VERSION) if blobs else {}
        return [known for one in wanted if (known := last_valid(one, index)) is not None]

    def _moved_inputs(self, place: Place, snapshot: Snapshot) -> set[str]:
        """Return the workflows whose declared inputs are not what they were."""
        previous, place.index = place.digests, keys.Index(snapshot.entries)
        place.digests = {}
        moved = set()
        for workflow, declaration in place.loaded.declarations.items():
            if not declaration.inputs:
                continue
            if workflow in previous and not concerns(snapshot.changed, declaration.inputs):
                place.digests[workflow] = previous[workflow]
                continue
            place.digests[workflow] = digests(place.index, declaration.inputs)
            if previous.get(workflow) != place.digests[workflow]:
                moved.add(workflow)
        return moved


def kind_of(settings: GitSource | DirectorySource) -> str:
    return "Git" if isinstance(settings, GitSource) else "Directory"


def ref(settings: GitSource | DirectorySource) -> str:
    return settings.ref.text if isinstance(settings, GitSource) else ""


def renewed(old: SourceStatus | None, fresh: SourceStatus, *, suspend: bool) -> SourceStatus:
    """Another place or ref under an old name is another generation of the source."""
    if old is None:
        return replace(fresh, suspended=suspend)
    same = (old.kind, old.location, old.ref) == (fresh.kind, fresh.location, fresh.ref)
    status = old if same else replace(fresh, generation=old.generation + 1)
    suspended = suspend or old.suspension is not None
    return replace(status, suspension=old.suspension, suspended=suspended)


def told(place: Place, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with what is wrong between its files among its faults."""
    between = place.reading.around.faults()
    return replace(snapshot, faults=(*snapshot.faults, *between)) if between else snapshot


def touched(place: Place, snapshot: Snapshot) -> list[str]:
    """Return the manifests to look at: all on the first look, else those that changed."""
    if snapshot.changed is None or place.snapshot is None:
        before = place.snapshot.entries if place.snapshot else place.loaded.files
        return [path for path in {**before, **snapshot.entries} if is_manifest(path, snapshot)]
    return [path for path in snapshot.changed if is_manifest(path, snapshot)]


def is_moved(status: WorkflowStatus, snapshot: Snapshot) -> bool:
    """Tell whether a workflow's file may not be what its last valid spec was read from.

    With something around it that may be broken by now, nobody knows.
    """
    entry = snapshot.entries.get(status.file)
    return bool(status.blob) and (entry is None or entry.blob != status.blob or not status.valid)


def last_valid(status: WorkflowStatus, index: Mapping[str, str]) -> Declaration | None:
    """Return the declaration that a workflow had, if the parse cache still has it."""
    if status.blob not in index:
        return None
    parsed = manifest.decode(
        index[status.blob], source=status.source, path=status.file, blob=status.blob
    )
    named = (one.declaration for one in parsed.documents if one.name == status.name)
    return next(named, None)


def is_manifest(path: str, snapshot: Snapshot) -> bool:
    if not path.endswith((".yaml", ".yml")):
        return False
    folder = snapshot.manifests
    if folder and not path.startswith(folder + "/"):
        return False
    return not any(part.startswith(".") for part in path.split("/"))


def concerns(changed: frozenset[str] | None, inputs: Iterable[Input]) -> bool:
    """Tell whether one of these inputs may hold a path that changed."""
    if changed is None:
        return True
    return any(keys.within(path, one.path) for path in changed for one in inputs)


def digests(index: keys.Index | None, inputs: Iterable[Input]) -> Mapping[str, str]:
    if index is None:
        return NOTHING
    found = {one.name: index.digest(one) for one in inputs}
    return {name: digest for name, digest in found.items() if digest is not None}
