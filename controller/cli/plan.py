"""`rondel plan`: which work would follow, and why. Needs only Git and the store."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated

import typer

from controller import config as configuration
from controller.cli.common import ConfigOption, StateOption
from controller.cli.exit import Exit
from controller.cli.plan_text import PlanFormat, tell
from controller.clock import SystemClock
from controller.errors import UsageError
from controller.model.settings import DirectorySource, GitSource, Settings
from controller.reconcile.preview import Action
from controller.sides import Comparison
from controller.working_copy import WorkingCopy, opened, source_of


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
    sources = (source_of(source, settings),) if source else settings.sources
    if not sources:
        raise UsageError("there is nothing to compare", remedy="name a folder: --source .")
    results = asyncio.run(compared(sources, settings, base, head))
    tell(results, base, head, output)
    works = any(one.action is not Action.NOTHING for result in results for one in result.previews)
    faulty = any(result.invalid for result in results)
    if exit_code and works:
        raise typer.Exit(Exit.CHANGES)
    if faulty:
        raise typer.Exit(Exit.USAGE)


async def compared(
    sources: Sequence[GitSource | DirectorySource],
    settings: Settings,
    base: str | None,
    head: str | None,
) -> list[Comparison]:
    """Return what follows in each source; the store is opened where there is one."""
    store = opened(settings)
    with store or nullcontext():
        return [
            await WorkingCopy(one, settings, store, SystemClock()).compare(base, head)
            for one in sources
        ]
