"""`rondel plan`: which work would follow, and why. Needs only Git and the store."""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

import typer

from controller import config as configuration
from controller import manifest
from controller.cli import plan_text
from controller.cli.common import ConfigOption, StateOption, now
from controller.cli.exit import Exit
from controller.cli.plan_text import Output, Result
from controller.errors import UnreachableError, UsageError
from controller.manifest.around import PLAIN, Around
from controller.model.agent import Agent
from controller.model.settings import DirectorySource, GitSource, Settings
from controller.model.source import Entry, ParsedFile, Snapshot
from controller.place import is_manifest
from controller.reconcile import desired
from controller.reconcile.preview import Action, Side, digests_of, preview
from controller.reconcile.surroundings import Surroundings, composed
from controller.source.files import scan
from controller.source.folder import ignored_in
from controller.source.local import common_dir, local_git_dir
from controller.source.objects import Objects
from controller.source.processes import GitError, commit_of
from controller.source.remote import local_folder
from controller.store.reader import Reader

SECONDS = 20.0


def plan(  # noqa: PLR0917 - options of one command
    source: Annotated[str | None, typer.Option("--source", help="A folder or repository.")] = None,
    base: Annotated[str | None, typer.Option("--base", help="Compare with this revision.")] = None,
    head: Annotated[str | None, typer.Option("--head", help="Not the files as they are.")] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="3 when work follows.")] = False,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="table, json, yaml or markdown.")
    ] = Output.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Say what would run, and why: against what is loaded, or between two revisions.

    Example: rondel plan --source . --base main --head HEAD
    """
    file = configuration.locate(config)
    settings = configuration.load(file, state=state_dir)
    places = [place_of(source, settings)] if source else [Place(one) for one in settings.sources]
    if not places:
        raise UsageError("there is nothing to compare", remedy="name a folder: --source .")
    results = [asyncio.run(one.compare(base, head, settings)) for one in places]
    plan_text.tell(results, base, head, output)
    works = any(one.action is not Action.NOTHING for result in results for one in result.previews)
    faulty = any(result.invalid for result in results)
    if exit_code and works:
        raise typer.Exit(Exit.CHANGES)
    if faulty:
        raise typer.Exit(Exit.USAGE)


class Place:
    """Where a side's files come from: a folder, maybe inside a repository."""

    def __init__(self, source: GitSource | DirectorySource, manifests: str = "") -> None:
        self.source = source
        self.git_dir = local_git_dir(source) if isinstance(source, GitSource) else None
        self.manifests = source.path if isinstance(source, GitSource) else manifests
        # What is the same on both sides is read once.
        self._plain: dict[tuple[str, str], ParsedFile] = {}
        self.agents: Mapping[str, Agent] = {}  # of the configuration
        self.groups: Collection[str] | None = None  # of the configuration; None: there is none

    async def compare(self, base: str | None, head: str | None, settings: Settings) -> Result:
        """Return the previews and the invalid manifests of this source."""
        self.agents = settings.dagger.agents
        self.groups = settings.groups.keys() if settings.file else None
        after = await self.at(head) if head or self.is_bare else await self.as_it_is()
        before = await self.at(base) if base else loaded(settings, self.source.name)
        faults = list(dict.fromkeys(after.invalid.values()))
        return Result(
            source=self.source.name,
            previews=preview(before, after, now()),
            invalid=faults,
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
        paths = self.paths(tree.entries)
        contents = await objects.contents(tree.entries[path].blob for path in paths)
        return self.side(tree.entries, {path: contents[tree.entries[path].blob] for path in paths})

    async def as_it_is(self) -> Side:
        found = scan(self.root, ignored_in(self.root, self.source.ignore), {}, 0).found
        entries = {path: one.entry for path, one in found.items() if one.entry is not None}
        contents = {path: (self.root / path).read_bytes() for path in self.paths(entries)}
        return self.side(entries, contents)

    def paths(self, entries: Mapping[str, Entry]) -> list[str]:
        snapshot = self.snapshot(entries)
        return [path for path in sorted(entries) if is_manifest(path, snapshot)]

    def snapshot(self, entries: Mapping[str, Entry]) -> Snapshot:
        return Snapshot(
            source=self.source.name, revision="", entries=entries, manifests=self.manifests
        )

    def side(self, entries: Mapping[str, Entry], contents: Mapping[str, bytes]) -> Side:
        def parse(path: str, around: Around) -> ParsedFile:
            known = (path, entries[path].blob) if around is PLAIN else None
            if known not in self._plain:
                found = manifest.parse_file(
                    path, contents[path], source=self.source.name, around=around
                )
                if known is None:
                    return found
                self._plain[known] = found
            return self._plain[known]

        plain: dict[str, ParsedFile | None] = {path: parse(path, PLAIN) for path in contents}
        around = Surroundings(operator=self.agents, closed=bool(self.agents)).advanced(plain)
        parsed = composed(plain, around, parse)
        empty = desired.Loaded.empty(self.source.name, allow_empty=True, groups=self.groups)
        side = desired.advance(empty, self.snapshot(entries), parsed)
        nameless = {f"\0{i}": fault for i, fault in enumerate(side.faults)}
        return Side(
            declarations=side.declarations,
            digests=digests_of(side.declarations, entries),
            entries=entries,
            invalid={**side.invalid, **nameless},
        )


def loaded(settings: Settings, source: str) -> Side:
    """Return what the store remembers as loaded; nothing where there is no store."""
    try:
        with Reader.open(Path(settings.state_dir)) as store:
            statuses = store.workflows(source)
            blobs = {one.blob for one in statuses if one.blob}
            index = store.parsed(blobs, manifest.READER_VERSION)
    except UnreachableError:
        return Side()
    declarations = {}
    for one in statuses:
        text = index.get(one.blob)
        if text is None:
            continue
        parsed = manifest.decode(text, source=one.source, path=one.file, blob=one.blob)
        for document in parsed.documents:
            if document.name == one.name and document.declaration is not None:
                declarations[one.name] = document.declaration
    return Side(declarations=declarations, digests={one.name: one.inputs for one in statuses})


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
