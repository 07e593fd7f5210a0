"""`rondel serve`: the controller in the foreground."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from controller import collector
from controller import config as configuration
from controller.cli.common import ConfigOption, StateOption
from controller.errors import UsageError

EXECUTORS = ("dagger", "local")


def serve(  # noqa: PLR0917 - options of one command
    config: ConfigOption = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="A folder, a repository or a URL.")
    ] = None,
    executor: Annotated[str | None, typer.Option("--executor", help="dagger or local.")] = None,
    state_dir: StateOption = None,
    listen: Annotated[
        str | None, typer.Option("--listen", help="HOST:PORT of the API beside its socket.")
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log-level", help="debug, info, warning, error.")
    ] = "info",
) -> None:
    """Run the controller in the foreground; Ctrl-C ends it.

    Example: rondel serve --source ./workflows --executor local
    """
    with collector.off():
        from controller import daemon, log  # noqa: PLC0415 - heavy: not for the other commands

    settings = configuration.load(configuration.locate(config, here=True), state=state_dir)
    settings = configuration.with_sources(settings, source or [])
    if executor is not None:
        if executor not in EXECUTORS:
            raise UsageError(f"there is no executor {executor!r}", remedy="use dagger or local")
        settings = replace(settings, executor=executor)
    if listen is not None:
        settings = replace(settings, listen=listen)
    if not settings.sources:
        raise UsageError("there is nothing to watch", remedy="name a folder: --source ./workflows")
    log.configure(stream=sys.stdout, level=log_level)
    tell_where(Path(settings.state_dir))
    raise typer.Exit(daemon.run(settings))


def tell_where(state_dir: Path) -> None:
    """Other commands look in the user's own directory unless they are told."""
    if state_dir != configuration.default_state_dir() and sys.stdout.isatty():
        print(f"export RONDEL_STATE_DIR={state_dir}   # for `rondel get` and the others")
