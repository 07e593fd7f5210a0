"""Manifest files of this machine, read as a source would: with what stands around them."""

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from controller import config as configuration
from controller import manifest
from controller.errors import UsageError
from controller.manifest.agents import pinned
from controller.manifest.around import PLAIN, Around
from controller.manifest.calls import (
    Interface,
    called_first,
    calls_in,
    interface,
    with_calls,
)
from controller.model.settings import DaggerSettings, Settings
from controller.model.source import Fault, ParsedDocument, ParsedFile
from controller.reconcile.surroundings import Surroundings, read_with
from controller.roots import root_of

SUFFIXES = {".yaml", ".yml"}
AROUND = (b"Agent", b"Defaults")  # a file without these words holds no such manifest


class Manifests:
    """The manifests below one root, and the agents that the configuration adds."""

    def __init__(self, root: Path, settings: Settings | None = None) -> None:
        self.root = root.absolute()
        self._settings = settings
        self._read: dict[str, list[ParsedDocument]] = {}  # called workflows, by name

    @cached_property
    def around(self) -> Surroundings:
        """The Defaults and agents below the root; other files are not even parsed."""
        start = Surroundings(
            operator=self._settings.dagger.agents if self._settings else {},
            closed=self._settings is not None,
        )
        return start.advanced(
            {
                self.name(path): manifest.parse_file(shown(path), data)
                for path in below(self.root)
                if (data := bytes_of(path)) and any(word in data for word in AROUND)
            }
        )

    def body(self, document: ParsedDocument) -> str:
        """Return what a run of a workflow is pinned to, with those that it calls.

        Raises:
            StalledError: a call that can't be made.
            UsageError: there is no such workflow below the root, or it has faults.
        """
        return self.pinned(document.name, document.body or "")

    def pinned(self, name: str, body: str) -> str:
        """Return what a run of a body is pinned to, as `body` does, wherever it comes from."""
        written = {name: body}

        def calls(one: str) -> tuple[str, ...]:
            if one not in written:
                written[one] = self.workflow(one).body or ""
            return calls_in(written[one])

        settings = self._settings.dagger if self._settings else DaggerSettings()
        bodies: dict[str, str] = {}
        for one in called_first(name, calls):
            own = pinned(written[one], settings, self.around.agents)
            bodies[one] = with_calls(own, bodies)
        return bodies[name]

    def workflow(self, name: str) -> ParsedDocument:
        """Return the valid workflow of that name below the root. Raises UsageError."""
        parsed = (self.parsed(path) for path in self._with(name))
        found = [one for file in parsed for one in file.documents if is_workflow(one, name)]
        valid = [one for one in found if one.declaration is not None]
        if len(valid) == 1:
            return valid[0]
        told = "\n".join(str(fault) for one in found for fault in one.faults)
        problem = told or f"there {'is no' if not valid else 'are several'} workflow {name!r} here"
        raise UsageError(problem, where="" if told else str(self.root))

    def between(self, files: Mapping[str, ParsedFile]) -> tuple[Fault, ...]:
        """Return what is wrong between the workflows of these files and others below the root."""
        own, known = self._reached(files)
        groups = None if self._settings is None else self._settings.groups.keys()
        faults = manifest.between(known.values(), groups=groups)
        return tuple(fault for name, fault in faults.items() if name in own)

    def awaited(self, files: Mapping[str, ParsedFile]) -> tuple[Fault, ...]:
        """Return triggers of these files that wait for a workflow that isn't below the root."""
        own, known = self._reached(files)
        return manifest.awaited(own.values(), known)

    def _reached(
        self, files: Mapping[str, ParsedFile]
    ) -> tuple[Mapping[str, ParsedDocument], Mapping[str, ParsedDocument]]:
        """Return the workflows of these files; and with them those that they have to do with."""
        documents = (one for file in files.values() for one in file.documents)
        own = {one.name: one for one in documents if one.name and is_workflow(one, one.name)}
        known = {**self._fellows(own.values(), {self.name(Path(file)) for file in files}), **own}
        pending = [name for one in known.values() for name in named_by(one)]
        while pending:
            name = pending.pop()
            if name not in known and (found := self._plain(name)):
                known[name] = found[0]
                pending += named_by(found[0])
        return own, known

    def _fellows(
        self, documents: Iterable[ParsedDocument], but: Container[str]
    ) -> Mapping[str, ParsedDocument]:
        """Return the workflows that share a group with these, of files that were not read yet."""
        groups = {name for one in documents if (name := group_of(one))}
        others = (path for path in below(self.root) if self.name(path) not in but) if groups else ()
        files = (
            manifest.parse_file(shown(path), data)
            for path in others
            if (data := bytes_of(path)) and any(name.encode() in data for name in groups)
        )
        found = (one for file in files for one in file.documents)
        return {one.name: one for one in found if group_of(one) in groups}

    def interfaces(self, names: Iterable[str]) -> Mapping[str, Interface]:
        """Return what callers know of the workflows of these names, of those that are valid."""
        found = {name: self._plain(name) for name in names}
        return {
            name: interface(those[0].body)
            for name, those in found.items()
            if len(those) == 1 and those[0].body
        }

    def _plain(self, name: str) -> list[ParsedDocument]:
        """Return the workflows of that name below the root, as they stand in their files."""
        if name not in self._read:
            files = [manifest.parse_file(shown(path), bytes_of(path)) for path in self._with(name)]
            self._read[name] = [
                one for file in files for one in file.documents if is_workflow(one, name)
            ]
        return self._read[name]

    def _with(self, name: str) -> Iterator[Path]:
        """Yield the files below the root that hold this text."""
        return (path for path in below(self.root) if name.encode() in bytes_of(path))

    def name(self, path: Path) -> str:
        """Return a file's path relative to the root; its mere name when it lies elsewhere."""
        full = path.absolute()
        return full.relative_to(self.root).as_posix() if self._holds(full) else full.name

    def _holds(self, path: Path) -> bool:
        return path.is_relative_to(self.root)

    def parsed(self, path: Path) -> ParsedFile:
        """Return what a file says, its faults named by the path as it was given."""
        try:
            data = regular(path)
        except OSError as error:
            fault = Fault(file=str(path), problem=f"can't be read: {error.strerror}")
            return ParsedFile(blob="", faults=(fault,))
        called = self.interfaces(manifest.calls_written(data))

        def parse(_: str, around: Around) -> ParsedFile:
            return manifest.parse_file(str(path), data, around=replace(around, called=called))

        name = self.name(path)
        return read_with(name, parse(name, PLAIN), self.around, parse)


