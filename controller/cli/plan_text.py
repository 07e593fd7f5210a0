"""What `rondel plan` prints."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from controller.cli.common import print_json, print_yaml
from controller.cli.plan_markdown import markdown
from controller.cli.plan_words import Line, lines, summary
from controller.plan_view import as_json
from controller.sides import Comparison

if TYPE_CHECKING:
    from rich.tree import Tree

COLORS = {"+": "green", "~": "yellow", "-": "red", "!": "bold red", "wider:": "bold magenta"}


class PlanFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    MARKDOWN = "markdown"


def tell(
    results: Sequence[Comparison], base: str | None, head: str | None, output: PlanFormat
) -> None:
    if output is PlanFormat.MARKDOWN:
        print(markdown(results, base, head), end="")
    elif output is PlanFormat.JSON:
        print_json(as_json(results, base, head))
    elif output is PlanFormat.YAML:
        print_yaml(as_json(results, base, head))
    else:
        for found in results:
            (print_tree if sys.stdout.isatty() else print_plain)(found)


def print_plain(found: Comparison) -> None:
    for line in lines(found):
        print_line(line, 0)
    print(f"{found.source}: {summary(found)}")


def print_line(line: Line, depth: int) -> None:
    print(f"{'    ' * depth}{line.text}")
    for one in line.below:
        print_line(one, depth + 1)


def print_tree(found: Comparison) -> None:
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.text import Text  # noqa: PLC0415 - as above
    from rich.tree import Tree  # noqa: PLC0415 - as above

    tree = Tree(Text(f"{found.source}: {summary(found)}", "bold"))
    for line in lines(found):
        grow(tree, line)
    Console(highlight=False).print(tree)


def grow(tree: "Tree", line: Line) -> None:
    from rich.text import Text  # noqa: PLC0415 - only on a terminal

    color = COLORS.get(line.text.partition(" ")[0], "")
    branch = tree.add(Text(line.text, color, overflow="fold"))
    for one in line.below:
        grow(branch, one)
