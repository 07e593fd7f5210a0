"""What a source's manifests say: from the parse cache by content, else read and kept there."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from controller import manifest
from controller.manifest.around import PLAIN, Around
from controller.manifest.parse import known_by
from controller.model.agent import Agent
from controller.model.source import Declaration, Fault, ParsedFile, Snapshot
from controller.reconcile.surroundings import WORKFLOW, Surroundings, placed_in
from controller.source.ports import Source
from controller.store import Store

PARSE_BATCH = 50  # files between two breaths of the event loop: some 20 ms
Files = dict[str, ParsedFile | None]


class Reading:
    """Reads one source's manifests, with the Defaults and agents that stand around them."""

    def __init__(
        self,
        store: Store,
        source: Source,
        agents: Mapping[str, Agent],
        fault: Callable[[Declaration], Fault | None],
    ) -> None:
        self._store = store
        self._source = source
        self._fault = fault  # what only the configuration can tell
        self.around = Surroundings(operator=agents)

    async def read(self, snapshot: Snapshot, paths: list[str], known: Iterable[str]) -> Files:
        """Return what each of `paths` says now; None for one that is gone.

        When Defaults or agents have changed, the others that are `known` are read again too.
        """
        plain: Files = dict.fromkeys(paths)
        plain |= await self._read(snapshot, dict.fromkeys(there(paths, snapshot), PLAIN))
        before, self.around = self.around, self.around.advanced(plain)
        if self.around is not before:
            others = {path: PLAIN for path in there(known, snapshot) if path not in plain}
            plain |= await self._read(snapshot, others)
        found = plain | await self._with_what_is_around(snapshot, plain)
        return {path: file and self._allowed(file) for path, file in found.items()}

    def _allowed(self, file: ParsedFile) -> ParsedFile:
        """Return the file; a workflow that names what it may not have is faulty."""
        faults = {
            one.document: fault
            for one in file.documents
            if one.declaration is not None and (fault := self._fault(one.declaration)) is not None
        }
        return with_faults(file, faults) if faults else file

    async def _with_what_is_around(self, snapshot: Snapshot, plain: Files) -> Files:
        """Return those of the files that say something else where they stand."""
        placed = {path: placed_in(path, file, self.around) for path, file in plain.items() if file}
        held: Files = {path: one for path, one in placed.items() if isinstance(one, ParsedFile)}
        again = {path: one for path, one in placed.items() if isinstance(one, Around) and one.mark}
        return held | (await self._read(snapshot, again) if again else {})

    async def _read(self, snapshot: Snapshot, wanted: Mapping[str, Around]) -> Files:
        marks = {path: known_by(snapshot.entries[path].blob, one) for path, one in wanted.items()}
        known = await self._store.parsed(marks.values(), manifest.READER_VERSION)
        found: Files = {
            path: manifest.decode(known[mark], source=snapshot.source, path=path, blob=mark)
            for path, mark in marks.items()
            if mark in known
        }
        unknown = {path: around for path, around in wanted.items() if path not in found}
        return found | (await self._parse(snapshot, unknown) if unknown else {})

    async def _parse(self, snapshot: Snapshot, wanted: Mapping[str, Around]) -> Files:
        contents = await self._source.read(snapshot, wanted)
        parsed: Files = {}
        for count, (path, around) in enumerate(wanted.items()):
            if path in contents:
                parsed[path] = manifest.parse_file(
                    path,
                    contents[path],
                    source=snapshot.source,
                    blob=snapshot.entries[path].blob,
                    around=around,
                )
            if count % PARSE_BATCH == PARSE_BATCH - 1:
                await asyncio.sleep(0)
        await self._store.put_parsed(cache_rows(parsed.values()))
        return {
            path: without_bodies(file) if file is not None else None
            for path, file in parsed.items()
        }

    async def body(self, snapshot: Snapshot, declaration: Declaration) -> str | None:
        """Return a declared workflow's body from its file; None when it can't be read any more."""
        contents = await self._source.read(snapshot, [declaration.file])
        data = contents.get(declaration.file)
        if not data:
            return None
        around = self.around.around(declaration.file, declaration.agents)
        parsed = manifest.parse_file(
            declaration.file, data, source=declaration.source, around=around
        )
        found = (one.body for one in parsed.documents if one.document == declaration.document)
        return next(found, None)


def with_faults(file: ParsedFile, faults: Mapping[int, Fault]) -> ParsedFile:
    """Return the file with these documents at fault, by their numbers."""
    return replace(
        file,
        documents=tuple(
            replace(
                one,
                declaration=None,
                body=None,
                faults=(replace(faults[one.document], line=one.line, column=1),),
            )
            if one.document in faults
            else one
            for one in file.documents
        ),
    )


def there(paths: Iterable[str], snapshot: Snapshot) -> Iterable[str]:
    return [path for path in paths if path in snapshot.entries]


def cache_rows(
    files: Iterable[ParsedFile | None],
) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Return the parse cache's rows; a file with a fault is read again each time."""
    return [
        (file.blob, manifest.READER_VERSION, manifest.encode(file), bodies(file))
        for file in files
        if file is not None and not file.all_faults
    ]


def bodies(file: ParsedFile) -> tuple[str, ...]:
    """Return each document's body at its number; other YAML of the file leaves a gap."""
    found = {one.document: one.body or "" for one in file.documents}
    return tuple(found.get(number, "") for number in range(max(found, default=-1) + 1))


def without_bodies(file: ParsedFile) -> ParsedFile:
    """Drop what the parse cache keeps: ten thousand bodies are not held in memory."""
    if file.all_faults:
        return file
    return replace(
        file,
        documents=tuple(
            replace(one, body=None) if one.kind == WORKFLOW else one for one in file.documents
        ),
    )
