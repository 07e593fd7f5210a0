"""Faults between the manifests of one source: groups, workflows that call or start others."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from controller.manifest.graph import cycle
from controller.manifest.names import nearest
from controller.model.source import Declaration, Fault, ParsedDocument

WORKFLOW = "Workflow"
Names = Callable[[Declaration], tuple[str, ...]]
"""The workflows that a declaration names."""


class Declared(NamedTuple):
    """A valid workflow and the line it begins at."""

    line: int
    what: Declaration


def between(
    documents: Iterable[ParsedDocument], *, groups: Collection[str] = ()
) -> tuple[Fault, ...]:
    """Return what is wrong between the workflows of one source.

    Two limits for one group, or none; a limit for a group of the configuration; the name of a
    workflow that isn't there (a faulty one is); workflows that call, or start, each other.
    Names of other sources (`source/name`) are not judged.

    Args:
        documents: of every file of the source.
        groups: the names under the configuration's `groups`.

    Returns:
        Faults sorted by file and line.
    """
    workflows = [one for one in documents if one.kind == WORKFLOW]
    known = {one.name for one in workflows}
    declared = {
        one.name: Declared(one.line, one.declaration) for one in workflows if one.declaration
    }
    found = [
        *_groups(declared.values(), groups),
        *_unknown(declared.values(), known, "/spec/triggers", upstreams_of),
        *_wrong_calls(declared, known),
        *_circles(declared, upstreams_of, "workflows start each other"),
    ]
    return tuple(sorted(found, key=lambda fault: (fault.file, fault.line)))


def wrong_calls(
    documents: Iterable[ParsedDocument], known: Collection[str] = ()
) -> Mapping[str, Fault]:
    """Return what is wrong between workflows and those that they call, by the caller's name.

    Args:
        documents: of every file of the source, or of all that can be reached by calls.
        known: names that are there besides, though nothing can be read of them.
    """
    workflows = [one for one in documents if one.kind == WORKFLOW]
    calling = {
        one.name: Declared(one.line, one.declaration)
        for one in workflows
        if one.declaration and one.declaration.calls
    }
    if not calling:
        return {}
    names = {one.name for one in workflows} | set(known)
    places = {(one.what.file, one.line): name for name, one in calling.items()}
    found: dict[str, Fault] = {}
    for fault in _wrong_calls(calling, names):
        found.setdefault(places[fault.file, fault.line], fault)
    return found


def _wrong_calls(declared: Mapping[str, Declared], known: set[str]) -> Iterator[Fault]:
    yield from _unknown(declared.values(), known, "/spec/steps", calls_of)
    yield from _circles(declared, calls_of, "workflows use each other")


def calls_of(declaration: Declaration) -> tuple[str, ...]:
    return declaration.calls


def upstreams_of(declaration: Declaration) -> tuple[str, ...]:
    return tuple(upstream.workflow for upstream in declaration.upstreams)


def _fault(one: Declared, pointer: str, problem: str, remedy: str) -> Fault:
    return Fault(
        file=one.what.file,
        line=one.line,
        column=1,
        pointer=pointer,
        problem=problem,
        remedy=remedy,
    )


def _groups(declared: Iterable[Declared], configured: Collection[str]) -> Iterator[Fault]:
    members: dict[str, list[Declared]] = {}
    for one in declared:
        if one.what.concurrency is not None:
            members.setdefault(one.what.concurrency.group, []).append(one)
    for group, those in members.items():
        limits = {_limit(one): one for one in those if _limit(one) is not None}
        for one in those:
            if fault := _wrong_limit(one, group, limits, configured):
                yield fault


def _limit(one: Declared) -> int | None:
    return one.what.concurrency.limit if one.what.concurrency else None


def _wrong_limit(
    one: Declared, group: str, limits: Mapping[int | None, Declared], configured: Collection[str]
) -> Fault | None:
    at = "/spec/concurrency/limit"
    if group in configured:
        problem = f"the limit of the group {group!r} stands in the configuration"
        return None if _limit(one) is None else _fault(one, at, problem, "leave it out")
    if not limits:
        problem, remedy = f"the group {group!r} has no limit", "add one to its workflows"
        return _fault(one, "/spec/concurrency", problem, remedy)
    if len(limits) == 1 or _limit(one) is None:
        return None
    told = ", ".join(f"{limit} in {other.what.file}" for limit, other in limits.items())
    problem = f"the group {group!r} has several limits: {told}"
    return _fault(one, at, problem, "write the same limit, or leave out all but one")


def _unknown(
    declared: Iterable[Declared], known: set[str], pointer: str, names: Names
) -> Iterator[Fault]:
    for one in declared:
        for name in names(one.what):
            if "/" not in name and name not in known:
                remedy = nearest(name, known - {one.what.name}, none="commit its manifest")
                yield _fault(one, pointer, f"there is no workflow {name!r} in this source", remedy)


def _circles(
    declared: Mapping[str, Declared],
    before: Names,
    problem: str,
) -> Iterator[Fault]:
    """One fault for each workflow of a circle; taken out, the rest is looked at again."""
    graph = {name: before(one.what) for name, one in declared.items() if before(one.what)}
    while circle := cycle(graph):
        for name in circle[1:]:
            del graph[name]
            text = f"{problem}: {' -> '.join(circle)}"
            yield _fault(declared[name], "/spec", text, "remove one of these")
