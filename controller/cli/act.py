"""Commands that ask a running controller for something."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

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
from controller.model.condition import WorkflowStatus
from controller.model.run import Phase
from controller.model.workflow import Json
from controller.reconcile.backfill import MARK as BACKFILL
from controller.store.reader import Reader

LOOK_SECONDS = 0.05
ASK_SECONDS = 0.5  # between questions over a network
RECONCILE_TIMEOUT = timedelta(minutes=5)
WAIT_SECONDS = 20  # of one question that the controller answers when it can


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
    finish(client, made, output, config, state_dir, wait=wait)


def finish(
    client: Client,
    made: dict[str, Any],
    output: Format,
    config: Path | None,
    state_dir: Path | None,
    *,
    wait: bool,
) -> None:
    """Print the id of a run that was asked for; with `wait` end as it does."""
    print(json.dumps({"id": made["id"]}) if output is Format.JSON else made["id"])
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
    request = client.post(f"/sources/{source}/reconcile")["request"]
    if not wait:
        print(f"source {source} is looked at")
        return
    raise typer.Exit(await_look(client, source, request))


def await_look(client: Client, source: str, request: int) -> Exit:
    """Return once a look that began after the request was taken in, or has failed."""
    end = this_moment() + RECONCILE_TIMEOUT
    while this_moment() < end:
        told = client.get(f"/sources/{source}/reconcile/{request}?wait={WAIT_SECONDS}")
        if not told["answered"]:
            continue
        status = told["status"]
        failed = [one for one in status["conditions"] if one["type"] == "FetchFailed"]
        for one in failed:
            print(f"source {source}: {one['reason']}: {one['message']}", file=sys.stderr)
        if not failed:
            print(f"source {source}: {status['lastAppliedRevision']}")
        return Exit.FAILED if failed else Exit.OK
    return Exit.TIMED_OUT
