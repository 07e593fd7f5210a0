"""The index of a parsed file: what the planner needs of it, as JSON for the parse cache.

Only files without faults are kept, and bodies lie beside: a start with everything in the cache
decodes indexes alone.
"""

import json
from datetime import timedelta
from functools import lru_cache
from typing import Any

from controller import digest
from controller.model.source import Declaration, ParsedDocument, ParsedFile
from controller.model.workflow import CatchUp, ConcurrencyPolicy, Input, OnChange, Schedule


def encode(parsed: ParsedFile) -> str:
    """Return the index of a file without faults. `decode` reads it back, bodies left out."""
    documents = [_document(document) for document in parsed.documents]
    return digest.canonical({"ignored": parsed.ignored, "documents": documents})


def _document(document: ParsedDocument) -> list[Any]:
    head = [document.kind, document.name, document.document, document.line]
    if document.declaration is not None:
        return [*head, _declaration(document.declaration)]
    return [*head, document.body]  # of an Agent or Defaults: few, and always needed whole


def _declaration(one: Declaration) -> list[Any]:
    return [
        one.spec_digest,
        one.suspended,
        [[s.cron, s.time_zone, s.name, s.jitter.total_seconds(), s.params] for s in one.schedules],
        _on_change(one.on_change),
        [[i.name, i.path, i.ignore] for i in one.inputs],
        one.secrets,
        one.agents,
        one.concurrency_policy,
        one.priority,
        None if one.starting_deadline is None else one.starting_deadline.total_seconds(),
        one.catch_up,
        one.max_catch_up,
    ]


def _on_change(value: OnChange | None) -> list[bool] | None:
    return None if value is None else [value.spec, value.inputs, value.cancel_in_progress]


def decode(text: str, *, source: str, path: str, blob: str) -> ParsedFile:
    """Return the file that `encode` was given, as file `path` of `source`; workflows' bodies None.

    `blob` is what the text was known by: see `parse.known_by`.
    """
    value = json.loads(text)
    where = (source, path, blob)
    documents = tuple([_read_document(item, where) for item in value["documents"]])
    return ParsedFile(blob=blob, documents=documents, ignored=value["ignored"])


def _read_document(item: list[Any], where: tuple[str, str, str]) -> ParsedDocument:
    kind, name, number, line, told = item
    whole = not isinstance(told, list)
    return ParsedDocument(
        kind=kind,
        name=name,
        document=number,
        line=line,
        declaration=None if whole else _read_declaration(told, name, number, where),
        body=told if whole else None,
    )


def _read_declaration(
    item: list[Any], name: str, number: int, where: tuple[str, str, str]
) -> Declaration:
    digest_, suspended, schedules, change, inputs, secrets, agents, policy, *last = item
    priority, late, catch_up, max_catch_up = last
    return Declaration(
        source=where[0],
        name=name,
        file=where[1],
        document=number,
        blob=where[2],
        spec_digest=digest_,
        suspended=suspended,
        schedules=tuple([_schedule(*one) for one in schedules]),
        on_change=None if change is None else _changes(*change),
        inputs=tuple([Input(name=n, path=p, ignore=tuple(i)) for n, p, i in inputs]),
        secrets=tuple(secrets),
        agents=tuple(agents),
        concurrency_policy=ConcurrencyPolicy(policy),
        priority=priority,
        starting_deadline=None if late is None else _seconds(late),
        catch_up=CatchUp(catch_up),
        max_catch_up=max_catch_up,
    )


def _schedule(
    cron: str, zone: str, name: str | None, jitter: float, params: dict[str, Any]
) -> Schedule:
    return Schedule(cron=cron, time_zone=zone, name=name, jitter=_seconds(jitter), params=params)


@lru_cache(maxsize=256)
def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


@lru_cache(maxsize=8)
def _changes(spec: bool, inputs: bool, cancel: bool) -> OnChange:
    return OnChange(spec=spec, inputs=inputs, cancel_in_progress=cancel)
