"""Sources to desired state: snapshots come in, what they declare is kept, what changed is told."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import structlog

from controller import collector, manifest
from controller.clock import Clock
from controller.errors import RondelError, StalledError, TransientError
from controller.manifest.agents import pinned
from controller.model.changes import PutSource
from controller.model.condition import SourceStatus, WorkflowStatus
from controller.model.settings import DaggerSettings, DirectorySource, GitSource
from controller.model.source import Declaration, Fault, ParsedFile, Snapshot
from controller.model.workflow import Input
from controller.observations import Key
from controller.reconcile import conditions, desired, keys
from controller.recorder import Recorder
from controller.secrets import ConfiguredSecrets
from controller.source.ports import Source
from controller.store import Store

log = structlog.get_logger()

NOTHING: Mapping[str, str] = {}
AGAIN_SECONDS = 5.0  # before a source that crashed is looked at anew
PARSE_BATCH = 50  # files between two breaths of the event loop: some 20 ms
Enqueue: TypeAlias = Callable[[Iterable[Key]], None]


@dataclass(slots=True)
class Place:
    """One source and what is loaded of it."""

    settings: GitSource | DirectorySource
    source: Source
    status: SourceStatus
    loaded: desired.Loaded
    remembered: tuple[WorkflowStatus, ...]  # until the first snapshot is loaded
    snapshot: Snapshot | None = None
    index: keys.Index | None = None
    digests: dict[str, Mapping[str, str]] = field(default_factory=dict)  # by workflow
    seen: asyncio.Event = field(default_factory=asyncio.Event)  # the first look is over


class Loading:
    """Holds every source's desired state; implements `execute.ports.Inputs`."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        enqueue: Enqueue,
        dagger: DaggerSettings,
        secrets: ConfiguredSecrets,
    ) -> None:
        self._dagger = dagger
        self._secrets = secrets
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._enqueue = enqueue
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
        self._places[settings.name] = Place(
            settings=settings,
            source=source,
            status=renewed(status, fresh),
            loaded=desired.Loaded.empty(
                settings.name,
                prune=settings.prune,
                allow_empty=settings.allow_empty,
                owners={one.name: one.file for one in remembered},
            ),
            remembered=tuple(remembered),
        )
        if settings.suspend:
            self._places[settings.name].seen.set()  # nothing is waited for that isn't looked at

    async def follow(self, name: str) -> None:
        """Load each snapshot of one source, until cancelled."""
        place = self._places[name]
        while True:
            try:
                async for look in place.source.snapshots():
                    await self._take(place, look)
            except Exception:
                # A defect met in one source stops no other; its last good state keeps working.
                log.exception("source_crashed", source=name, again_seconds=AGAIN_SECONDS)
            place.seen.set()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _take(self, place: Place, look: Snapshot | Exception) -> None:
        try:
            if isinstance(look, Snapshot):
                await self._load(place, look)
            else:
                await self._failed(place, look)
        except RondelError as error:
            log.error("load_failed", source=place.settings.name, error=str(error))  # noqa: TRY400  # its words say it all
            place.source.look(tell=True)  # the store could not take it: once more
            await asyncio.sleep(1)
        except Exception:
            log.exception("load_crashed", source=place.settings.name)
        place.seen.set()

    async def loaded(self) -> None:
        """Return when every source has been looked at once."""
        for place in self._places.values():
            await place.seen.wait()

    def look(self, name: str) -> None:
        """Ask a source for a look now. Raises KeyError when there is no such source."""
        self._places[name].source.look(tell=True)

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

    def known(self, source: str) -> bool:
        """Tell whether a source's content is known: before that, nothing of it counts as gone."""
        place = self._places.get(source)
        return place is None or place.snapshot is not None

    def held(self, key: Key) -> bool:
        """Tell whether a workflow that isn't declared is nevertheless not known to be gone."""
        place = self._places.get(key[0])
        return place.loaded.holds(key[1]) if place else False

    def fault(self, key: Key) -> Fault | None:
        """Return what is wrong with a workflow's newest text, or with the names it uses."""
        place = self._places.get(key[0])
        if place is None:
            return None
        return place.loaded.invalid.get(key[1]) or self._name_fault(place, key[1])

    def _name_fault(self, place: Place, name: str) -> Fault | None:
        """A secret that the configuration doesn't give to this source: no run could have it."""
        declaration = place.loaded.declarations.get(name)
        for secret in declaration.secrets if declaration else ():
            problem = self._secrets.fault(place.settings.name, secret)
            if problem is not None and declaration is not None:
                remedy = "define it, or list the source in its `sources`, in the configuration"
                return Fault(
                    file=declaration.file, pointer="/spec/secrets", problem=problem, remedy=remedy
                )
        return None

    def revision(self, source: str) -> str:
        place = self._places.get(source)
        return place.snapshot.revision if place and place.snapshot else ""

    def inputs(self, key: Key) -> Mapping[str, str]:
        """Return the digests of a workflow's inputs as they are now; absent ones are left out."""
        place, declaration = self._places.get(key[0]), self.declaration(key)
        if place is None or declaration is None or not declaration.inputs:
            return NOTHING
        if key[1] not in place.digests:
            place.digests[key[1]] = digests(place.index, declaration.inputs)
        return place.digests[key[1]]

    async def body(self, key: Key) -> str:
        """Return the manifest that a run of this workflow is pinned to, as canonical JSON.

        Raises:
            StalledError: ManifestGone, when it is neither in the store nor in its source.
        """
        declaration = self.declaration(key)
        place = self._places.get(key[0])
        if declaration is None or place is None:
            raise StalledError("is not loaded", where="/".join(key), reason="ManifestGone")
        stored = await self._store.body(
            declaration.blob, manifest.READER_VERSION, declaration.document
        )
        return pinned(stored or await self._read_again(place, declaration), self._dagger)

    async def _read_again(self, place: Place, declaration: Declaration) -> str:
        """The parse cache was trimmed: its source still has the file."""
        if place.snapshot is not None:
            contents = await place.source.read(place.snapshot, [declaration.file])
            if data := contents.get(declaration.file):
                parsed = manifest.parse_file(declaration.file, data, source=declaration.source)
                for document in parsed.documents:
                    if document.document == declaration.document and document.body:
                        return document.body
        raise StalledError(
            "its manifest can't be read any more",
            where=f"{declaration.source}/{declaration.name}",
            reason="ManifestGone",
        )

    async def materialise(self, source: str, revision: str, wanted: Input, target: Path) -> str:
        place = self._places.get(source)
        if place is None:
            raise StalledError("is no longer configured", where=source, reason="SourceGone")
        return await place.source.materialise(revision, wanted, target)

    # One look at a source.

    async def _load(self, place: Place, snapshot: Snapshot) -> None:
        began = self._clock.monotonic()
        place.status = replace(place.status, last_attempted_revision=snapshot.revision)
        if place.snapshot is None:
            place.loaded = await self._remember(place, snapshot)
        with collector.off():
            parsed = await self._parsed(place, snapshot, touched(place, snapshot))
            place.loaded = desired.advance(place.loaded, snapshot, parsed)
        moved = self._moved_inputs(place, snapshot)
        place.snapshot = snapshot
        name = place.settings.name
        await self._put(
            place, conditions.applied(place.status, place.loaded, snapshot, self._clock.now())
        )
        changed = {*place.loaded.changed, *moved}
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

    async def _put(self, place: Place, status: SourceStatus) -> None:
        if status != place.status or place.snapshot is None:
            await self._recorder.record(PutSource(status=status))
        place.status = status

    async def _parsed(
        self, place: Place, snapshot: Snapshot, paths: list[str]
    ) -> dict[str, ParsedFile | None]:
        """Return what each touched manifest says; None for one that is gone."""
        blobs = {path: snapshot.entries[path].blob for path in paths if path in snapshot.entries}
        known = await self._store.parsed(list(blobs.values()), manifest.READER_VERSION)
        parsed: dict[str, ParsedFile | None] = dict.fromkeys(paths)
        unknown = []
        for path, blob in blobs.items():
            if blob in known:
                parsed[path] = manifest.decode(
                    known[blob], source=snapshot.source, path=path, blob=blob
                )
            else:
                unknown.append(path)
        if unknown:
            parsed.update(await self._parse(place, snapshot, unknown))
        return parsed

    async def _parse(
        self, place: Place, snapshot: Snapshot, paths: list[str]
    ) -> dict[str, ParsedFile | None]:
        contents = await place.source.read(snapshot, paths)
        parsed: dict[str, ParsedFile | None] = {}
        for count, path in enumerate(paths):
            if path in contents:
                parsed[path] = manifest.parse_file(
                    path,
                    contents[path],
                    source=snapshot.source,
                    blob=snapshot.entries[path].blob,
                )
            if count % PARSE_BATCH == PARSE_BATCH - 1:
                await asyncio.sleep(0)
        await self._store.put_parsed(cache_rows(parsed.values()))
        return {
            path: without_bodies(file) if file is not None else None
            for path, file in parsed.items()
        }

    async def _remember(self, place: Place, snapshot: Snapshot) -> desired.Loaded:
        """Take up what was loaded before a restart, where the files say something else by now.

        A manifest that is broken or can't be read keeps its last valid spec; one that is gone
        retires as it would have done while we looked.
        """
        moved = [one for one in place.remembered if is_moved(one, snapshot)]
        place.remembered = ()
        blobs = {one.blob for one in moved}
        index = await self._store.parsed(blobs, manifest.READER_VERSION) if blobs else {}
        known = [declared for one in moved if (declared := last_valid(one, index)) is not None]
        return desired.remembered(place.loaded, known)

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


