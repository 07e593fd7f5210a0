"""Commands that ask a running controller for something."""

import json
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from controller import manifest
from controller.cli.client import Client
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    ParamOption,
    ServerOption,
    StateOption,
    find_run,
    find_workflow,
    read_params,
    reader,
)
from controller.cli.common import now as this_moment
from controller.cli.exit import Exit
from controller.errors import UsageError
from controller.model.condition import WorkflowStatus, find
from controller.model.run import Phase
from controller.model.workflow import Json
from controller.reconcile.backfill import MARK as BACKFILL
from controller.store.reader import Reader

LOOK_SECONDS = 0.05
ASK_SECONDS = 0.5  # between questions over a network
RECONCILE_TIMEOUT = timedelta(minutes=5)
FAILURE_PATIENCE = timedelta(seconds=3)  # a source that had failed before gets this to recover


def run(  # noqa: PLR0917 - options of one command
    workflow: Annotated[str, typer.Argument(help="name or source/name")],
    params: ParamOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Use no cached result.")] = False,
    queue: Annotated[bool, typer.Option("--queue", help="Wait for the active run to end.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Start a run of a workflow now.

    Example: rondel run report -p title=Weekly --wait
    """
    client = Client(server, state_dir, config)
    if client.remote:
        (source, name), given = named(workflow, params), {}
    else:
        with reader(state_dir, config) as store:
            found = find_workflow(store, workflow)
            source, name, given = found.source, found.name, params_of(store, found, params)
    body = {"params": given, "fresh": fresh, "queue": queue}
    made = client.post(f"/sources/{source}/workflows/{name}/runs", body)
    if output is Format.JSON:
        print(json.dumps({"id": made["id"]}))
    else:
        print(made["id"])
    if wait:
        raise typer.Exit(await_end(client, config, state_dir, made["id"]))


def named(workflow: str, params: list[str] | None) -> tuple[str, str]:
    """Return source and name; from afar nobody can look up the one or a param's type."""
    source, slash, name = workflow.partition("/")
    if not slash:
        raise UsageError(f"{workflow!r} names no source", remedy="write source/name with --server")
    if params:
        raise UsageError(
            "-p needs the types in the controller's store",
            where="--server",
            remedy="use it where the controller runs, or POST the params to its API",
        )
    return source, name


def place_of(
    client: Client, config: Path | None, state_dir: Path | None, workflow: str
) -> tuple[str, str]:
    """Return a workflow's source and name; from afar they have to be given whole."""
    if client.remote:
        return named(workflow, None)
    with reader(state_dir, config) as store:
        found = find_workflow(store, workflow)
    return found.source, found.name


def run_id_of(client: Client, config: Path | None, state_dir: Path | None, text: str) -> str:
    """Return the run's id; from afar it has to be given whole."""
    if client.remote:
        return text
    with reader(state_dir, config) as store:
        return find_run(store, text).id


def await_end(client: Client, config: Path | None, state_dir: Path | None, run_id: str) -> Exit:
    """Return how the run ended."""
    if client.remote:
        return await_answer(client, run_id)
    with reader(state_dir, config) as store:
        while not (found := find_run(store, run_id)).phase.terminal:
            time.sleep(LOOK_SECONDS)
    reason = f" ({found.reason}: {found.message})" if found.reason else ""
    print(f"run {found.id}: {found.phase}{reason}", file=sys.stderr)
    return Exit.OK if found.phase is Phase.SUCCEEDED else Exit.FAILED


def await_answer(client: Client, run_id: str) -> Exit:
    """Return how the run ended, as the API tells."""
    while (found := client.get(f"/runs/{run_id}"))["finishedAt"] is None:
        time.sleep(ASK_SECONDS)
    print(f"run {run_id}: {found['phase']} {found['reason']}".rstrip(), file=sys.stderr)
    return Exit.OK if found["phase"] == Phase.SUCCEEDED else Exit.FAILED


def params_of(store: Reader, found: WorkflowStatus, given: list[str] | None) -> dict[str, Json]:
    """Return the values of `-p key=value`, read by each param's type."""
    if not given:
        return {}
    text = store.body(found.blob, manifest.READER_VERSION, found.document)
    if text is None:
        raise UsageError(f"{found.name} can't be read from the store", remedy="run it without -p")
    return read_params(text, given)


def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN-OR-BACKFILL")],
    now: Annotated[bool, typer.Option("--now", help="Without hooks and finally steps.")] = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Cancel a run, or what is left of a backfill; `onCancel` and `finally` run unless --now.

    Example: rondel cancel report-1a2b3c4d5e
    """
    client = Client(server, state_dir, config)
    if BACKFILL in run_id:
        told = client.post(f"/backfills/{run_id}/cancel", {"now": now})
        print(f"backfill {run_id}: {told['cancelled']} runs are being cancelled")
        return
    found = run_id_of(client, config, state_dir, run_id)
    client.post(f"/runs/{found}/cancel", {"now": now})
    print(f"run {found} is being cancelled")


def reconcile(
    source: Annotated[str, typer.Argument(metavar="SOURCE")],
    wait: Annotated[bool, typer.Option("--wait", help="Until it was looked at.")] = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Have a source looked at now.

    Example: rondel reconcile main --wait
    """
    client = Client(server, state_dir, config)
    asked = this_moment()
    client.post(f"/sources/{source}/reconcile")
    if not wait:
        print(f"source {source} is looked at")
        return
    if client.remote:
        raise UsageError("--wait looks into the controller's store", where="--server")
    with reader(state_dir, config) as store:
        raise typer.Exit(await_look(store, source, asked))


def await_look(store: Reader, source: str, asked: datetime) -> Exit:
    """Return once the source was applied since `asked`, or its look has failed."""
    end = asked + RECONCILE_TIMEOUT
    while this_moment() < end:
        status = store.source(source)
        if status is not None and status.last_success_at and status.last_success_at >= asked:
            print(f"source {source}: {status.last_applied_revision}")
            return Exit.OK
        failed = find(status.conditions, "FetchFailed") if status else None
        if failed is not None and this_moment() > asked + FAILURE_PATIENCE:
            print(f"source {source}: {failed.reason}: {failed.message}", file=sys.stderr)
            return Exit.FAILED
        time.sleep(LOOK_SECONDS)
    return Exit.TIMED_OUT
