"""bytes -> ParsedFile. A fast pass for what is well; a second one, with positions, for faults."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from controller import digest
from controller.manifest import checks, raw, reader, schema, starts, tree, values
from controller.manifest.around import PLAIN, Around, schema_findings
from controller.manifest.finding import Finding, Path, pointer
from controller.manifest.template import OPENING
from controller.model.source import Declaration, Fault, ParsedDocument, ParsedFile
from controller.model.workflow import ConcurrencyPolicy, Json

API = "rondel/"
WORKFLOW, AGENT = "Workflow", "Agent"
MAX_FAULTS = 100  # of one file
_LFS = b"version https://git-lfs.github.com/spec/"


Where = tuple[str, str, str, Around]
"""The source's name, the file's path, what its text is known by, what stands around it."""


def parse_file(
    path: str, data: bytes, *, source: str = "", blob: str | None = None, around: Around = PLAIN
) -> ParsedFile:
    """Return all that the file says: its manifests, or every fault with its position.

    Args:
        path: relative to the source's root; it stands in declarations and faults.
        data: the file's bytes.
        source: the source's name, for declarations.
        blob: Git's id of the bytes; computed when left out.
        around: the Defaults and agents that the file's workflows are read with.
    """
    blob = known_by(digest.git_blob(data) if blob is None else blob, around)
    if fault := _unreadable(path, data):
        return ParsedFile(blob=blob, faults=(fault,))
    where = (source, path, blob, around)
    try:
        return _fast(data, where)
    except reader.IntricateError:
        return _explained(data, where)


def known_by(blob: str, around: Around) -> str:
    """Return what a text is known by: Git's blob id, and what it is read with when that matters."""
    mark = around.mark
    return f"{blob}+{mark}" if mark else blob


def _unreadable(path: str, data: bytes) -> Fault | None:
    if len(data) > reader.MAX_BYTES:
        problem = f"the file has {len(data):,} bytes, more than {reader.MAX_BYTES:,}"
        return Fault(file=path, problem=problem, remedy="split it")
    if data.startswith(_LFS):
        remedy = "set `lfs: true` at its source, or commit the manifest itself"
        return Fault(
            file=path, line=1, column=1, problem="this is a Git LFS pointer", remedy=remedy
        )
    return None


def calls_written(data: bytes) -> tuple[str, ...]:
    """Return the workflows that a file's steps run, sorted, also where the file has faults."""
    if b"uses" not in data or _unreadable("", data):
        return ()
    values_ = (tree.value(one.root) for one in tree.read(data).trees)
    specs = (raw.mapping(value, "spec") for value in values_ if is_manifest(value))
    return tuple(sorted({name for spec in specs for name in values.names_used(spec)["calls"]}))


def is_manifest(value: Json) -> bool:
    """Tell whether a document is one of ours: its apiVersion begins with `rondel/`."""
    version = value.get("apiVersion") if isinstance(value, dict) else None
    return isinstance(version, str) and version.startswith(API)


def _fast(data: bytes, where: Where) -> ParsedFile:
    documents = []
    ignored = 0
    for number, (line, value) in enumerate(reader.read(data)):
        if not is_manifest(value):
            ignored += 1
        else:
            documents.append(_judged_fast(value, number, line, where))
    return ParsedFile(blob=where[2], documents=tuple(documents), ignored=ignored)


def _judged_fast(value: dict[str, Any], number: int, line: int, where: Where) -> ParsedDocument:
    kind = value.get("kind")
    if kind not in schema.KINDS or not schema.decider(kind)(value):
        raise reader.IntricateError
    document = _document(value, number, line, where)
    expressions = document.body is not None and OPENING in document.body
    if any(_checked(value, where[3], expressions=expressions)):
        raise reader.IntricateError
    return document


def _checked(
    value: dict[str, Any], around: Around, *, expressions: bool = True
) -> Iterable[Finding]:
    """Return what is wrong with a document beyond its schema, as it stands in its surroundings."""
    kind = value.get("kind", WORKFLOW)
    if kind != WORKFLOW:
        return schema_findings(value) if kind == AGENT else ()
    spec = value.get("spec")
    if isinstance(spec, dict) and around.defaults:
        value = around.applied(value)
    return checks.check(value, expressions=expressions or bool(around.defaults), around=around)


def _document(value: dict[str, Any], number: int, line: int, where: Where) -> ParsedDocument:
    if value["kind"] == WORKFLOW:
        value = where[3].applied(value)
    metadata, spec = value["metadata"], value["spec"]
    body, spec_digest = pinned(metadata, spec)
    name = metadata["name"]
    return ParsedDocument(
        kind=value["kind"],
        name=name,
        document=number,
        line=line,
        declaration=_declaration(spec, spec_digest, name, number, where)
        if value["kind"] == WORKFLOW
        else None,
        body=body,
    )


def pinned(metadata: dict[str, Any], spec: dict[str, Any]) -> tuple[str, str]:
    """Return the body a run is pinned to, and the digest of the spec without `suspend`."""
    text = digest.canonical(spec)
    told = text
    if "suspend" in spec:
        told = digest.canonical({key: item for key, item in spec.items() if key != "suspend"})
    body = f'{{"metadata":{digest.canonical(metadata)},"spec":{text}}}'
    return body, digest.sha256(told)


def _declaration(
    spec: dict[str, Any], spec_digest: str, name: str, number: int, where: Where
) -> Declaration:
    return Declaration(
        source=where[0],
        name=name,
        file=where[1],
        document=number,
        blob=where[2],
        spec_digest=spec_digest,
        suspended=spec.get("suspend", False),
        concurrency_policy=ConcurrencyPolicy(spec.get("concurrencyPolicy", "Forbid")),
        priority=spec.get("priority", 0),
        **values.names_used(spec),
        **starts.starting(spec),
    )


