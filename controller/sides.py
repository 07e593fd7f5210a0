"""The two sides of a comparison, wherever their files come from; nothing is run."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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
from controller.reconcile.surroundings import Surroundings, composed

if TYPE_CHECKING:
    from controller.store import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What follows in one source: its workflows by name, the faults of its manifests."""

    source: str
    previews: list[Preview]
    invalid: list[Fault]
    consequences: Consequences


class Sides:
    """The sides of one source, read with the same configuration; a file alike on both only once."""

    def __init__(self, source: GitSource | DirectorySource, settings: Settings) -> None:
        self.source = source
        self._settings = with_source(settings, source)
        self._manifests = source.path if isinstance(source, GitSource) else ""
        self._agents = settings.dagger.agents
        self._groups: Collection[str] | None = settings.groups.keys() if settings.file else None
        self._texts: dict[str, bytes] = {}  # by blob
        self._read: dict[tuple[str, str], ParsedFile] = {}  # by path and what it is known by

    def paths(self, entries: Mapping[str, Entry]) -> list[str]:
        """Return the manifests among the files of a side."""
        return [path for path in sorted(entries) if is_manifest(path, self._manifests)]

    def unread(self, entries: Mapping[str, Entry]) -> dict[str, str]:
        """Return path -> blob of the manifests whose texts aren't known yet."""
        wanted = {path: entries[path].blob for path in self.paths(entries)}
        return {path: blob for path, blob in wanted.items() if blob not in self._texts}

    def side(self, entries: Mapping[str, Entry], texts: Mapping[str, bytes]) -> Side:
        """Return what these files declare; `texts` are those that were unread, by blob."""
        self._texts |= texts

        def parse(path: str, around: Around) -> ParsedFile:
            return self._parsed(path, entries[path].blob, around)

        plain: dict[str, ParsedFile | None] = {
            path: parse(path, PLAIN) for path in self.paths(entries)
        }
        around = Surroundings(operator=self._agents, closed=bool(self._agents)).advanced(plain)
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
            bodies=bodies_of(side.declarations, parsed.values()),
            invalid={**side.invalid, **nameless},
            agents=around.agents,
        )

    def _parsed(self, path: str, blob: str, around: Around) -> ParsedFile:
        known = (path, known_by(blob, around))
        if known not in self._read:
            self._read[known] = manifest.parse_file(
                path, self._texts[blob], source=self.source.name, blob=blob, around=around
            )
        return self._read[known]

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
            before = Side() if store is None else loaded(store, self.source.name, after)
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


def loaded(store: "Reader", source: str, after: Side) -> Side:
    """Return what the store remembers as loaded.

    Bodies are looked up only of what differs from `after`.
    """
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
