"""What commands share: their options, the store they look at, how they print."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller import config as configuration
from controller import manifest
from controller.errors import UsageError
from controller.manifest.names import nearest
from controller.model.condition import (
    SUSPENDED,
    SourceStatus,
    WorkflowStatus,
    message_of,
)
from controller.model.quantity import parse_duration
from controller.model.run import Run
from controller.model.workflow import Json

if TYPE_CHECKING:
    from controller.store.reader import Reader


class Format(StrEnum):
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


ConfigOption = Annotated[Path | None, typer.Option("--config", help="The configuration file.")]
StateOption = Annotated[
    Path | None, typer.Option("--state-dir", help="The controller's state directory.")
]
ServerOption = Annotated[
    str | None, typer.Option("--server", help="Its socket, or https://HOST:PORT with RONDEL_TOKEN.")
]
OutputOption = Annotated[
    Format, typer.Option("--output", "-o", help="table, wide, json, yaml or name.")
]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", "-p", help="key=value; repeatable.")
]

Row = Sequence[str]


def reader(state: Path | None, config: Path | None) -> "Reader":
    """Open the store that the flags, the environment or the configuration name.

    Raises:
        UnreachableError: there is none.
    """
    from controller.store.reader import Reader  # noqa: PLC0415 - SQLAlchemy costs 150 ms

    return Reader.open(configuration.find_state_dir(state, config))


def read_params(body: str, given: Iterable[str] | None) -> dict[str, Json]:
    """Return the values of `-p key=value`, read by the types of a workflow's params.

    Args:
        body: the workflow as JSON text.
        given: each `-p` as it was written.

    Raises:
        UsageError: one has no value, is of no param, or is not of its type.
    """
    if not given:
        return {}
    workflow = manifest.workflow(body)
    known = {one.name: one for one in workflow.params}
    values = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"-p {pair}: no value", remedy="write -p name=value")
        if name not in known:
            remedy = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"{workflow.name} has no param {name!r}", remedy=remedy)
        values[name] = manifest.read_param(known[name], value)
    return values


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_yaml(value: Any) -> None:
    import yaml  # noqa: PLC0415 - only for -o yaml

    print(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), end="")


def show(
    views: Sequence[Mapping[str, Any]],
    output: Format,
    *,
    columns: Row,
    rows: Iterable[Row],
    name: str = "name",
) -> None:
    """Print a list in the wanted format; `rows` are what a table shows of `views`."""
    if output is Format.JSON:
        print_json(views)
    elif output is Format.YAML:
        print_yaml(views)
    elif output is Format.NAME:
        for view in views:
            print(view[name] if name == "id" else f"{view['source']}/{view[name]}")
    else:
        print_table(columns, list(rows))


def print_table(columns: Row, rows: Sequence[Row]) -> None:
    """Print aligned columns; on a terminal with rich."""
    if not rows:
        print("nothing found", file=sys.stderr)
        return
    if sys.stdout.isatty():
        print_rich(columns, rows)
        return
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [[column.upper() for column in columns], *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def print_rich(columns: Row, rows: Sequence[Row]) -> None:
    from rich import box  # noqa: PLC0415 - only on a terminal
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    Console().print(table)


STYLES = {
    **dict.fromkeys(("Succeeded", "Healthy", "True", "Synced"), "green"),
    **dict.fromkeys(("Failed", "Error", "Degraded", "False", "OutOfSync"), "red"),
    **dict.fromkeys(("Running", "Progressing", "Pending"), "cyan"),
    **dict.fromkeys(("Cancelled", "Interrupted", "Suspended"), "yellow"),
    **dict.fromkeys(("Skipped", "Unknown", "Missing"), "dim"),
}


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago, in one unit: `3m`, `2h`, `5d`; "-" for never."""
    if moment is None:
        return "-"
    return brief(now - moment)


def read_duration(text: str, where: str) -> timedelta:
    """Return the duration that an option gives. Raises UsageError, which names the option."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(str(error), where=where) from error


def brief(span: timedelta) -> str:
    """Return a span in its largest unit: `340ms`, `12s`, `3m`, `2h`, `5d`."""
    seconds = span.total_seconds()
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size * 1.5:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"  # noqa: PLR2004 - two digits


def size_text(size: int) -> str:
    """Return bytes in their largest unit: `512B`, `3.4Ki`, `120Mi`."""
    amount, unit = float(size), "B"
    for larger in ("Ki", "Mi", "Gi", "Ti"):
        if amount < 1024:  # noqa: PLR2004 - the step between units
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f}{unit}" if unit == "B" or amount >= 10 else f"{amount:.1f}{unit}"  # noqa: PLR2004 - two digits


def took(start: datetime | None, end: datetime | None, now: datetime) -> str:
    return "-" if start is None else brief((end or now) - start)


def now() -> datetime:
    from controller.clock import SystemClock  # noqa: PLC0415 - keeps `--help` light

    return SystemClock().now().astimezone(UTC)


def short_revision(revision: str) -> str:
    """Return `main@sha1:1a2b3c4` and `sha256:1a2b3c4` of the full names."""
    name, colon, digest = revision.rpartition(":")
    return f"{name}{colon}{digest[:10]}" if colon else revision


def find_run(store: "Reader", text: str) -> Run:
    """Return the run of an id or of the beginning of one.

    Raises:
        UsageError: there is none, or several.
    """
    exact = store.run(text)
    if exact is not None:
        return exact
    found = store.run_by_prefix(text)
    if len(found) == 1:
        return store.run(found[0].id) or found[0]
    if not found:
        raise UsageError(f"there is no run {text!r}", remedy="see `rondel get runs`")
    names = ", ".join(run.id for run in found[:5])
    raise UsageError(f"{text!r} is the beginning of several runs: {names}", remedy="write more")


def find_source(store: "Reader", name: str) -> SourceStatus:
    """Return the source of that name. Raises UsageError."""
    known = {one.name: one for one in store.sources()}
    if name not in known:
        remedy = nearest(name, known, none="see `rondel get sources`")
        raise UsageError(f"there is no source {name!r}", remedy=remedy)
    return known[name]


def find_workflow(store: "Reader", text: str) -> WorkflowStatus:
    """Return the workflow of `name` or `source/name`.

    Raises:
        UsageError: there is none, or several sources have one.
    """
    source, slash, name = text.rpartition("/")
    known = store.workflows(source if slash else None, retired=True)
    found = [one for one in known if one.name == name and (not one.retired or slash)]
    if len(found) == 1:
        return found[0]
    if not found:
        here = {one.name for one in known if not one.retired}
        remedy = nearest(name, here, none="see `rondel get workflows`")
        raise UsageError(f"there is no workflow {text!r}", remedy=remedy)
    names = ", ".join(f"{one.source}/{one.name}" for one in found)
    raise UsageError(f"{text!r} is in several sources: {names}", remedy="write source/name")


def suspended_words(found: WorkflowStatus | SourceStatus) -> str:
    """Return who suspends it, and why; "no" when nobody does."""
    told = message_of(found, SUSPENDED).replace(" | ", "; and ")
    return told or ("yes" if found.suspended else "no")
