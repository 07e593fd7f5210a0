"""What the checks of this room report, before it gets a file and a position."""

from typing import NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands in a document: keys and indices from the root."""


class Finding(NamedTuple):
    """One thing wrong with the value at `path`; `at_key` points at its key, not its value."""

    path: Path
    problem: str
    remedy: str = ""
    at_key: bool = False


def pointer(path: Path) -> str:
    """Return the JSON pointer of `path`; "" is the document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
