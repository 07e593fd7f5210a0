"""Faults between the manifests of one source: groups, workflows that call or start others."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from controller.manifest.graph import cycle
from controller.manifest.names import nearest
from controller.model.source import Declaration, Fault, ParsedDocument

WORKFLOW = "Workflow"
Names = Callable[[Declaration], tuple[str, ...]]
"""The workflows that a declaration names."""


Named = tuple[str, Fault]
"""A workflow's name and what is wrong with it."""
MANY = 2


class Declared(NamedTuple):
    """A valid workflow and the line it begins at."""

    line: int
    what: Declaration


def links(document: ParsedDocument) -> bool:
    """Tell whether a document names other workflows, or a group that others may name."""
    what = document.declaration
    return what is not None and bool(what.calls or what.upstreams or what.concurrency)


def between(
    documents: Iterable[ParsedDocument],
    *,
    known: Collection[str] = (),
    groups: Collection[str] | None = (),
) -> Mapping[str, Fault]:
    """Return what is wrong between the workflows of one source: the first fault of each, by name.

    Two limits for one group, or none; a limit for a group of the configuration; a call of a
    workflow that isn't there (a faulty one is); workflows that call, or start, each other.
    Names of other sources (`source/name`) are not judged.

    Args:
        documents: those for which `links` is true are enough.
        known: names of workflows that are there besides.
        groups: the names under the configuration's `groups`; None: nobody knows them.
    """
    workflows = [one for one in documents if one.kind == WORKFLOW]
    declared = {
        one.name: Declared(one.line, one.declaration) for one in workflows if one.declaration
    }
    names = {one.name for one in workflows} | set(known)
    faults: dict[str, Fault] = {}
    for name, fault in (
        *_groups(declared, groups),
        *_unknown(declared, names, "/spec/steps", calls_of),
        *_circles(declared, calls_of, "workflows use each other"),
        *_circles(declared, upstreams_of, "workflows start each other"),
    ):
        faults.setdefault(name, fault)
    return dict(sorted(faults.items()))


def awaited(documents: Iterable[ParsedDocument], known: Collection[str]) -> tuple[Fault, ...]:
    """Return triggers that wait for a workflow that isn't there: no fault, it may come later."""
    declared = {
        one.name: Declared(one.line, one.declaration) for one in documents if one.declaration
    }
    found = _unknown(declared, {*known}, "/spec/triggers", upstreams_of)
    return tuple(fault for _, fault in found)


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


def _groups(
    declared: Mapping[str, Declared], configured: Collection[str] | None
) -> Iterator[Named]:
    members: dict[str, dict[str, Declared]] = {}
    for name, one in declared.items():
        if one.what.concurrency is not None:
            members.setdefault(one.what.concurrency.group, {})[name] = one
    for group, those in members.items():
        limits = {_limit(one): one for one in those.values() if _limit(one) is not None}
        for name, one in those.items():
            if fault := _wrong_limit(one, group, limits, configured):
                yield name, fault


def _limit(one: Declared) -> int | None:
    return one.what.concurrency.limit if one.what.concurrency else None


def _wrong_limit(
    one: Declared,
    group: str,
    limits: Mapping[int | None, Declared],
    configured: Collection[str] | None,
) -> Fault | None:
    at = "/spec/concurrency/limit"
    if configured and group in configured:
        problem = f"the limit of the group {group!r} stands in the configuration"
        return None if _limit(one) is None else _fault(one, at, problem, "leave it out")
    if not limits and configured is not None:
        problem, remedy = f"the group {group!r} has no limit", "add one to its workflows"
        return _fault(one, "/spec/concurrency", problem, remedy)
    if len(limits) < MANY or _limit(one) is None:
        return None
    told = ", ".join(f"{limit} in {other.what.file}" for limit, other in limits.items())
    problem = f"the group {group!r} has several limits: {told}"
    return _fault(one, at, problem, "write the same limit, or leave out all but one")


def _unknown(
    declared: Mapping[str, Declared], known: set[str], pointer: str, names: Names
) -> Iterator[Named]:
    for name, one in declared.items():
        for other in names(one.what):
            if "/" not in other and other not in known:
                remedy = nearest(other, known - {name}, none="commit its manifest")
                problem = f"there is no workflow {other!r} in this source"
                yield name, _fault(one, pointer, problem, remedy)


def _circles(
    declared: Mapping[str, Declared],
    before: Names,
    problem: str,
) -> Iterator[Named]:
    """One fault for each workflow of a circle; taken out, the rest is looked at again."""
    graph = {name: before(one.what) for name, one in declared.items() if before(one.what)}
    while circle := cycle(graph):
        for name in circle[1:]:
            del graph[name]
            text = f"{problem}: {' -> '.join(circle)}"
            yield name, _fault(declared[name], "/spec", text, "remove one of these")