def _explained(data: bytes, where: Where) -> ParsedFile:
    path = where[1]
    forest = tree.read(data)
    documents = []
    ignored = 0
    for number, one in enumerate(forest.trees):
        value = tree.value(one.root)
        if is_manifest(value):
            documents.append(_judged(one, value, number, where))
        else:
            ignored += 1
    faults: tuple[Fault, ...] = ()
    if forest.stopped is not None:
        place, problem, remedy = forest.stopped
        faults = (_fault(path, place, "", problem, remedy),)
    limited = _limited(documents, MAX_FAULTS - len(faults))
    return ParsedFile(blob=where[2], documents=limited, faults=faults, ignored=ignored)


def _fault(path: str, place: tree.Place, at: str, problem: str, remedy: str) -> Fault:
    return Fault(
        file=path,
        line=place.line,
        column=place.column,
        pointer=at,
        problem=problem,
        remedy=remedy,
    )


def _limited(documents: list[ParsedDocument], room: int) -> tuple[ParsedDocument, ...]:
    """Keep `room` faults in all; a faulty document keeps one at least, to stay faulty."""
    kept = []
    for document in documents:
        faults = document.faults[: max(room, 1)]
        room -= len(faults)
        kept.append(document if faults == document.faults else _with_faults(document, faults))
    return tuple(kept)


def _with_faults(document: ParsedDocument, faults: tuple[Fault, ...]) -> ParsedDocument:
    return ParsedDocument(
        kind=document.kind,
        name=document.name,
        document=document.document,
        line=document.line,
        faults=faults,
    )


def _judged(one: tree.Tree, value: dict[str, Any], number: int, where: Where) -> ParsedDocument:
    found = list(islice(findings(one.root, value, where[3]), MAX_FAULTS))
    if not found:
        return _document(value, number, one.line, where)
    faults = {_located(one.root, where[1], finding): None for finding in found}
    in_order = sorted(faults, key=lambda fault: (fault.line, fault.column))
    return ParsedDocument(
        kind=str(value.get("kind", "")),
        name=_name(value),
        document=number,
        line=one.line,
        faults=tuple(in_order),
    )


def _name(value: dict[str, Any]) -> str:
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _located(root: tree.Node, path: str, finding: Finding) -> Fault:
    place = tree.locate(root, finding.path, at_key=finding.at_key)
    return _fault(path, place, pointer(finding.path), finding.problem, finding.remedy)


def findings(root: tree.Node, value: dict[str, Any], around: Around) -> Iterator[Finding]:
    """Yield all that is wrong with a document; what a fault makes unsure is not judged again."""
    broken = list(tree.findings(root))
    yield from broken
    hidden = {finding.path for finding in broken}
    judged = chain(_schema_findings(value), _env_findings(root, value), _checked(value, around))
    for finding in judged:
        if not _below(finding.path, hidden):
            yield _inherited(finding, root) if around.defaults else finding


def _inherited(finding: Finding, root: tree.Node) -> Finding:
    """Say of what stands in no file of the workflow that its folder's Defaults brought it."""
    path = finding.path[:3]
    if path[:2] not in {("spec", "defaults"), ("spec", "history")} or tree.node_at(root, path):
        return finding
    return finding._replace(problem=f"{finding.problem} (from the Defaults of its folder)")


def _schema_findings(value: dict[str, Any]) -> Iterable[Finding]:
    kind = value.get("kind")
    if kind not in schema.KINDS:
        listed = ", ".join(schema.KINDS)
        shown = f"there is no kind {kind!r}" if kind is not None else "`kind` is missing"
        return [Finding(("kind",), shown, f"use one of {listed}")]
    if schema.decider(kind)(value):
        return []
    from controller.manifest.explain import explain  # noqa: PLC0415 - jsonschema costs 90 ms

    return explain(kind, value)


def _env_findings(root: tree.Node, value: dict[str, Any]) -> Iterator[Finding]:
    """A number or boolean in `env` must be written as JSON writes it: 1.50 would become 1.5.

    So must a version in a matrix: 3.10 would become 3.1.
    """
    if value.get("kind") != WORKFLOW:
        return
    for path, key, item in chain(_env_values(value), _axis_numbers(value)):
        node = tree.node_at(root, (*path, key))
        if isinstance(item, (bool, int, float)) and node is not None and not node.canonical:
            problem = f"as a value this becomes {json.dumps(item)}"
            yield Finding((*path, key), problem, "quote it")


def _env_values(value: dict[str, Any]) -> Iterator[tuple[Path, str | int, Json]]:
    spec = raw.mapping(value, "spec")
    for key, item in raw.mapping(raw.mapping(spec, "defaults"), "env").items():
        yield ("spec", "defaults", "env"), key, item
    for section, index, step in raw.steps(spec):
        for key, item in raw.mapping(step, "env").items():
            yield (*raw.step_path(section, index), "env"), key, item
        for number, service in raw.entries(step, "services"):
            for key, item in raw.mapping(service, "env").items():
                yield (*raw.step_path(section, index), "services", number, "env"), key, item


def _axis_numbers(value: dict[str, Any]) -> Iterator[tuple[Path, str | int, Json]]:
    for section, index, step in raw.steps(raw.mapping(value, "spec")):
        for axis, items in raw.mapping(step, "matrix").items():
            for number, item in enumerate(items if isinstance(items, list) else ()):
                if isinstance(item, float):
                    yield (*raw.step_path(section, index), "matrix", axis), number, item


def _below(path: Path, hidden: set[Path]) -> bool:
    return any(path[:length] in hidden for length in range(1, len(path) + 1))
