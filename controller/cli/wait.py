"""`rondel wait`: until something is ready or finished, for scripts."""

import time
from enum import StrEnum
from typing import Annotated

import typer

from controller.cli.common import ConfigOption, StateOption, find_run, read_duration, reader
from controller.cli.exit import Exit
from controller.errors import UsageError
from controller.model.condition import Condition, Status, find
from controller.model.run import Phase
from controller.store.reader import Reader

LOOK_SECONDS = 0.1


class Goal(StrEnum):
    READY = "Ready"
    FINISHED = "Finished"


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
    if not slash or kind not in {"source", "workflow", "run"}:
        raise UsageError(f"{what!r} is not waited for", remedy="write run/ID or workflow/NAME")
    end = time.monotonic() + read_duration(timeout, "--timeout").total_seconds()
    with reader(state_dir, config) as store:
        while True:
            done = finished(store, name) if kind == "run" else ready(store, kind, name, goal)
            if done is not None:
                raise typer.Exit(done)
            if time.monotonic() >= end:
                raise typer.Exit(Exit.TIMED_OUT)
            time.sleep(LOOK_SECONDS)


def finished(store: Reader, name: str) -> Exit | None:
    """Return how the run ended; None while it hasn't."""
    run = find_run(store, name)
    if not run.phase.terminal:
        return None
    print(f"run {run.id}: {run.phase}" + (f" ({run.reason})" if run.reason else ""))
    return Exit.OK if run.phase in {Phase.SUCCEEDED, Phase.SKIPPED} else Exit.FAILED


def ready(store: Reader, kind: str, name: str, goal: Goal | None) -> Exit | None:
    """Return OK when it is ready (Finished: when none of its runs is active); None before."""
    source, _, bare = name.rpartition("/")
    if kind == "workflow" and goal is Goal.FINISHED:
        active = [one for one in store.planned() if one.workflow == bare]
        return Exit.OK if not [one for one in active if source in {"", one.source}] else None
    for conditions, generation, observed in judged(store, kind, source, bare):
        found = find(conditions, "Ready")
        if found is not None and found.status is Status.TRUE and generation == observed:
            return Exit.OK
    return None


def judged(
    store: Reader, kind: str, source: str, name: str
) -> list[tuple[tuple[Condition, ...], int, int]]:
    if kind == "source":
        found = [one for one in store.sources() if one.name == name]
        return [(one.conditions, one.generation, one.observed_generation) for one in found]
    workflows = [one for one in store.workflows(source or None) if one.name == name]
    return [(one.conditions, one.generation, one.observed_generation) for one in workflows]
