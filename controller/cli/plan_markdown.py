"""A comparison as Markdown for the comment of a pull request.

Whatever comes from the branch stands in code spans: there nothing is markup, link or mention.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from controller.cli.plan_words import SIGNS, WORDS, Line, lines, moved
from controller.reconcile.preview import Action
from controller.sides import Comparison

MOST_ROWS = 100  # workflows told; hosts refuse comments of more than 64 KiB
MOST_BYTES = 50_000  # of the details
LONGEST = 300  # characters of one code span


def markdown(results: Sequence[Comparison], base: str | None, head: str | None) -> str:
    told = [
        f"**rondel plan** {between(base, head)}: {summary(results)}",
        *table(results),
        *details(results),
    ]
    return "\n\n".join(told) + "\n"


def between(base: str | None, head: str | None) -> str:
    before = code(base) if base else "what is loaded"
    return f"{before} to {code(head) if head else 'the files as they are'}"


def summary(results: Sequence[Comparison]) -> str:
    counted = Counter(one.action for found in results for one in moved(found))
    words = [f"{counted[one]} {WORDS[one]}" for one in Action if counted[one]]
    invalid = sum(len(found.invalid) for found in results)
    wider = sum(len(found.consequences.widened) for found in results)
    words += [f"{invalid} faults"] if invalid else []
    words += [f"**{wider} wider permissions**"] if wider else []
    return ", ".join(words) or "nothing follows"


def table(results: Sequence[Comparison]) -> Iterator[str]:
    rows = [
        f"| {code(SIGNS[one.change])} | {code(f'{found.source}/{one.name}')} "
        f"| {WORDS[one.action]} | {code(one.causes[0].file or '')} |"
        for found in results
        for one in moved(found)
    ]
    if rows:
        head = ["| | workflow | what follows | because of |", "|---|---|---|---|"]
        yield "\n".join([*head, *rows[:MOST_ROWS]])
    if len(rows) > MOST_ROWS:
        yield f"and {len(rows) - MOST_ROWS} more workflows"


def details(results: Sequence[Comparison]) -> Iterator[str]:
    items = [item for found in results for line in lines(found) for item in listed(line, 0)]
    if not items:
        return
    kept, size = [], 0
    for item in items:
        size += len(item.encode()) + 1
        if size > MOST_BYTES:
            kept.append("- and more: see the plan's JSON")
            break
        kept.append(item)
    yield "<details><summary>causes and consequences</summary>"
    yield "\n".join(kept)
    yield "</details>"


def listed(line: Line, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}- {code(line.text)}"
    for one in line.below:
        yield from listed(one, depth + 1)


def code(text: str) -> str:
    """Return text as a code span, also in a table's cell: what could end either is spelled out."""
    plain = "".join(
        one if one.isprintable() and one not in "`|" else spelled(one) for one in text[:LONGEST]
    )
    shown = plain.strip() + ("..." if len(text) > LONGEST else "")
    return f"`{shown}`" if shown else ""


def spelled(character: str) -> str:
    return f"\\u{ord(character):04x}"
