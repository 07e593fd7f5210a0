"""`rondel logs`: what a run's steps have said, or say right now."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from controller import config as configuration
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    StateOption,
    find_run,
    find_workflow,
)
from controller.errors import UsageError
from controller.model.run import Run, labelled
from controller.model.view import View
from controller.serve.follow import LOOK_SECONDS, LogFollower
from controller.store.reader import Reader

COLOURS = ("\x1b[36m", "\x1b[35m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[31m")
DIM, RESET = "\x1b[2m", "\x1b[0m"


def logs(  # noqa: PLR0917 - options of one command
    what: Annotated[str, typer.Argument(metavar="RUN-OR-WORKFLOW")],
    step: Annotated[str | None, typer.Argument(help="Of this step, or combination, only.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the run is over.")] = False,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Print or follow the log of a run; of a workflow, of its newest run.

    Example: rondel logs -f report write
    """
    folder = configuration.find_state_dir(state_dir, config)
    with Reader.open(folder) as store:
        run = wanted(store, what)
        if step is not None:
            check_step(store, run, step)
        Teller(output is Format.JSON, one_step=step is not None).tell(
            store, folder, run, step, follow=follow
        )


def wanted(store: Reader, what: str) -> Run:
    """Return the run that was asked for: by its id, else a workflow's newest that did something."""
    try:
        return find_run(store, what)
    except UsageError as no_run:
        try:
            workflow = find_workflow(store, what)
        except UsageError as no_workflow:
            problem = f"there is no run and no workflow {what!r}"
            raise (
                no_run
                if "several" in str(no_run)
                else no_workflow
                if "/" in what
                else UsageError(problem)
            ) from None
    runs = store.runs(source=workflow.source, workflow=workflow.name, limit=50)
    begun = next((run for run in runs if run.started_at or not run.phase.terminal), None)
    if begun is None:
        raise UsageError(f"{what} has not run yet", remedy=f"rondel run {what}")
    return begun


def check_step(store: Reader, run: Run, step: str) -> None:
    steps = store.steps(run.id)
    if run.phase.terminal and step not in {name for one in steps for name in (one.name, one.label)}:
        known = ", ".join(one.label for one in steps)
        raise UsageError(f"run {run.id} has no step {step!r}", remedy=f"it has {known}")


class Teller:
    """Prints lines: JSON for machines, prefixed by their step for people."""

    def __init__(self, as_json: bool, *, one_step: bool) -> None:
        self._json = as_json
        self._one_step = one_step
        self._colours: dict[str, str] = {}
        self._terminal = sys.stdout.isatty()

    def tell(
        self, store: Reader, folder: Path, run: Run, step: str | None, *, follow: bool
    ) -> None:
        name = None if step is None else step.partition("[")[0]
        follower = LogFollower(folder, run, name)
        while True:
            now = store.run(run.id)
            attempts, matrices = store.attempts(run.id, name), store.matrices(run.id)
            for line in follower.new_lines(attempts, matrices, store.served(run.id)):
                if step in {None, line["step"], label(line)}:
                    self.line(line)
            sys.stdout.flush()
            if not follow or now is None or now.phase.terminal:
                break
            time.sleep(LOOK_SECONDS)
        if follow and now is not None and not self._json:
            reason = f" ({now.reason})" if now.reason else ""
            print(f"run {now.id} ended: {now.phase}{reason}", file=sys.stderr)

    def line(self, line: View) -> None:
        if self._json:
            print(json.dumps(line, ensure_ascii=False))
            return
        text = line["line"] if line["stream"] else f"-- {line['line']}"
        if self._one_step and not line.get("matrix"):
            print(text)
            return
        step = label(line) + (f"#{line['attempt']}" if line["attempt"] > 1 else "")
        if self._terminal:
            colour = self._colours.setdefault(step, COLOURS[len(self._colours) % len(COLOURS)])
            print(f"{colour}{step}{RESET} {DIM}|{RESET} {text}")
        else:
            print(f"{step} | {text}")


def label(line: View) -> str:
    return labelled(str(line["step"]), line.get("matrix"))
