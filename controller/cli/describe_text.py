"""How `rondel describe` prints: facts, and sections of tables, as kubectl does."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from controller.cli.common import Format, ago, now, print_json, print_yaml
from controller.model import view
from controller.model.condition import Condition
from controller.model.run import Event

Row = Sequence[str]


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print each name and its value, aligned."""
    listed = [(f"{name}:", text) for name, text in pairs]
    width = max(len(name) for name, _ in listed) + 2
    for name, text in listed:
        print(f"{name:<{width}}{text}".rstrip())


def lines(name: str, told: Sequence[str]) -> None:
    """Print a section of plain lines, if there are any."""
    if told:
        print(f"{name}:")
    for line in told:
        print(f"  {line}")


def table(name: str, columns: Row, rows: Sequence[Row]) -> None:
    """Print a section as a table; the last column may have several lines. Nothing if it is empty.

    Columns in which nothing stands are left out.
    """
    kept = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    if not rows:
        return
    print(f"{name}:")
    head = [columns[i] for i in kept]
    cells = [[row[i] for i in kept] for row in rows]
    widths = [max(len(head[i]), *(len(row[i]) for row in cells)) for i in range(len(kept) - 1)]
    print_row(head, widths)
    print_row(["-" * len(one) for one in head], widths)
    for row in cells:
        print_row(row, widths)


def print_row(cells: Row, widths: Sequence[int]) -> None:
    *aligned, last = cells
    start = "".join(f"{cell:<{width}}  " for cell, width in zip(aligned, widths, strict=True))
    first, *more = last.split("\n")
    print(f"  {start}{first}".rstrip())
    for line in more:
        print(f"  {'':<{len(start)}}{line}".rstrip())


def conditions(found: Iterable[Condition], moment: datetime) -> None:
    table(
        "Conditions",
        ("Type", "Status", "Reason", "For", "Message"),
        [
            (
                one.type,
                str(one.status),
                one.reason,
                ago(one.last_transition_time, moment),
                one.message.replace(" | ", "\n"),
            )
            for one in found
        ],
    )


def events(
    found: Sequence[Event], moment: datetime, labels: Mapping[tuple[str, int], str] | None = None
) -> None:
    """Print what happened, the oldest first; `labels` are steps' names with their combination."""
    if not found:
        print("Events:  none")
        return
    table(
        "Events",
        ("Age", "Reason", "Object", "Message"),
        [
            (
                ago(one.at, moment),
                one.reason,
                (labels or {}).get((one.step, one.data.get("index", 0)), one.step)
                or one.run
                or one.workflow,
                one.message.replace(" | ", "\n"),
            )
            for one in found
        ],
    )


def machine(shown: view.View, output: Format) -> bool:
    """Print for machines; false when people are asked for."""
    if output is Format.JSON:
        print_json(shown)
    elif output is Format.YAML:
        print_yaml(shown)
    return output in {Format.JSON, Format.YAML}


def since(moment: datetime | None) -> str:
    return f"{ago(moment, now())} ago" if moment else "never"
