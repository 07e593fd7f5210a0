"""The two sides of a comparison, wherever their files come from; nothing is run."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from controller import manifest
from controller.clock import Clock
from controller.manifest.around import PLAIN, Around
from controller.manifest.parse import known_by
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
from controller.reconcile.surroundings import Surroundings, composed, placed_in

if TYPE_CHECKING:
    from controller.store import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What follows in one source: its workflows by name, the faults of its manifests."""

    source: str
    previews: list[Preview]
    invalid: list[Fault]
    consequences: Consequences


Read: TypeAlias = Callable[[Mapping[str, str]], Awaitable[Mapping[str, bytes]]]
"""Reads files, path -> blob; returns their contents by blob."""


class Bodies(Mapping[str, str]):
    """The texts of workflows as canonical JSON, by name; looked up in a store when asked for."""

    def __init__(
        self,
        known: Mapping[str, str],
        declarations: Mapping[str, Declaration],
        store: "Reader | None",
    ) -> None:
        self._known = dict(known)
        self._declarations = declarations
        self._store = store

    def __getitem__(self, name: str) -> str:
        if name not in self._known:
            one = self._declarations[name]
            body = self._store and self._store.body(one.blob, manifest.READER_VERSION, one.document)
            if not body:
                raise KeyError(name)
            self._known[name] = body
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._declarations if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Sides:
    """The sides of one source, read with the same configuration; a file alike on both only once."""

    def __init__(
        self,
        source: GitSource | DirectorySource,
        settings: Settings,
        kept: "Reader | None" = None,
    ) -> None:
        """Take up a source; `kept` is a store whose parse cache saves reading what it knows."""
        self.source = source
        self._settings = with_source(settings, source)
        self._manifests = source.path if isinstance(source, GitSource) else ""
        self._agents = settings.dagger.agents
        self._groups: Collection[str] | None = settings.groups.keys() if settings.file else None
        self._kept = kept
        self._index: dict[str, str] = {}  # of the parse cache, by what a text is known by
        self._texts: dict[str, bytes] = {}  # by blob
        self._read: dict[tuple[str, str], ParsedFile] = {}  # by path and what it is known by

    def paths(self, entries: Mapping[str, Entry]) -> list[str]:
        """Return the manifests among the files of a side."""
        return [path for path in sorted(entries) if is_manifest(path, self._manifests)]

    def unread(self, entries: Mapping[str, Entry]) -> dict[str, str]:
        """Return path -> blob of the manifests whose texts have to be read."""
        wanted = {path: entries[path].blob for path in self.paths(entries)}
        self._recall(wanted.values())
        return {
            path: blob
            for path, blob in wanted.items()
            if blob not in self._texts and blob not in self._index
        }

    async def side(self, entries: Mapping[str, Entry], read: Read) -> Side:
        """Return what the manifests among these files declare; those unread are read.

        Raises whatever `read` raises.
        """
        await self._know(self.unread(entries), read)

        def parse(path: str, around: Around) -> ParsedFile:
            return self._parsed(path, entries[path].blob, around)

        plain: dict[str, ParsedFile | None] = {
            path: parse(path, PLAIN) for path in self.paths(entries)
        }
        around = Surroundings(operator=self._agents, closed=bool(self._agents)).advanced(plain)
        if self._index:
            await self._know(self._changed_around(plain, around), read)
        parsed = composed(plain, around, parse)
        empty = desired.Loaded.empty(self.source.name, allow_empty=True, groups=self._groups)
        snapshot = Snapshot(
            source=self.source.name, revision="", entries=entries, manifests=self._manifests
        )
        side = desired.advance(empty, snapshot, parsed)
        nameless = {f"\0{i}": fault for i, fault in enumerate(side.faults)}
        return Side(
            declarations=side.declarations,
            digests=digests_of(side.declarations, entries),
            entries=entries,
            bodies=self._bodies(side.declarations, parsed.values()),
            invalid={**side.invalid, **nameless},
            agents=around.agents,
        )

    async def _know(self, wanted: Mapping[str, str], read: Read) -> None:
        self._texts |= await read(wanted) if wanted else {}

    def _changed_around(
        self, plain: Mapping[str, ParsedFile | None], around: Surroundings
    ) -> dict[str, str]:
        """Return path -> blob of what the store has read with other Defaults or agents only."""
        placed = {path: placed_in(path, file, around) for path, file in plain.items() if file}
        return {
            path: plain_file.blob
            for path, one in placed.items()
            if isinstance(one, Around) and (plain_file := plain[path]) is not None
            if known_by(plain_file.blob, one) not in self._index
            and plain_file.blob not in self._texts
        }

    def _recall(self, blobs: Collection[str]) -> None:
        """Look up what the store's parse cache says of these texts."""
        if self._kept is not None:
            new = set(blobs) - self._index.keys() - self._texts.keys()
            self._index |= self._kept.parsed(new, manifest.READER_VERSION) if new else {}

    def _parsed(self, path: str, blob: str, around: Around) -> ParsedFile:
        known = (path, known_by(blob, around))
        if known not in self._read:
            self._read[known] = self._recalled(*known) or manifest.parse_file(
                path, self._texts[blob], source=self.source.name, blob=blob, around=around
            )
        return self._read[known]

    def _recalled(self, path: str, mark: str) -> ParsedFile | None:
        if mark not in self._index:
            return None
        return manifest.decode(self._index[mark], source=self.source.name, path=path, blob=mark)

    def _bodies(
        self, declarations: Mapping[str, Declaration], parsed: Iterable[ParsedFile | None]
    ) -> Bodies:
        """Return the text that each declaration stands for; what was recalled is looked up."""
        documents = (one for file in parsed if file is not None for one in file.documents)
        known = {
            one.name: one.body
            for one in documents
            if one.body is not None and declarations.get(one.name) is one.declaration is not None
        }
        return Bodies(known, declarations, self._kept)

    def loaded(self, store: "Reader") -> Side:
        """Return what a store remembers as loaded; left out what its parse cache has lost."""
        statuses = [one for one in store.workflows(self.source.name) if not one.retired]
        marks = {one.blob for one in statuses if one.blob}
        self._index |= store.parsed(marks - self._index.keys(), manifest.READER_VERSION)
        declarations = dict(self._declared(statuses))
        return Side(
            declarations=declarations,
            digests={one.name: one.inputs for one in statuses},
            bodies=Bodies({}, declarations, store),
        )

    def _declared(self, statuses: Iterable[WorkflowStatus]) -> Iterator[tuple[str, Declaration]]:
        for status in statuses:
            known = (status.file, status.blob)
            file = self._read.get(known) or self._recalled(*known)
            for one in file.documents if file is not None else ():
                if one.name == status.name and one.declaration is not None:
                    yield one.name, one.declaration

    async def compare(
        self, before: Side | None, after: Side, store: "Reader | None", clock: Clock
    ) -> Comparison:
        """Return what follows from `after`.

        Args:
            before: the other side; None: what is loaded, as the store has it.
            after: the side that would be loaded.
            store: also tells what kept results would serve; None: there is none.
            clock: says what the time is.
        """
        if before is None:
            before = Side() if store is None else self.loaded(store)
        previews = preview(before, after, manners_of(self.source))
        return Comparison(
            source=self.source.name,
            previews=await self._forecast(previews, after, store, clock),
            invalid=list(dict.fromkeys(after.invalid.values())),
            consequences=consequences(before, after, clock.now()),
        )

    async def _forecast(
        self, previews: list[Preview], after: Side, store: "Reader | None", clock: Clock
    ) -> list[Preview]:
        """Return the previews with what kept results would serve."""
        if store is None or not any(one.action is Action.RUN for one in previews):
            return previews
        from controller.forecasts import Forecasts  # noqa: PLC0415 - it imports the run engine

        forecasts = Forecasts(self._settings, self.source.name, store, clock, after)
        return [await forecasts.advance(one) for one in previews]


def manners_of(source: GitSource | DirectorySource) -> Manners:
    return Manners(
        prune=source.prune,
        allow_empty=source.allow_empty,
        atomic=isinstance(source, GitSource) and source.atomic,
    )


def with_source(settings: Settings, source: GitSource | DirectorySource) -> Settings:
    """Return the settings with this source as the one of its name."""
    others = (one for one in settings.sources if one.name != source.name)
    return replace(settings, sources=(source, *others))
