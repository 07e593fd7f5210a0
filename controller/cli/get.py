"""`rondel get`: lists of what the store knows; works without a daemon."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated

import typer

from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    StateOption,
    ago,
    find_run,
    find_source,
    find_workflow,
    now,
    print_json,
    print_yaml,
    reader,
    short_revision,
    show,
    took,
)
from controller.errors import UsageError
from controller.model import view
from controller.model.condition import ORPHANED, SUSPENDED, Condition, find
from controller.model.run import Phase
from controller.reconcile.sharing import SHARED
from controller.store.reader import Reader

SourceOption = Annotated[str | None, typer.Option("--source", help="Of this source only.")]
WorkflowOption = Annotated[str | None, typer.Option("--workflow", help="Of this workflow only.")]
LimitOption = Annotated[int, typer.Option("--limit", help="At most so many, newest first.")]


def get(  # noqa: PLR0917 - options of one command
    kind: Annotated[
        str, typer.Argument(help="sources, workflows, runs, schedules, cache, events, agents")
    ],
    name: Annotated[str | None, typer.Argument(help="One of them.")] = None,
    output: OutputOption = Format.TABLE,
    source: SourceOption = None,
    workflow: WorkflowOption = None,
    phase: Annotated[
        list[Phase] | None, typer.Option("--phase", help="Runs in this phase.")
    ] = None,
    limit: LimitOption = 50,
    everything: Annotated[bool, typer.Option("--all", help="Also retired workflows.")] = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """List sources, workflows, runs, schedules, results, events or agents.

    Example: rondel get runs --workflow report -o json
    """
    if kind.rstrip("s") == "agent":
        agents(output, config)
        return
    show_kind = KINDS.get(kind.rstrip("s"))
    if show_kind is None:
        raise UsageError(f"there is no kind {kind!r}", remedy=f"use {', '.join(KINDS)}, agent")
    with reader(state_dir, config) as store:
        show_kind(
            store,
            Wish(
                name=name,
                output=output,
                source=source,
                workflow=workflow,
                phases=phase or [],
                limit=limit,
                everything=everything,
            ),
        )


class Wish:
    """What was asked for."""

    def __init__(
        self,
        *,
        name: str | None,
        output: Format,
        source: str | None,
        workflow: str | None,
        phases: list[Phase],
        limit: int,
        everything: bool,
    ) -> None:
        self.name, self.output, self.source = name, output, source
        self.workflow, self.phases, self.limit = workflow, phases, limit
        self.everything = everything
        self.now: datetime = now()


def sources(store: Reader, wish: Wish) -> None:
    found = [find_source(store, wish.name)] if wish.name else store.sources()
    if wish.name and wish.output in {Format.JSON, Format.YAML}:
        show_one(view.source_view(found[0], store.workflows(wish.name)), wish.output)
        return
    views = [view.source_view(one) for one in found]
    rows = [
        (
            one.name,
            one.kind,
            ready(one.conditions),
            short_revision(one.last_applied_revision) or "-",
            str(one.workflows),
            ago(one.last_success_at, wish.now),
            reason(one.conditions),
        )
        for one in found
    ]
    columns = ("name", "kind", "ready", "revision", "workflows", "applied", "message")
    show(views, wish.output, columns=columns, rows=rows)


def workflows(store: Reader, wish: Wish) -> None:
    if wish.name:
        found = [find_workflow(store, wish.name)]
    else:
        found = store.workflows(wish.source, retired=wish.everything)
    busy: dict[tuple[str, str], int] = {}
    for run in store.planned():
        key = (run.source, run.workflow)
        busy[key] = busy.get(key, 0) + 1
    views = [view.workflow_view(one, active=busy.get((one.source, one.name), 0)) for one in found]
    if wish.name and wish.output in {Format.JSON, Format.YAML}:
        show_one(views[0], wish.output)
        return
    rows = [
        (
            one.source,
            one.name,
            ready(one.conditions),
            shown["health"],
            str(one.last_phase or "-"),
            ago(one.last_success_at, wish.now),
            str(one.generation),
            "retired" if one.retired else reason(one.conditions),
        )
        for one, shown in zip(found, views, strict=True)
    ]
    columns = (
        *("source", "name", "ready", "health", "last run", "last success", "generation"),
        "message",
    )
    show(views, wish.output, columns=columns, rows=rows)


def runs(store: Reader, wish: Wish) -> None:
    if wish.name:
        run = find_run(store, wish.name)
        steps = store.steps(run.id)
        if wish.output in {Format.JSON, Format.YAML}:
            show_one(view.run_view(run, steps), wish.output)
            return
        found = [run]
    else:
        found = store.runs(
            source=wish.source,
            workflow=wish.workflow,
            phases=wish.phases or None,
            limit=wish.limit,
        )
    whole = wish.output in {Format.JSON, Format.YAML}
    views = [view.run_view(one, store.steps(one.id) if whole else None) for one in found]
    rows = [
        (
            one.id,
            one.source,
            str(one.phase),
            str(one.trigger),
            ago(one.created_at, wish.now),
            took(one.started_at, one.finished_at, wish.now),
            one.reason + (f": {one.message}" if one.message and wish.output is Format.WIDE else ""),
        )
        for one in found
    ]
    columns = ("id", "source", "phase", "trigger", "age", "took", "reason")
    show(views, wish.output, columns=columns, rows=rows, name="id")


def schedules(store: Reader, wish: Wish) -> None:
    from controller.cli.schedule import upcoming  # noqa: PLC0415 - each command loads its own

    coming = upcoming(store, wish.workflow or wish.name, after=wish.now)
    views = [
        {
            "source": one.source,
            "name": one.schedule.identity,
            **view.slot_view(
                one.workflow, one.schedule.cron, one.schedule.time_zone, (one.slot, one.starts)
            ),
        }
        for one in coming
    ]
    rows = [
        (
            one.source,
            one.workflow,
            one.schedule.name or "-",
            one.schedule.cron,
            one.schedule.time_zone,
            view.time(one.starts) or "-",
        )
        for one in coming
    ]
    columns = ("source", "workflow", "name", "cron", "time zone", "next")
    show(views, wish.output, columns=columns, rows=rows)


def events(store: Reader, wish: Wish) -> None:
    run = find_run(store, wish.name).id if wish.name else None
    found = store.events(source=wish.source, workflow=wish.workflow, run=run, limit=wish.limit)
    views = [{**view.event_view(one), "name": str(one.id)} for one in found]
    rows = [
        (
            view.time(one.at) or "-",
            one.reason,
            one.run or "/".join(part for part in (one.source, one.workflow) if part),
            one.step,
            one.message.replace("\n", " | "),
        )
        for one in found
    ]
    show(views, wish.output, columns=("time", "reason", "about", "step", "message"), rows=rows)


def cache(store: Reader, wish: Wish) -> None:
    from controller.cli.cache import tell  # noqa: PLC0415 - each kind loads its own

    found = store.cache_entries(
        source=wish.source, workflow=wish.workflow, key=wish.name, limit=wish.limit
    )
    known(found, wish, "cache")
    tell(found, wish.output, wish.now)


def agents(output: Format, config: object) -> None:
    from pathlib import Path  # noqa: PLC0415 - each kind loads its own

    from controller import config as configuration  # noqa: PLC0415 - as above

    file = configuration.locate(config if isinstance(config, Path) else None)
    found = configuration.load(file).dagger.agents if file else {}
    images = {name: one.container.image if one.container else "-" for name, one in found.items()}
    views = [
        {
            "source": "",
            "name": name,
            "framework": str(one.framework),
            "capabilities": [str(capability) for capability in one.capabilities],
            "image": images[name],
        }
        for name, one in found.items()
    ]
    rows = [(name, str(one.framework), images[name]) for name, one in found.items()]
    show(views, output, columns=("name", "framework", "image"), rows=rows)


KINDS: dict[str, Callable[[Reader, Wish], None]] = {
    "source": sources,
    "workflow": workflows,
    "run": runs,
    "schedule": schedules,
    "cache": cache,
    "event": events,
}


def show_one(shown: object, output: Format) -> None:
    (print_json if output is Format.JSON else print_yaml)(shown)


def known(found: Sequence[object], wish: Wish, kind: str) -> None:
    if wish.name and not found:
        raise UsageError(f"there is no {kind} {wish.name!r}", remedy=f"see `rondel get {kind}s`")


def ready(conditions: Iterable[Condition]) -> str:
    found = find(conditions, "Ready")
    return str(found.status) if found else "Unknown"


def reason(conditions: Iterable[Condition]) -> str:
    """Return what to know beside a name: why it isn't ready, else what it is besides."""
    found = find(conditions, "Ready")
    if found is not None and str(found.status) != "True":
        return f"{found.reason}: {found.message}"
    beside = (one for type_ in (SUSPENDED, ORPHANED, SHARED) if (one := find(conditions, type_)))
    return " | ".join(f"{one.type}: {one.message}" for one in beside)
