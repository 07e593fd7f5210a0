"""The two sides of a comparison, read from Git, from files or from the store; nothing is run."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from controller import config as configuration
from controller import manifest
from controller.clock import SystemClock
from controller.errors import UsageError
from controller.manifest.around import PLAIN, Around
from controller.manifest.parse import known_by
from controller.model.agent import Agent
from controller.model.condition import WorkflowStatus
from controller.model.settings import DirectorySource, GitSource, Settings
from controller.model.source import Declaration, Entry, Fault, ParsedFile, Snapshot
from controller.reconcile import desired
from controller.reconcile.consequences import Consequences, consequences
from controller.reconcile.keys import is_manifest
from controller.reconcile.preview import (
    Action,
    Manners,
    Preview,
    Side,
    digests_of,
    preview,
)
from controller.reconcile.surroundings import Surroundings, composed
from controller.source.files import scan
from controller.source.folder import ignored_in
from controller.source.local import common_dir, local_git_dir
from controller.source.objects import Objects
from controller.source.processes import GitError, commit_of
from controller.source.remote import local_folder

if TYPE_CHECKING:
    from controller.store import Reader

SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What follows in one source: its workflows by name, the faults of its manifests."""

    source: str
    previews: list[Preview]
    invalid: list[Fault]
    consequences: Consequences


class Place:
    """Where a side's files come from: a folder, maybe inside a repository."""

    def __init__(self, source: GitSource | DirectorySource, manifests: str = "") -> None:
        self.source = source
        self.git_dir = local_git_dir(source) if isinstance(source, GitSource) else None
        self.manifests = source.path if isinstance(source, GitSource) else manifests
        self.agents: Mapping[str, Agent] = {}  # of the configuration
        self.groups: Collection[str] | None = None  # of the configuration; None: there is none
        self._texts: dict[str, bytes] = {}  # by blob
        self._read: dict[tuple[str, str], ParsedFile] = {}  # by path and what it is known by

    async def compare(
        self, base: str | None, head: str | None, settings: Settings, now: datetime
    ) -> Comparison:
        """Return what follows from `head` (None: the files as they are) in this source.

        `base` is a revision; None: what is loaded. A file that is alike on both sides is read once.
        """
        self.agents = settings.dagger.agents
        self.groups = settings.groups.keys() if settings.file else None
        after = await self.at(head) if head or self.is_bare else await self.as_it_is()
        before = await self.at(base) if base else loaded(settings, self.source.name, after)
        manners = Manners(
            prune=self.source.prune,
            allow_empty=self.source.allow_empty,
            atomic=isinstance(self.source, GitSource) and self.source.atomic,
        )
        previews = preview(before, after, manners)
        return Comparison(
            source=self.source.name,
            previews=await forecast(previews, with_source(settings, self.source), after),
            invalid=list(dict.fromkeys(after.invalid.values())),
            consequences=consequences(before, after, now),
        )

    @property
    def root(self) -> Path:
        if isinstance(self.source, DirectorySource):
            return Path(self.source.path)
        return local_folder(self.source.url) or Path(self.source.url)

    @property
    def is_bare(self) -> bool:
        return self.git_dir is not None and self.git_dir == self.root

    async def at(self, revision: str | None) -> Side:
        """Return a side as a revision has it. Raises UsageError when there is none of that name."""
        folder = self.git_dir
        if folder is None:
            raise UsageError(
                "is not a Git repository on this machine",
                where=str(self.root),
                remedy="--base and --head compare revisions of one",
            )
        objects = Objects(common_dir(folder))
        try:
            commit = await commit_of(revision or "HEAD", folder=folder, seconds=SECONDS)
            tree = await objects.without_ignored(await objects.tree(commit), self.source.ignore)
        except GitError as error:
            raise UsageError(f"there is no revision {revision!r}", where=str(self.root)) from error
        blobs = {tree.entries[path].blob for path in self.paths(tree.entries)}
        self._texts |= await objects.contents(blobs - self._texts.keys())
        return self.side(tree.entries)

    async def as_it_is(self) -> Side:
        found = scan(self.root, ignored_in(self.root, self.source.ignore), {}, 0).found
        entries = {path: one.entry for path, one in found.items() if one.entry is not None}
        for path in self.paths(entries):
            self._texts[entries[path].blob] = (self.root / path).read_bytes()
        return self.side(entries)

    def paths(self, entries: Mapping[str, Entry]) -> list[str]:
        return [path for path in sorted(entries) if is_manifest(path, self.manifests)]

    def snapshot(self, entries: Mapping[str, Entry]) -> Snapshot:
        return Snapshot(
            source=self.source.name, revision="", entries=entries, manifests=self.manifests
        )

    def side(self, entries: Mapping[str, Entry]) -> Side:
        """Return what the manifests among these files declare; their texts have been read."""

        def parse(path: str, around: Around) -> ParsedFile:
            return self.parsed(path, entries[path].blob, around)

        plain: dict[str, ParsedFile | None] = {
            path: parse(path, PLAIN) for path in self.paths(entries)
        }
        around = Surroundings(operator=self.agents, closed=bool(self.agents)).advanced(plain)
        parsed = composed(plain, around, parse)
        empty = desired.Loaded.empty(self.source.name, allow_empty=True, groups=self.groups)
        side = desired.advance(empty, self.snapshot(entries), parsed)
        nameless = {f"\0{i}": fault for i, fault in enumerate(side.faults)}
        return Side(
            declarations=side.declarations,
            digests=digests_of(side.declarations, entries),
            entries=entries,
            bodies=bodies_of(side.declarations, parsed.values()),
            invalid={**side.invalid, **nameless},
            agents=around.agents,
        )

    def parsed(self, path: str, blob: str, around: Around) -> ParsedFile:
        """Return a file as it is read with what stands around it; read once for both sides."""
        known = (path, known_by(blob, around))
        if known not in self._read:
            self._read[known] = manifest.parse_file(
                path, self._texts[blob], source=self.source.name, blob=blob, around=around
            )
        return self._read[known]