def manifests_of(file: Path, root: Path | None, config: Path | None) -> Manifests:
    """Return the manifests that a file belongs to.

    Args:
        file: a file, or a folder of them.
        root: --root.
        config: --config; without any configuration, agents that it could define are not judged.
    """
    if root is not None and not root.is_dir():
        raise UsageError("there is no such folder", where=f"--root {root}")
    found = configuration.locate(config)
    settings = configuration.load(found) if found is not None else None
    return Manifests(root_of(file, root, settings), settings)


def workflow_of(manifests: Manifests, file: Path, wanted: str | None) -> ParsedDocument:
    """Return the one valid workflow of the file, or the wanted one of several.

    Raises:
        UsageError: the file has faults, no such workflow, or several and none is named.
    """
    if not file.is_file():
        raise UsageError("there is no such file", where=str(file))
    parsed = manifests.parsed(file)
    if faults := parsed.all_faults:
        raise UsageError("\n".join(map(str, faults)))
    workflows = [one for one in parsed.documents if one.declaration is not None]
    names = [document.name for document in workflows]
    found = [one for one in workflows if wanted is None or one.name == wanted]
    if len(found) == 1:
        return found[0]
    problem = "it holds no workflow" if not names else f"it holds {', '.join(names)}"
    raise UsageError(problem, where=str(file), remedy="name one by --workflow" if names else "")


def is_workflow(document: ParsedDocument, name: str) -> bool:
    return document.kind == "Workflow" and document.name == name


def named_by(document: ParsedDocument) -> tuple[str, ...]:
    """Return the workflows that a document's own calls, or is started by."""
    what = document.declaration
    return (*what.calls, *(one.workflow for one in what.upstreams)) if what else ()


def group_of(document: ParsedDocument) -> str:
    what = document.declaration
    return what.concurrency.group if what and what.concurrency else ""


def below(folder: Path) -> Iterator[Path]:
    """Yield the folder's YAML files; names that begin with a dot are not read."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from below(path)
        elif path.suffix in SUFFIXES and not path.is_dir():
            yield path


def regular(path: Path) -> bytes:
    """Return a regular file's bytes. Raises OSError."""
    if not path.is_file():
        raise OSError(0, "it is not a regular file")
    return path.read_bytes()


def bytes_of(path: Path) -> bytes:
    """Return a file's bytes, b"" when it can't be read: whoever reads it for itself is told."""
    try:
        return regular(path)
    except OSError:
        return b""


def shown(path: Path) -> str:
    """Return a path as a person here would write it."""
    return os.path.relpath(path)
