"""Text that holds `${{ }}`: where the expressions are, and which names they use.

Nothing here knows CEL: names are found by its tokens, so that implied needs cost no compiling.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from controller.manifest.finding import Path

OPENING = "${{"
MAX_EXPRESSION = 4096  # characters
Name: TypeAlias = tuple[str, ...]
"""A name of an expression's world with its full path: ("steps", "extract", "outputs", "rows")."""

ROOTS = frozenset({"params", "run", "steps", "inputs", "workflow", "matrix", "upstream"})
_STRING = (
    r"[rRbB]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
)
_TOKEN = re.compile(
    rf"(?P<string>{_STRING})|(?P<member>\.\s*[A-Za-z_]\w*)|(?P<number>\d[\w.]*)"
    r"|(?P<chain>[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)",
    re.ASCII | re.DOTALL,
)
_BRACES = re.compile(rf"{_STRING}|[{{}}]", re.DOTALL)


class Piece(NamedTuple):
    """A stretch of text: an expression without its braces, or what stands between them."""

    text: str
    expression: bool


class TemplateError(ValueError):
    """Text whose `${{` is not closed, empty, or too long."""


@lru_cache(maxsize=4096)
def split(text: str) -> tuple[Piece, ...]:
    """Return the text's pieces in order; a text without `${{` is one literal piece.

    Raises:
        TemplateError: the braces don't close, or an expression is empty or over 4,096 characters.
    """
    pieces: list[Piece] = []
    start = 0
    while (found := text.find(OPENING, start)) >= 0:
        end = _closing(text, found + len(OPENING))
        if found > start:
            pieces.append(Piece(text[start:found], expression=False))
        pieces.append(Piece(_body(text[found + len(OPENING) : end]), expression=True))
        start = end + 2
    if start < len(text) or not pieces:
        pieces.append(Piece(text[start:], expression=False))
    return tuple(pieces)


def _closing(text: str, start: int) -> int:
    """Return where the `}}` stands that ends the expression; strings and maps are stepped over."""
    depth = 0
    for match in _BRACES.finditer(text, start):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}" and depth:
            depth -= 1
        elif match[0] == "}" and text.startswith("}}", match.start()):
            return match.start()
    raise TemplateError("`${{` is not closed by `}}`")


def _body(text: str) -> str:
    body = text.strip()
    if not body:
        raise TemplateError("`${{ }}` is empty")
    if len(body) > MAX_EXPRESSION:
        raise TemplateError(f"an expression has {MAX_EXPRESSION:,} characters at most")
    return body


def references(text: str) -> frozenset[Name]:
    """Return the names that the expressions inside `text` use, `_` as written.

    ("params", "region"), ("run", "date"), ("steps", "x", "phase"), ("inputs", "src", "digest"),
    ("steps", "x", "outputs", "rows"); shorter when the text names less.

    Raises:
        TemplateError: as `split`.
    """
    pieces = split(text)
    return frozenset[Name]().union(*(names(p.text) for p in pieces if p.expression))


@lru_cache(maxsize=4096)
def names(expression: str) -> frozenset[Name]:
    """Return the names that one expression (without braces) uses."""
    chains = (match["chain"] for match in _TOKEN.finditer(expression) if match["chain"])
    parts = (tuple(part.strip() for part in chain.split(".")) for chain in chains)
    return frozenset(_leaf(name) for name in parts if name[0] in ROOTS)


def _leaf(name: Name) -> Name:
    if name[0] == "steps":
        return name[: 4 if name[2:3] in {("outputs",), ("artifacts",)} else 3]
    deep = name[0] == "inputs" or name[:2] == ("upstream", "outputs")
    return name[: 3 if deep else 2]


def written(name: str) -> str:
    """Return a manifest's name as expressions write it: `each-region` is `each_region`."""
    return name.replace("-", "_")


def expressive(value: Any) -> Iterator[tuple[Path, str]]:
    """Yield every string in or below a value that holds an expression, with its path."""
    pending: list[tuple[Path, Any]] = [((), value)] if isinstance(value, (dict, list)) else []
    if isinstance(value, str) and OPENING in value:
        yield (), value
    for place, found in pending:  # grows while it is walked
        for key, item in found.items() if found.__class__ is dict else enumerate(found):
            kind = item.__class__  # values of JSON: no subclasses
            if kind is str:
                if OPENING in item:
                    yield (*place, key), item
            elif kind is dict or kind is list:
                pending.append(((*place, key), item))
