"""`rondel exec`: one run here and now, with live output."""

import asyncio
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from controller import config as configuration
from controller import log
from controller.cli.author import Chosen
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    ParamOption,
    StateOption,
    print_json,
    print_yaml,
    read_params,
    took,
)
from controller.cli.common import now as this_moment
from controller.cli.exit import Exit
from controller.errors import UsageError
from controller.manifest.agents import until_step
from controller.manifests import Manifests, workflow_of
from controller.model import view
from controller.model.run import Phase, Run
from controller.model.settings import Settings
from controller.model.workflow import Json
from controller.oneshot import Ended, Oneshot, oneshot
from controller.roots import root_of


def exec_(  # noqa: PLR0917 - options of one command
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    params: ParamOption = None,
    executor: Annotated[str | None, typer.Option("--executor", help="dagger or local.")] = None,
    workflow: Chosen = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder that inputs start from.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="This step and what it needs.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Use no cached result.")] = False,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Run a workflow here and now, with live output; no controller is needed.

    Example: rondel exec report.yaml -p title=Weekly --executor local
    """
    log.configure(level="warning")
    settings = configuration.load(configuration.locate(config, here=True), state=state_dir)
    if executor not in {None, "dagger", "local"}:
        raise UsageError(f"there is no executor {executor!r}", remedy="use dagger or local")
    settings = replace(settings, executor=executor or settings.executor)
    place = root_of(file, root, settings)
    manifests = Manifests(place, settings)
    document = workflow_of(manifests, file, workflow)
    body = manifests.body(document)
    body = until_step(body, until) if until else body
    given = read_params(body, params)
    told = Told(machine=output in {Format.JSON, Format.YAML})
    ended = asyncio.run(execute(settings, place, body, given, fresh=fresh, told=told))
    tell_end(ended, output)
    raise typer.Exit(code_of(ended.run))


class Told:
    """Live output: each line with its step; for machines on standard error."""

    def __init__(self, *, machine: bool) -> None:
        self._stream: Any = sys.stderr if machine else sys.stdout
        self._colour = self._stream.isatty()

    def line(self, _: str, step: str, attempt: int, stream: str | None, text: str) -> None:
        name = step + (f"#{attempt}" if attempt > 1 else "")
        mark = f"\x1b[36m{name}\x1b[0m" if self._colour else name
        self._stream.write(f"{mark} | {text if stream else '-- ' + text}\n")
        self._stream.flush()

    def begun(self, run: Run) -> None:
        self._stream.write(f"run {run.id}\n")
        self._stream.flush()


async def execute(
    settings: Settings,
    root: Path,
    body: str,
    params: dict[str, Json],
    *,
    fresh: bool,
    told: Told,
) -> Ended:
    async with oneshot(settings, root=root, kind="exec", on_line=told.line) as here:
        return await here.execute(
            body, params, fresh=fresh, begun=lambda run: begin(here, run, told)
        )


def begin(here: Oneshot, run: Run, told: Told) -> None:
    """From now on an interrupt cancels the run, with its finally; a second one at once."""
    told.begun(run)
    loop = asyncio.get_running_loop()
    presses: list[int] = []

    def pressed() -> None:
        presses.append(1)
        here.cancel(run.id, now=len(presses) > 1)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, pressed)


def tell_end(ended: Ended, output: Format) -> None:
    if output is Format.JSON:
        print_json(view.run_view(ended.run, ended.steps))
    elif output is Format.YAML:
        print_yaml(view.run_view(ended.run, ended.steps))
    else:
        words = f" ({ended.run.reason}: {ended.run.message})" if ended.run.message else ""
        span = took(ended.run.started_at, ended.run.finished_at, this_moment())
        print(f"run {ended.run.id}: {ended.run.phase}{words} in {span}")


def code_of(run: Run) -> Exit:
    match run.phase:
        case Phase.SUCCEEDED | Phase.SKIPPED:
            return Exit.OK
        case Phase.CANCELLED:
            return Exit.INTERRUPTED
        case _:
            return Exit.FAILED