def renewed(old: SourceStatus | None, fresh: SourceStatus) -> SourceStatus:
    """Another place or ref under an old name is another generation of the source."""
    if old is None:
        return fresh
    same = (old.kind, old.location, old.ref) == (fresh.kind, fresh.location, fresh.ref)
    if same:
        return old
    return replace(fresh, generation=old.generation + 1)


def touched(place: Place, snapshot: Snapshot) -> list[str]:
    """Return the manifests to look at: all on the first look, else those that changed."""
    if snapshot.changed is None or place.snapshot is None:
        before = place.snapshot.entries if place.snapshot else place.loaded.files
        return [path for path in {**before, **snapshot.entries} if is_manifest(path, snapshot)]
    return [path for path in snapshot.changed if is_manifest(path, snapshot)]


def is_moved(status: WorkflowStatus, snapshot: Snapshot) -> bool:
    """Tell whether a workflow's file is not what its last valid spec was read from."""
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


def cache_rows(
    files: Iterable[ParsedFile | None],
) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Return the parse cache's rows; a file with a fault is read again each time."""
    return [
        (
            file.blob,
            manifest.READER_VERSION,
            manifest.encode(file),
            bodies(file),
        )
        for file in files
        if file is not None and not file.faults and not any(d.faults for d in file.documents)
    ]


def bodies(file: ParsedFile) -> tuple[str, ...]:
    """Return each document's body at its number; other YAML of the file leaves a gap."""
    found = {one.document: one.body or "" for one in file.documents}
    return tuple(found.get(number, "") for number in range(max(found, default=-1) + 1))


def without_bodies(file: ParsedFile) -> ParsedFile:
    """Drop what the parse cache keeps: ten thousand bodies are not held in memory."""
    if file.faults or any(document.faults for document in file.documents):
        return file
    return replace(
        file, documents=tuple(replace(document, body=None) for document in file.documents)
    )
