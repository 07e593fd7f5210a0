"""The Defaults and agents of one source: which of them a file's workflows are read with."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from controller.manifest.agents import agent
from controller.manifest.around import Around
from controller.manifest.build import merged
from controller.model.agent import Agent
from controller.model.source import Fault, ParsedDocument, ParsedFile

WORKFLOW, AGENT, DEFAULTS = "Workflow", "Agent", "Defaults"
Documents = Mapping[str, tuple[ParsedDocument, ...]]
Placed = tuple[str, ParsedDocument]
"""A document and the file it stands in."""
Parse = Callable[[str, Around], ParsedFile]


@dataclass(frozen=True)
class Surroundings:
    """What the files of a source say beside workflows, by file; and the operator's agents."""

    operator: Mapping[str, Agent] = field(default_factory=dict)
    documents: Documents = field(default_factory=dict)
    closed: bool = True  # an agent that neither defines is a fault

    def advanced(self, parsed: Mapping[str, ParsedFile | None]) -> "Surroundings":
        """Return what it is after these files; None is one that is gone."""
        documents = dict(self.documents)
        for path, file in parsed.items():
            if file is not None and (others := others_of(file)):
                documents[path] = others
            elif file is None or not file.faults:  # a file that can't be read keeps what it said
                documents.pop(path, None)
        return self if documents == self.documents else replace(self, documents=documents)

    @cached_property
    def agents(self) -> Mapping[str, Agent]:
        """The source's own agents, by name; of a name that is given twice, none."""
        return {
            name: agent(name, spec_of(found[0][1]))
            for name, found in self._placed.items()
            if len(found) == 1 and not found[0][1].faults
        }

    def around(self, path: str, used: Iterable[str]) -> Around:
        """Return what the workflows of a file are read with.

        Args:
            path: of the file.
            used: the names of agents that they use.
        """
        names = {name.replace("_", "-") for name in used}
        agents = {**self.operator, **self.agents} if names else {}
        return Around(
            defaults=self._defaults(path),
            agents={name: one for name, one in agents.items() if name.replace("_", "-") in names},
            closed=self.closed and bool(names),
        )

    def above(self, path: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the Defaults of a file's folder and those above, the nearest last."""
        folders = (self._folders.get(place, ()) for place in places(path))
        return [(file, spec_of(one)) for found in folders for file, one in found]

    def broken(self, path: str) -> Fault | None:
        """Return why a file's workflows can't be read anew: the Defaults above are at fault."""
        for place in places(path) if self._folders else ():
            found = self._folders.get(place, [])
            faults = [fault for _, one in found for fault in one.faults]
            if faults or len(found) > 1:
                return faults[0] if faults else twice(found)
        return None

    def faults(self) -> tuple[Fault, ...]:
        """Return what is wrong between files: a folder, or a name, that two want."""
        folders = (found for _, found in sorted(self._folders.items()))
        agents = (found for _, found in sorted(self._placed.items()))
        return (
            *(twice(found) for found in folders if len(found) > 1),
            *(taken(found) for found in agents if len(found) > 1),
        )

    def agent_faults(self, name: str) -> tuple[Fault, ...]:
        """Return why an agent that is declared here can't be used; () when nothing is wrong."""
        found = self._placed.get(name, [])
        if len(found) > 1:
            return (taken(found),)
        return tuple(fault for _, one in found for fault in one.faults)

    def _defaults(self, path: str) -> Mapping[str, Any]:
        spec: dict[str, Any] = {}
        for place in places(path) if self._folders else ():
            for _, one in self._folders.get(place, ()):
                spec = merged(spec, spec_of(one))
        return spec

    @cached_property
    def _folders(self) -> Mapping[str, list[Placed]]:
        """The Defaults of each folder that has any."""
        return grouped(self.documents, DEFAULTS, lambda path, _: folder_of(path))

    @cached_property
    def _placed(self) -> Mapping[str, list[Placed]]:
        """Where each agent's name is declared."""
        return grouped(self.documents, AGENT, lambda _, one: one.name)


def grouped(
    documents: Documents, kind: str, key: Callable[[str, ParsedDocument], str]
) -> Mapping[str, list[Placed]]:
    found: dict[str, list[Placed]] = {}
    for path, listed in sorted(documents.items()):
        for one in listed:
            if one.kind == kind:
                found.setdefault(key(path, one), []).append((path, one))
    return found


def others_of(file: ParsedFile) -> tuple[ParsedDocument, ...]:
    return tuple(one for one in file.documents if one.kind in {AGENT, DEFAULTS})


def spec_of(document: ParsedDocument) -> dict[str, Any]:
    return dict(json.loads(document.body)["spec"]) if document.body else {}


def folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def places(path: str) -> list[str]:
    """Return the folders above a file, the nearest last; "" is the root."""
    parts = path.split("/")[:-1]
    return ["", *("/".join(parts[: count + 1]) for count in range(len(parts)))]


def twice(found: list[Placed]) -> Fault:
    (first, other), (path, document), *_ = found
    return at(path, document, "/kind", f"its folder has Defaults already, in {first}:{other.line}")


def taken(found: list[Placed]) -> Fault:
    (first, other), (path, document), *_ = found
    problem = f"Agent {document.name!r} is also declared in {first}:{other.line}"
    return at(path, document, "/metadata/name", problem)


def at(path: str, document: ParsedDocument, pointer: str, problem: str) -> Fault:
    return Fault(
        file=path,
        line=document.line,
        column=1,
        pointer=pointer,
        problem=problem,
        remedy="keep one of them",
    )


# Reading with what stands around.


def composed(
    plain: Mapping[str, ParsedFile | None], around: Surroundings, parse: Parse
) -> dict[str, ParsedFile | None]:
    """Return the files read with what stands around them; `parse` reads one once more."""
    return {path: one and read_with(path, one, around, parse) for path, one in plain.items()}


def read_with(path: str, plain: ParsedFile, around: Surroundings, parse: Parse) -> ParsedFile:
    placed = placed_in(path, plain, around)
    if isinstance(placed, ParsedFile):
        return placed
    return parse(path, placed) if placed.mark else plain


def placed_in(path: str, plain: ParsedFile, around: Surroundings) -> ParsedFile | Around:
    """Return what to read a file with where it stands, or the file when that is settled."""
    if all(one.kind != WORKFLOW for one in plain.documents):
        return plain
    if (fault := around.broken(path)) is not None:
        return held_back(plain, fault)
    return around.around(path, agents_of(plain))


def agents_of(file: ParsedFile) -> tuple[str, ...]:
    """Return the names of the agents that a file's workflows use."""
    found = (one.declaration.agents for one in file.documents if one.declaration is not None)
    return tuple(name for names in found for name in names)


def held_back(file: ParsedFile, fault: Fault) -> ParsedFile:
    """Return the file with its workflows unreadable: they keep what they last said validly."""
    problem = f"the Defaults of its folder are invalid: {fault.problem}"
    told = replace(fault, problem=problem, reason="DefaultsInvalid")
    return replace(
        file,
        documents=tuple(
            replace(one, declaration=None, body=None, faults=(told,))
            if one.kind == WORKFLOW and not one.faults
            else one
            for one in file.documents
        ),
    )
