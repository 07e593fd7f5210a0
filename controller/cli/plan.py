"""`rondel plan`: which work would follow, and why. Needs only Git and the store."""

import asyncio
from typing import Annotated

import typer

from controller import config as configuration
from controller.cli.common import ConfigOption, StateOption, now
from controller.cli.exit import Exit
from controller.cli.plan_text import PlanFormat, tell
from controller.errors import UsageError
from controller.reconcile.preview import Action
from controller.sides import Place, place_of


def plan(  # noqa: PLR0917 - options of one command
    source: Annotated[str | None, typer.Option("--source", help="A folder or repository.")] = None,
    base: Annotated[str | None, typer.Option("--base", help="Compare with this revision.")] = None,
    head: Annotated[str | None, typer.Option("--head", help="Not the files as they are.")] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="3 when work follows.")] = False,
    output: Annotated[
        PlanFormat, typer.Option("-o", "--output", help="How to print it.")
    ] = PlanFormat.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Say what would run, and why: against what is loaded, or between two revisions.

    Example: rondel plan --source . --base main --head HEAD
    """
    file = configuration.locate(config)
    settings = configuration.load(file, state=state_dir)
    places = [place_of(source, settings)] if source else [Place(one) for one in settings.sources]
    if not places:
        raise UsageError("there is nothing to compare", remedy="name a folder: --source .")
    results = [asyncio.run(one.compare(base, head, settings, now())) for one in places]
    tell(results, base, head, output)
    works = any(one.action is not Action.NOTHING for result in results for one in result.previews)
    faulty = any(result.invalid for result in results)
    if exit_code and works:
        raise typer.Exit(Exit.CHANGES)
    if faulty:
        raise typer.Exit(Exit.USAGE)
