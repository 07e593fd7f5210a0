"""What `rondel plan` found, as a tree, JSON, YAML, or Markdown for a pull request."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from controller.cli.common import print_json, print_yaml
from controller.model.source import Fault
from controller.model.view import fault_view, time
from controller.reconcile.consequences import NewTimes
from controller.reconcile.preview import Action, Cause, Preview


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    MARKDOWN = "markdown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What follows in one source."""

    source: str
    previews: Sequence[Preview]
    invalid: Sequence[Fault]

    @property
    def moved(self) -> list[Preview]:
        return [one for one in self.previews if one.causes]


WIDEST = 100_000  # columns: nothing that is read by a program is folded
SIGNS = {"Added": "+", "Changed": "~", "Removed": "-", "None": " "}
STYLES = {"Added": "green", "Changed": "yellow", "Removed": "red", "None": ""}
WORDS = {
    Action.RUN: "runs now",
    Action.AT_SLOT: "runs at its next slot",
    Action.NOTHING: "nothing runs by itself",
    Action.RETIRE: "is retired",
}


def tell(results: Sequence[Result], base: str | None, head: str | None, output: Output) -> None:
    match output:
        case Output.JSON:
            print_json(as_json(results, base, head))
        case Output.YAML:
            print_yaml(as_json(results, base, head))
        case Output.MARKDOWN:
            print("\n".join(markdown(results)))
        case Output.TABLE:
            console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDEST)
            for result in results:
                console.print(tree(result))


def as_json(results: Sequence[Result], base: str | None, head: str | None) -> dict[str, Any]:
    return {
        "base": base,
        "head": head,
        "workflows": [
            preview_json(result.source, one) for result in results for one in result.previews
        ],
        "invalid": [fault_view(fault) for result in results for fault in result.invalid],
    }


def preview_json(source: str, one: Preview) -> dict[str, Any]:
    return {
        "source": source,
        "name": one.name,
        "change": str(one.change),
        "action": str(one.action),
        "causes": [asdict(cause) for cause in one.causes],
        "schedules": [
            {
                "schedule": times.schedule,
                "before": [time(slot) for slot in times.before],
                "after": [time(slot) for slot in times.after],
                "runsPerMonth": times.runs_per_month,
            }
            for times in one.follows.times
        ],
        "grants": [asdict(grant) for grant in one.follows.grants],
    }


# For a terminal. What comes from files goes in as Text: it is no markup.


def tree(result: Result) -> Tree:
    top = Tree(Text(f"{printable(result.source)}: {summary([result])}"))
    for one in result.moved:
        head = f"{SIGNS[one.change]} {result.source}/{one.name}: {WORDS[one.action]}"
        branch = top.add(Text(printable(head), style=STYLES[one.change]))
        for cause in one.causes:
            branch.add(Text(printable(cause_text(cause))))
        for times in one.follows.times:
            add_times(branch, times)
        for grant in one.follows.grants:
            line = f"names the {grant.kind.lower()} {grant.name}, which it did not before"
            branch.add(Text(printable(line)))
    for fault in result.invalid:
        top.add(Text(printable(f"! {fault}"), style="red"))
    return top


def add_times(branch: Tree, times: NewTimes) -> None:
    head = f"schedule {times.schedule}: {amount(times.runs_per_month)} runs a month"
    twig = branch.add(Text(printable(head)))
    twig.add(Text(f"before: {moments(times.before)}"))
    twig.add(Text(f"after:  {moments(times.after)}"))


def cause_text(cause: Cause) -> str:
    about = f" (input {cause.input})" if cause.input else ""
    return f"{cause.message}: {cause.file or ''}{about}"


def amount(count: int) -> str:
    return f"{count:+d}" if count else "as many"


def moments(slots: Sequence[datetime]) -> str:
    return ", ".join(time(slot) or "" for slot in slots) or "none"


def summary(results: Sequence[Result]) -> str:
    changed = sum(len(result.moved) for result in results)
    same = sum(len(result.previews) for result in results) - changed
    faults = sum(len(result.invalid) for result in results)
    return f"{changed} changed, {same} unchanged, {faults} faults"


# For a pull request. What comes from files stands in code spans, where nothing is markup.


def markdown(results: Sequence[Result]) -> Iterator[str]:
    yield f"**Rondel plan**: {summary(results)}"
    moved = [(result.source, one) for result in results for one in result.moved]
    if moved:
        yield from ("", "| | Workflow | What follows | Why |", "| --- | --- | --- | --- |")
    for source, one in moved:
        why = "<br>".join(why_of(cause) for cause in one.causes)
        name = code(f"{source}/{one.name}")
        yield f"| {one.change} | {name} | {WORDS[one.action]} | {why} |"
    faults = [fault for result in results for fault in result.invalid]
    if faults:
        yield from ("", "**Faults**", "")
        yield from (f"- {code(str(fault))}" for fault in faults)
    for source, one in moved:
        yield from folded(source, one)


def why_of(cause: Cause) -> str:
    about = f" (input {code(cause.input)})" if cause.input else ""
    return f"{cause.message}{': ' + code(cause.file) if cause.file else ''}{about}"


def folded(source: str, one: Preview) -> Iterator[str]:
    if not one.follows.times and not one.follows.grants:
        return
    yield from ("", f"<details><summary>{escaped(f'{source}/{one.name}')}</summary>", "")
    for times in one.follows.times:
        yield from times_text(times)
    for grant in one.follows.grants:
        yield f"- names the {grant.kind.lower()} {code(grant.name)}, which it did not before"
    yield from ("", "</details>")


def times_text(times: NewTimes) -> Iterator[str]:
    yield f"- schedule {code(times.schedule)}: {amount(times.runs_per_month)} runs a month"
    yield f"  - before: {moments(times.before)}"
    yield f"  - after: {moments(times.after)}"


def code(text: str) -> str:
    """Return a code span that nothing in `text` can end, fit for a table's cell."""
    shown = printable(text).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    space = " " if "`" in shown else ""
    return f"{fence}{space}{shown}{space}{fence}"


def escaped(text: str) -> str:
    """Return text for HTML, without a character that Markdown or a forge makes something of."""
    return "".join(one if one.isalnum() else f"&#{ord(one)};" for one in printable(text))


def printable(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
