"""Commands that keep workflows and sources from starting anything by themselves."""

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from controller.cli.act import named
from controller.cli.client import Client
from controller.cli.common import (
    ConfigOption,
    ServerOption,
    StateOption,
    find_workflow,
    now,
    reader,
)
from controller.errors import UsageError
from controller.model import view
from controller.model.quantity import parse_duration
from controller.store.reader import Reader

NameArgument = Annotated[
    str,
    typer.Argument(metavar="WORKFLOW-OR-SOURCE", help="a source, a workflow, or SOURCE/WORKFLOW"),
]
SOURCE, KIND = "source:", "source/"


def suspend(  # noqa: PLR0917 - options of one command
    name: NameArgument,
    reason: Annotated[str, typer.Option("--reason", help="Shown to everybody.")] = "",
    until: Annotated[
        str | None, typer.Option("--until", help="A time (RFC 3339), or a duration from now: 2h.")
    ] = None,
    config: ConfigOption = None,
    state_dir: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Suspend a workflow: nothing of it starts by itself until it is resumed.

    Of a suspended source no new revision is applied; its workflows go on as they are loaded.

    Example: rondel suspend nightly-report --reason "the warehouse moves" --until 8h
    """
    client = Client(server, state_dir, config)
    shown, path = target(client, config, state_dir, name)
    end = read_until(until, now()) if until else None
    body = {"reason": reason, "until": end and view.time(end)}
    client.post(f"{path}/suspend", body)
    print(f"{shown} is suspended" + (f" until {view.time(end)}" if end else ""))


def resume(
    name: NameArgument,
    config: ConfigOption = None,
    state_dir: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Resume what `rondel suspend` or `suspendAfter` has suspended. No slot is replayed.

    What Git or the configuration suspends stays suspended, and is told.

    Example: rondel resume nightly-report
    """
    client = Client(server, state_dir, config)
    shown, path = target(client, config, state_dir, name)
    still = client.post(f"{path}/resume").get("still")
    print(f"{shown} is resumed" if not still else f"{shown} stays suspended: {still}")


def target(
    client: Client, config: Path | None, state_dir: Path | None, name: str
) -> tuple[str, str]:
    """Return what is meant, in words and as a path of the API. Raises UsageError."""
    if name.startswith(SOURCE):
        return source_target(name[len(SOURCE) :])
    if client.remote:
        listed = client.get("/sources")["items"] if name.startswith(KIND) else ()
        sources = {str(one["name"]) for one in listed}
        return kind_target(name, sources) or workflow_target(*named(name, None))
    with reader(state_dir, config) as store:
        return known_target(store, name)


def kind_target(name: str, sources: Collection[str]) -> tuple[str, str] | None:
    """Return what `source/NAME` means, as `wait` reads it, unless a source is called so."""
    rest = name.removeprefix(KIND)
    meant = name.startswith(KIND) and "source" not in sources and rest in sources
    return source_target(rest) if meant else None


def source_target(name: str) -> tuple[str, str]:
    return f"source {name}", f"/sources/{name}"


def workflow_target(source: str, name: str) -> tuple[str, str]:
    return f"workflow {source}/{name}", f"/sources/{source}/workflows/{name}"


def known_target(store: Reader, name: str) -> tuple[str, str]:
    sources = {one.name for one in store.sources()}
    workflows = {one.name for one in store.workflows()}
    if name in sources and name in workflows:
        raise UsageError(
            f"{name!r} is a workflow and a source", remedy=f"write {SOURCE}{name}, or SOURCE/{name}"
        )
    if name in sources:
        return source_target(name)
    if (meant := kind_target(name, sources)) is not None:
        return meant
    found = find_workflow(store, name)
    return workflow_target(found.source, found.name)


def read_until(text: str, moment: datetime) -> datetime:
    """Return the end that `--until` names. Raises UsageError."""
    try:
        end = moment + parse_duration(text) if text[-1].isalpha() and text[-1] != "Z" else None
        end = end or datetime.fromisoformat(text)
    except ValueError as error:
        problem = f"{text!r} is neither a time nor a duration"
        raise UsageError(
            problem, where="--until", remedy="write 2h, or 2027-03-01T08:00Z"
        ) from error
    if end.tzinfo is None:
        raise UsageError(f"{text!r} has no time zone", where="--until", remedy="append Z")
    if end - moment <= timedelta(0):
        raise UsageError(f"{text!r} is over", where="--until", remedy="name a time to come")
    return end
