"""One source and what is loaded of it."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from controller import manifest
from controller.errors import UnappliedError
from controller.model.condition import SourceStatus, Status, WorkflowStatus, find
from controller.model.settings import DirectorySource, GitSource
from controller.model.source import Declaration, Snapshot
from controller.model.workflow import Input
from controller.reading import Reading
from controller.reconcile import conditions, desired, keys
from controller.reconcile.sharing import Reach
from controller.source.ports import Source

NOTHING: Mapping[str, str] = {}


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
    answered: int = 0  # the last request whose look is loaded
    gone: bool = False  # it is followed no more
    told: asyncio.Condition = field(default_factory=asyncio.Condition)  # of the two above

    async def tell(self) -> None:
        async with self.told:
            self.told.notify_all()

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

    def take_inputs(self, snapshot: Snapshot) -> set[str]:
        """Return the workflows whose declared inputs are not what they were."""
        previous, self.index = self.digests, keys.Index(snapshot.entries)
        self.digests = {}
        moved = set()
        for workflow, declaration in self.loaded.declarations.items():
            if not declaration.inputs:
                continue
            if workflow in previous and not concerns(snapshot.changed, declaration.inputs):
                self.digests[workflow] = previous[workflow]
                continue
            self.digests[workflow] = digests(self.index, declaration.inputs)
            if previous.get(workflow) != self.digests[workflow]:
                moved.add(workflow)
        return moved

    def refuse_a_part(self, revision: str) -> None:
        """Raise UnappliedError where a commit is applied whole or not at all, and has a fault."""
        faults = self.loaded.all_faults
        if isinstance(self.settings, GitSource) and self.settings.atomic and faults:
            raise UnappliedError(
                conditions.count_words(faults),
                reason="NotApplied",
                where=revision,
                remedy="mend it; until then nothing of it is applied (`atomic`)",
            )

    def inputs(self, declaration: Declaration) -> Mapping[str, str]:
        """Return the digests of a workflow's inputs as they are now; absent ones are left out."""
        name = declaration.name
        if self.snapshot is None:
            status = self.remembered.get(name)
            return status.inputs if status else NOTHING
        if name not in self.digests:
            self.digests[name] = digests(self.index, declaration.inputs)
        return self.digests[name]

    def knows(self, name: str) -> bool:
        """Tell whether what it says of a workflow is known: before, it doesn't count as gone.

        What was taken up from before a restart counts as long as it is what was seen then.
        """
        if self.snapshot is not None:
            return True
        status, declaration = self.remembered.get(name), self.loaded.declarations.get(name)
        if status is None or declaration is None or not status.valid:
            return False
        return status.spec_digest == declaration.spec_digest

    @property
    def revision(self) -> str:
        return self.snapshot.revision if self.snapshot else self.status.last_applied_revision

    @property
    def reach(self) -> Reach:
        """What it reads: sources that reach the same manifests run each workflow once more."""
        if isinstance(self.settings, DirectorySource):
            return Reach("", "", self.settings.path)
        line = self.revision.partition("@")[0]
        return Reach(self.status.location, line, self.settings.path)


def kind_of(settings: GitSource | DirectorySource) -> str:
    return "Git" if isinstance(settings, GitSource) else "Directory"


def ref(settings: GitSource | DirectorySource) -> str:
    return settings.ref.text if isinstance(settings, GitSource) else ""


def unread(settings: GitSource | DirectorySource, location: str) -> SourceStatus:
    """Return the status of a source of which nothing is known yet."""
    return SourceStatus(
        name=settings.name, kind=kind_of(settings), location=location, ref=ref(settings)
    )


def renewed(old: SourceStatus | None, fresh: SourceStatus) -> SourceStatus:
    """Another place or ref under an old name is another generation of the source."""
    if old is None:
        return fresh
    same = (old.kind, old.location, old.ref) == (fresh.kind, fresh.location, fresh.ref)
    status = old if same else replace(fresh, generation=old.generation + 1)
    return replace(status, suspension=old.suspension)


def told(place: Place, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with what is wrong between its files among its faults."""
    between = place.reading.around.faults()
    return replace(snapshot, faults=(*snapshot.faults, *between)) if between else snapshot


def touched(place: Place, snapshot: Snapshot) -> list[str]:
    """Return the manifests to look at: all on the first look, else those that changed."""
    among: Iterable[str]
    if snapshot.changed is None or place.snapshot is None:
        before = place.snapshot.entries if place.snapshot else place.loaded.files
        among = {**before, **snapshot.entries}
    else:
        among = snapshot.changed
    return [path for path in among if keys.is_manifest(path, snapshot.manifests)]


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


def concerns(changed: frozenset[str] | None, inputs: Iterable[Input]) -> bool:
    """Tell whether one of these inputs may hold a path that changed."""
    if changed is None:
        return True
    return any(keys.within(path, one.path) for path in changed for one in inputs)


def is_trustworthy(place: Place) -> bool:
    """Tell whether what was applied last may be taken up again: it was verified, or need not be."""
    if isinstance(place.settings, DirectorySource) or place.settings.verify is None:
        return True
    found = find(place.status.conditions, conditions.VERIFIED)
    return found is not None and found.status is Status.TRUE


def digests(index: keys.Index | None, inputs: Iterable[Input]) -> Mapping[str, str]:
    if index is None:
        return NOTHING
    found = {one.name: index.digest(one) for one in inputs}
    return {name: digest for name, digest in found.items() if digest is not None}