def bodies_of(
    declarations: Mapping[str, Declaration], parsed: Iterable[ParsedFile | None]
) -> dict[str, str]:
    """Return the text that each declaration stands for: canonical JSON, by name."""
    documents = (one for file in parsed if file is not None for one in file.documents)
    return {
        one.name: one.body
        for one in documents
        if one.body is not None and declarations.get(one.name) is one.declaration is not None
    }


def with_source(settings: Settings, source: GitSource | DirectorySource) -> Settings:
    """Return the settings with a source first; one of that name is it."""
    others = (one for one in settings.sources if one.name != source.name)
    return replace(settings, sources=(source, *others))


async def forecast(previews: list[Preview], settings: Settings, after: Side) -> list[Preview]:
    """Return the previews with what kept results of the first source would serve.

    Without a store they are as they were.
    """
    store = opened(settings) if any(one.action is Action.RUN for one in previews) else None
    if store is None:
        return previews
    from controller.forecasts import Forecasts  # noqa: PLC0415 - it imports the run engine

    with store:
        forecasts = Forecasts(settings, settings.sources[0].name, store, SystemClock(), after)
        return [await forecasts.advance(one) for one in previews]


def opened(settings: Settings) -> "Reader | None":
    """Return a reader of the store; None where there is none. Raises as `Reader.open`."""
    state = Path(settings.state_dir)
    if not state.is_dir():
        return None
    from controller.store import Reader  # noqa: PLC0415 - SQLAlchemy costs 150 ms
    from controller.store.place import database_path  # noqa: PLC0415 - as above

    if not database_path(state, settings.store_url).exists():
        return None
    return Reader.open(state, settings.store_url)


def loaded(settings: Settings, source: str, after: Side) -> Side:
    """Return what the store remembers as loaded; nothing where there is no store.

    Bodies are looked up only of what differs from `after`.
    """
    store = opened(settings)
    if store is None:
        return Side()
    with store:
        statuses = [one for one in store.workflows(source) if not one.retired]
        index = store.parsed({one.blob for one in statuses if one.blob}, manifest.READER_VERSION)
        declarations = declared_in(index, statuses)
        bodies = {
            one.name: store.body(one.blob, manifest.READER_VERSION, one.document)
            for one in declarations.values()
            if differs(one, after)
        }
    return Side(
        declarations=declarations,
        digests={one.name: one.inputs for one in statuses},
        bodies={name: body for name, body in bodies.items() if body is not None},
    )


def declared_in(
    index: Mapping[str, str], statuses: Iterable[WorkflowStatus]
) -> dict[str, Declaration]:
    """Return the declarations of what is loaded, by name; left out what the index has lost."""
    found = {}
    for one in statuses:
        if one.blob not in index:
            continue
        parsed = manifest.decode(index[one.blob], source=one.source, path=one.file, blob=one.blob)
        for document in parsed.documents:
            if document.name == one.name and document.declaration is not None:
                found[one.name] = document.declaration
    return found


def differs(before: Declaration, after: Side) -> bool:
    """Tell whether a workflow's spec is another one on the other side, or gone."""
    now = after.declarations.get(before.name)
    return now is None or now.spec_digest != before.spec_digest


def place_of(text: str, settings: Settings) -> Place:
    """Return the configured source of that name, or the folder or repository of that path.

    A folder inside a work tree is that repository, its manifests read below the folder.
    """
    for one in settings.sources:
        if one.name == text:
            return Place(one)
    folder = Path(text).absolute()
    if not folder.is_dir():
        raise UsageError("there is no such source or folder", where=text)
    source = configuration.source_at(text, taken=set())
    if isinstance(source, GitSource):
        return Place(source)
    for above in folder.parents:
        if (above / ".git").exists():
            path = folder.relative_to(above).as_posix()
            name = configuration.free_name(str(above), set())
            return Place(GitSource(name=name, url=above.as_uri(), path=path, trusted=True))
    return Place(source)
