"""Documents that are not manifests: the configuration, read and checked like one."""

from collections.abc import Iterable
from typing import Any

from controller.manifest import reader, schema, tree
from controller.manifest.finding import Finding, pointer
from controller.manifest.reader import IntricateError
from controller.manifest.scalar import resolve
from controller.model.source import Fault
from controller.model.workflow import Json


def read_document(kind: str, path: str, data: bytes) -> tuple[dict[str, Any], tuple[Fault, ...]]:
    """Return the one document of a file and every fault of it, with positions.

    Args:
        kind: "Config" or "Dagger": which schema it must fit.
        path: of the file, for the faults.
        data: the file's bytes; an empty file is an empty document.
    """
    try:
        documents = reader.read(data)
    except IntricateError:
        return explained(kind, path, data)
    value = documents[0].value if documents else {}
    value = {} if value is None else value
    if len(documents) > 1 or not isinstance(value, dict) or not schema.decider(kind)(value):
        return explained(kind, path, data)
    return value, ()


def explained(kind: str, path: str, data: bytes) -> tuple[dict[str, Any], tuple[Fault, ...]]:
    forest = tree.read(data)
    if forest.stopped is not None:
        place, problem, remedy = forest.stopped
        return {}, (at(path, place, Finding((), problem, remedy)),)
    if len(forest.trees) != 1:
        return {}, (Fault(file=path, problem="has several documents", remedy="keep one of them"),)
    root = forest.trees[0].root
    value = tree.value(root)
    found = [*tree.findings(root), *findings(kind, value)]
    faults = (at(path, tree.locate(root, one.path, at_key=one.at_key), one) for one in found)
    return value if isinstance(value, dict) else {}, tuple(dict.fromkeys(faults))


def at(path: str, place: tree.Place, finding: Finding) -> Fault:
    return Fault(
        file=path,
        line=place.line,
        column=place.column,
        pointer=pointer(finding.path),
        problem=finding.problem,
        remedy=finding.remedy,
    )


def findings(kind: str, value: Json) -> Iterable[Finding]:
    if schema.decider(kind)(value):
        return ()
    from controller.manifest.explain import explain  # noqa: PLC0415 - jsonschema costs 90 ms

    return explain(kind, value)


def faults_of(kind: str, value: Json, where: str) -> tuple[Fault, ...]:
    """Return the faults of a value that was not read from a file of its own."""
    return tuple(
        Fault(file=where, pointer=pointer(one.path), problem=one.problem, remedy=one.remedy)
        for one in findings(kind, value)
    )


def schema_of(kind: str) -> dict[str, Any]:
    """Return the schema of "Config" or "Dagger"; treat it as frozen."""
    return schema.document(kind)


def read_scalar(text: str) -> Json:
    """Return what a plain YAML scalar stands for: null, a boolean, a number, else the text."""
    return resolve(text)
