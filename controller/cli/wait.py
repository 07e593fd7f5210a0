"""`rondel wait`: until something is ready or finished, for scripts."""

import sys
import time
from enum import StrEnum
from typing import Annotated, NamedTuple

import typer

from controller.cli.common import (
    ConfigOption,
    StateOption,
    find_run,
    find_source,
    find_workflow,
    read_duration,
    reader,
)
from controller.cli.exit import Exit
from controller.errors import UsageError
from controller.model.condition import SourceStatus, Status, WorkflowStatus, find
from controller.model.run import Phase, Run
from controller.store.reader import Reader

LOOK_SECONDS = 0.1
KINDS = {"source", "workflow", "run"}


class Goal(StrEnum):
    READY = "Ready"
    FINISHED = "Finished"


class Look(NamedTuple):
    """How far something is: the exit code once it is there, and what is said of it."""

    done: Exit | None
    words: str


def wait(
    what: Annotated[str, typer.Argument(metavar="source/NAME|workflow/NAME|run/ID")],
    goal: Annotated[Goal | None, typer.Option("--for", help="Ready or Finished.")] = None,
    timeout: Annotated[str, typer.Option("--timeout", help="How long at most.")] = "5m",
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Wait until a source or workflow is ready, or a run is over.

    Example: rondel wait run/report-1a2b3c4d5e --timeout 10m
    """
    kind, slash, name = what.partition("/")
    if not slash or kind not in KINDS:
        raise UsageError(f"{what!r} is not waited for", remedy="write run/ID or workflow/NAME")
    if (kind, goal) in {("source", Goal.FINISHED), ("run", Goal.READY)}:
        raise UsageError(f"a {kind} is never {goal}", where="--for")
    end = time.monotonic() + read_duration(timeout, "--timeout").total_seconds()
    with reader(state_dir, config) as store:
        while (look := looked(store, kind, name, goal)).done is None:
            if time.monotonic() >= end:
                print(f"rondel: {what}: not {look.words}, after {timeout}", file=sys.stderr)
                raise typer.Exit(Exit.TIMED_OUT)
            time.sleep(LOOK_SECONDS)
    print(f"{what}: {look.words}")
    raise typer.Exit(look.done)


def looked(store: Reader, kind: str, name: str, goal: Goal | None) -> Look:
    """Look once. Raises UsageError when there is no such thing."""
    if kind == "run":
        return finished(find_run(store, name))
    if kind == "source":
        return ready(find_source(store, name))
    workflow = find_workflow(store, name)
    return idle(store, workflow) if goal is Goal.FINISHED else ready(workflow)


def finished(run: Run) -> Look:
    if not run.phase.terminal:
        return Look(None, f"finished: {run.phase}")
    told = str(run.phase) + (f" ({run.reason})" if run.reason else "")
    good = run.phase in {Phase.SUCCEEDED, Phase.SKIPPED}
    return Look(Exit.OK if good else Exit.FAILED, told)


def idle(store: Reader, workflow: WorkflowStatus) -> Look:
    """Tell whether none of a workflow's runs waits or runs."""
    key = (workflow.source, workflow.name)
    active = [one.id for one in store.planned() if (one.source, one.workflow) == key]
    return Look(None, f"finished: {', '.join(active)}") if active else Look(Exit.OK, "finished")


def ready(status: SourceStatus | WorkflowStatus) -> Look:
    """Tell whether it is ready as it is configured, or written, now: an older word doesn't count.

    One that is stalled may be mended while we wait.
    """
    if isinstance(status, WorkflowStatus) and status.retired:
        return Look(None, "ready: its manifest is gone")
    found = find(status.conditions, "Ready")
    if found is None or status.generation != status.observed_generation:
        return Look(None, "ready: it was not looked at yet")
    if found.status is Status.TRUE:
        return Look(Exit.OK, "ready")
    return Look(None, f"ready: {found.reason}: {found.message}")
