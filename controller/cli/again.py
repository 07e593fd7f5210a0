"""`rondel retry` and `rondel rerun`: what was recorded, once more."""

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from controller import manifest
from controller.cli.act import await_end, run_id_of
from controller.cli.author_text import to_yaml
from controller.cli.client import Client
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    ServerOption,
    StateOption,
    find_run,
    reader,
)
from controller.errors import UsageError
from controller.model.run import Run
from controller.store.reader import Reader

RunArgument = Annotated[str, typer.Argument(metavar="RUN")]
QueueOption = Annotated[
    bool, typer.Option("--queue", help="Wait for the active run of the workflow to end.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for its end.")]


def retry(  # noqa: PLR0917 - options of one command
    run_id: RunArgument,
    queue: QueueOption = False,
    wait: WaitOption = False,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Go on with a run that ended badly: what succeeded stays, the rest is tried again.

    Example: rondel retry report-1a2b3c4d5e --wait
    """
    client = Client(server, state_dir, config)
    found = run_id_of(client, config, state_dir, run_id)
    made = client.post(f"/runs/{found}/retry", {"queue": queue})
    finish(client, made, output, config, state_dir, wait=wait)


def rerun(  # noqa: PLR0917 - options of one command
    run_id: RunArgument,
    step: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="This step and all after it.")
    ] = None,
    latest: Annotated[
        bool, typer.Option("--latest", help="The workflow as it is now, with the same params.")
    ] = False,
    queue: QueueOption = False,
    wait: WaitOption = False,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
    server: ServerOption = None,
) -> None:
    """Run again exactly what a run recorded: its spec, inputs, params and logical time.

    Example: rondel rerun report-1a2b3c4d5e --from publish
    """
    if step and latest:
        raise UsageError("--from takes over results of the run as it was, --latest has none of it")
    client = Client(server, state_dir, config)
    found = run_id_of(client, config, state_dir, run_id)
    if latest and not client.remote:
        with reader(state_dir, config) as store:
            for line in differences(store, find_run(store, found)):
                print(line, file=sys.stderr)
    body = {"step": step, "latest": latest, "queue": queue}
    made = client.post(f"/runs/{found}/rerun", body)
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
    print(json.dumps({"id": made["id"]}) if output is Format.JSON else made["id"])
    if wait:
        raise typer.Exit(await_end(client, config, state_dir, made["id"]))


def differences(store: Reader, run: Run) -> Iterator[str]:
    """Yield what is other now than it was in the run, as lines for people."""
    now = store.workflow(run.source, run.workflow)
    if now is None or now.retired:
        raise UsageError(
            f"{run.source}/{run.workflow} has left its source",
            remedy=f"run it as it was: rondel rerun {run.id}",
        )
    yield from spec_lines(run, store.body(now.blob, manifest.READER_VERSION, now.document), now)
    for name in sorted({*run.inputs, *now.inputs}):
        before, after = run.inputs.get(name, "none"), now.inputs.get(name, "none")
        if before != after:
            yield f"input {name}: was {before[:19]}, is {after[:19]}"
    if run.revision != now.revision:
        yield f"revision: was {run.revision or 'none'}, is {now.revision or 'none'}"


def spec_lines(run: Run, body: str | None, now: Any) -> Iterator[str]:
    if run.spec_digest == now.spec_digest:
        yield "the spec is what it was"
        return
    yield f"the spec differs: generation {run.generation} then, {now.generation} now"
    if body is None:
        return
    before, after = (to_yaml(json.loads(text)["spec"]).splitlines() for text in (run.spec, body))
    yield from difflib.unified_diff(before, after, "then", "now", lineterm="", n=1)
