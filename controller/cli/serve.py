"""`rondel serve`: the controller in the foreground."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from controller import collector
from controller import config as configuration
from controller.cli.common import ConfigOption, StateOption
from controller.errors import UsageError
from controller.model.settings import DirectorySource, GitSource, Settings

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

    if executor is not None and executor not in EXECUTORS:
        raise UsageError(f"there is no executor {executor!r}", remedy="use dagger or local")
    flags = {"executor": executor, "listen": listen}
    file = configuration.locate(config, here=True)
    configured = configuration.load(file, state=state_dir)
    named = configuration.with_sources(configured, source or []).sources[len(configured.sources) :]

    def read() -> Settings:
        return under_flags(configuration.load(file, state=state_dir), flags, named)

    settings = under_flags(configured, flags, named)
    log.configure(stream=sys.stdout, level=log_level)
    tell_where(Path(settings.state_dir))
    raise typer.Exit(daemon.run(settings, read))


def under_flags(
    settings: Settings, flags: Mapping[str, Any], named: tuple[GitSource | DirectorySource, ...]
) -> Settings:
    """Return the settings with the command line's flags, and the sources that it named.

    Raises:
        UsageError: no sources at all, or two of one name.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    for one in named:
        if one.name in {other.name for other in settings.sources}:
            raise UsageError(
                f"a source of --source is named {one.name!r} already", remedy="rename this one"
            )
    sources = (*settings.sources, *named)
    if not sources:
        raise UsageError("there is nothing to watch", remedy="name a folder: --source ./workflows")
    return replace(settings, sources=sources, **given)


def tell_where(state_dir: Path) -> None:
    """Other commands look in the user's own directory unless they are told."""
    if state_dir != configuration.default_state_dir() and sys.stdout.isatty():
        print(f"export RONDEL_STATE_DIR={state_dir}   # for `rondel get` and the others")
