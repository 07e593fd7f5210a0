"""Why a run waits, for people: whom it waits for, and for which place."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from controller import config as configuration
from controller import manifest
from controller.cli.common import now
from controller.model import view
from controller.model.condition import WorkflowStatus
from controller.model.run import Run
from controller.model.source import Declaration
from controller.place import last_valid
from controller.reconcile.runs import group_key
from controller.store.reader import Reader


class Group(NamedTuple):
    """The concurrency group of a run that waits, as its workflow is loaded now."""

    name: str  # as its manifest writes it
    place: str  # as the store counts it: "source/name", or the name of the configuration's group
    limit: int | None  # None: only the controller's configuration knows it

    def is_full(self, holders: int) -> bool:
        return holders > 0 and (self.limit is None or holders >= self.limit)


def why_waiting(store: Reader, run: Run, config: Path | None) -> str:
    """Return what a Pending run waits for."""
    if run.not_before is not None and run.not_before > now():
        return f"until {view.time(run.not_before)} {run.reason}".strip()
    others = [one for one in store.planned() if one.id != run.id and one.instance]
    same = [one for one in others if (one.source, one.workflow) == (run.source, run.workflow)]
    if same:
        return f"for {same[0].id}, a run of the same workflow"
    group = group_of(store, run, limits_of(config))
    holders = [one.id for one in others if group and one.group == group.place]
    if group and group.is_full(len(holders)):
        limit = "the configuration's limit" if group.limit is None else f"limit {group.limit}"
        return f"for a place in the group {group.name} ({limit}), held by {', '.join(holders)}"
    if others:
        return f"for a place: {len(others)} runs are active (maxParallel.runs)"
    return "to be claimed: is the controller running?"


def limits_of(config: Path | None) -> Mapping[str, Any]:
    """Return the configuration's `groups`, as far as a command that only looks knows them."""
    file = configuration.locate(config)
    return configuration.read("Config", file).get("groups", {}) if file else {}


def group_of(store: Reader, run: Run, configured: Mapping[str, Any]) -> Group | None:
    status = store.workflow(run.source, run.workflow)
    own = next(declared(store, [status]), None) if status is not None else None
    if own is None or own.concurrency is None:
        return None
    name, limit = own.concurrency.group, own.concurrency.limit
    if name in configured:
        return Group(name, name, configured[name]["limit"])
    limit = limit or limit_among(declared(store, store.workflows(run.source)), name)
    place = name if limit is None else group_key(run.source, name, configured)
    return Group(name, place, limit)


def limit_among(declarations: Iterator[Declaration], group: str) -> int | None:
    """Return the limit that one of the group's workflows says."""
    groups = (one.concurrency for one in declarations if one.concurrency)
    return min((one.limit for one in groups if one.group == group and one.limit), default=None)


def declared(store: Reader, statuses: list[WorkflowStatus]) -> Iterator[Declaration]:
    """Yield what these workflows declare, as far as the parse cache has it."""
    index = store.parsed({one.blob for one in statuses if one.blob}, manifest.READER_VERSION)
    yield from filter(None, (last_valid(one, index) for one in statuses))
