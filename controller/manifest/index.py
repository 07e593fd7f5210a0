"""The index of a parsed file: what the planner needs of it, as JSON for the parse cache.

Only files without faults are kept, and bodies lie beside: a start with everything in the cache
decodes indexes alone.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import Any

from controller import digest
from controller.model.source import Declaration, ParsedDocument, ParsedFile
from controller.model.workflow import (
    CatchUp,
    Concurrency,
    ConcurrencyPolicy,
    History,
    Input,
    OnChange,
    RunPolicy,
    Schedule,
    Upstream,
    Webhook,
)

NO_HISTORY = History()


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
        [_schedule(s) for s in one.schedules],
        _on_change(one.on_change),
        [[i.name, i.path, i.ignore] for i in one.inputs],
        one.secrets,
        one.agents,
        one.concurrency_policy,
        one.priority,
        None if one.starting_deadline is None else one.starting_deadline.total_seconds(),
        one.catch_up,
        one.max_catch_up,
        _seldom(one),
    ]


def _seldom(one: Declaration) -> dict[str, Any]:
    """Return what few manifests say, by field; left out what they don't."""
    told = {
        "upstreams": [[u.workflow, u.phases, u.params] for u in one.upstreams],
        "webhooks": [[w.receiver, w.params] for w in one.webhooks],
        "alerts": one.alerts,
        "calls": one.calls,
        "concurrency": one.concurrency and [one.concurrency.group, one.concurrency.limit],
        "queue_timeout": one.queue_timeout and one.queue_timeout.total_seconds(),
        "history": None if one.history == NO_HISTORY else _history(one.history),
        "suspend_after": one.suspend_after,
        "expect_every": one.expect_every and one.expect_every.total_seconds(),
    }
    return {name: value for name, value in told.items() if value}


def _history(value: History) -> list[int | bool | None]:
    return [value.successful, value.failed, value.keep_last_successful]


def _schedule(s: Schedule) -> list[Any]:
    return [s.cron, s.time_zone, s.name, s.jitter.total_seconds(), s.params, s.run_policy]


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
    priority, late, catch_up, max_catch_up, seldom = last
    return Declaration(
        source=where[0],
        name=name,
        file=where[1],
        document=number,
        blob=where[2],
        spec_digest=digest_,
        suspended=suspended,
        schedules=tuple([_read_schedule(*one) for one in schedules]),
        on_change=None if change is None else _changes(*change),
        inputs=tuple([Input(name=n, path=p, ignore=tuple(i)) for n, p, i in inputs]),
        secrets=tuple(secrets),
        agents=tuple(agents),
        concurrency_policy=ConcurrencyPolicy(policy),
        priority=priority,
        starting_deadline=None if late is None else _seconds(late),
        catch_up=CatchUp(catch_up),
        max_catch_up=max_catch_up,
        **{name: _SELDOM[name](value) for name, value in seldom.items()},
    )


def _read_schedule(  # noqa: PLR0917 - the fields of one row
    cron: str, zone: str, name: str | None, jitter: float, params: dict[str, Any], policy: str
) -> Schedule:
    return Schedule(
        cron=cron,
        time_zone=zone,
        name=name,
        jitter=_seconds(jitter),
        params=params,
        run_policy=RunPolicy(policy),
    )


@lru_cache(maxsize=256)
def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


@lru_cache(maxsize=8)
def _changes(spec: bool, inputs: bool, cancel: bool) -> OnChange:
    return OnChange(spec=spec, inputs=inputs, cancel_in_progress=cancel)


_SELDOM: dict[str, Callable[[Any], Any]] = {
    "upstreams": lambda told: tuple(
        [Upstream(workflow=w, phases=tuple(p), params=given) for w, p, given in told]
    ),
    "webhooks": lambda told: tuple([Webhook(receiver=r, params=given) for r, given in told]),
    "alerts": tuple,
    "calls": tuple,
    "concurrency": lambda told: Concurrency(group=told[0], limit=told[1]),
    "queue_timeout": _seconds,
    "history": lambda told: History(
        successful=told[0], failed=told[1], keep_last_successful=told[2]
    ),
    "suspend_after": int,
    "expect_every": _seconds,
}
