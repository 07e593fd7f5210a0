"""`rondel cache`: the kept results of steps; works without a daemon, and beside one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from controller import config as configuration
from controller.cli.common import (
    ConfigOption,
    Format,
    OutputOption,
    StateOption,
    ago,
    brief,
    now,
    print_json,
    print_yaml,
    read_duration,
    reader,
    size_text,
)
from controller.cli.common import show as show_list
from controller.clock import SystemClock
from controller.errors import UsageError
from controller.model import view
from controller.model.cache import CacheEntry, Prune
from controller.store import Store
from controller.store.reader import Reader
from controller.store.results import prunable

SHORT = 19  # characters of a key in a table: "sha256:" and twelve more
SourceOption = Annotated[str | None, typer.Option("--source", help="Of this source only.")]
WorkflowOption = Annotated[str | None, typer.Option("--workflow", help="Of this workflow only.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A key, or its beginning.")]


def cache() -> None:
    """Look after the kept results of steps.

    Example: rondel cache ls --workflow report
    """


def ls(  # noqa: PLR0917 - options of one command
    source: SourceOption = None,
    workflow: WorkflowOption = None,
    step: Annotated[str | None, typer.Option("--step", help="Of this step only.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, newest first.")] = 50,
    output: OutputOption = Format.TABLE,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """List results, newest first.

    Example: rondel cache ls --workflow report -o json
    """
    with reader(state_dir, config) as store:
        found = store.cache_entries(source=source, workflow=workflow, step=step, limit=limit)
    tell(found, output, now())


def show(
    key: KeyArgument,
    output: OutputOption = Format.YAML,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Show one result with the parts of its key.

    Example: rondel cache show sha256:1a2b3c
    """
    with reader(state_dir, config) as store:
        shown = view.cache_view(all_of(store, key)[0], whole=True)
    if output is Format.JSON:
        print_json(shown)
    else:
        print_yaml(shown)


def rm(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys, or beginnings.")],
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Forget results.

    Example: rondel cache rm sha256:1a2b3c
    """
    with reader(state_dir, config) as store:
        found = [entry for key in keys for entry in all_of(store, key)]
    from controller.pruning import forget  # noqa: PLC0415 - it opens a store to write

    told(writing(state_dir, config, lambda store: forget(store, found, "Removed", now())))


def prune(  # noqa: PLR0917 - options of one command
    source: SourceOption = None,
    workflow: WorkflowOption = None,
    unused_for: Annotated[
        str | None, typer.Option("--unused-for", help="Not used for so long: 7d.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever their age.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    config: ConfigOption = None,
    state_dir: StateOption = None,
) -> None:
    """Forget results that have expired, or that were not used for long, or all.

    Example: rondel cache prune --unused-for 7d
    """
    wish = Prune(
        source=source,
        workflow=workflow,
        unused_for=None if unused_for is None else read_duration(unused_for, "--unused-for"),
        everything=everything,
    )
    if dry_run:
        with reader(state_dir, config) as store:
            tell(prunable(store, wish, now()), Format.TABLE, now())
        return
    reader(state_dir, config).close()  # there is a store, or that is said
    from controller.pruning import prune as pruned  # noqa: PLC0415 - it opens a store to write

    told(writing(state_dir, config, lambda store: pruned(store, store, wish, now())))


def all_of(store: Reader, key: str) -> list[CacheEntry]:
    """Return the entries of a key, one in each scope that has it; of its beginning, too."""
    found = store.cache_entries(key=key)
    if not found:
        raise UsageError(f"there is no result {key!r}", remedy="see `rondel cache ls`")
    keys = sorted({entry.key for entry in found})
    if len(keys) > 1:
        names = ", ".join(keys[:5])
        raise UsageError(f"{key!r} is the beginning of several: {names}", remedy="write more")
    return found


def writing(
    state: Path | None, config: Path | None, call: Callable[[Store], Awaitable[list[CacheEntry]]]
) -> list[CacheEntry]:
    """Call with the store open for writing, beside a daemon or without one."""

    async def opened() -> list[CacheEntry]:
        folder = configuration.find_state_dir(state, config)
        store = await Store.open(folder, clock=SystemClock(), kind="cli")
        try:
            return await call(store)
        finally:
            await store.close()

    return asyncio.run(opened())


def told(gone: Sequence[CacheEntry]) -> None:
    size = size_text(sum(one.size for one in gone))
    print(f"{len(gone)} result{'' if len(gone) == 1 else 's'} forgotten, {size}")


def tell(found: Sequence[CacheEntry], output: Format, moment: datetime) -> None:
    """Print entries as a list."""
    rows = [
        (
            one.key if output is Format.WIDE else one.key[:SHORT],
            f"{one.source}/{one.workflow}",
            one.step,
            one.run,
            ago(one.created_at, moment),
            ago(one.last_used_at, moment),
            brief(one.expires_at - moment) if one.expires_at > moment else "expired",
            brief(timedelta(seconds=one.seconds)),
            size_text(one.size),
        )
        for one in found
    ]
    columns = ("key", "workflow", "step", "run", "age", "used", "expires", "took", "size")
    show_list([view.cache_view(one) for one in found], output, columns=columns, rows=rows)
