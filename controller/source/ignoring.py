"""What is no part of a source: the operator's `ignore`, and the place's own `.rondelignore`."""

import re
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from controller.errors import UsageError
from controller.model.settings import DirectorySource, GitSource
from controller.model.source import Fault

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

FILE = ".rondelignore"
MOST_BYTES = 64 << 10  # of the file
MOST_LINES = 1000
LONGEST = 1024  # characters of a pattern
MOST_STARS = 3  # in one name, and as names: matching costs the path's length for each of them
REMEMBERED = 1 << 16  # paths of which is remembered whether they are ignored
SPECS = 32  # lists of patterns that are remembered compiled
Ignored = Callable[[str], bool]
"""Tells whether a path is ignored; folders are asked for with a slash behind."""


def check(settings: GitSource | DirectorySource) -> None:
    """Refuse a pattern of the configuration that can't be read. Raises UsageError."""
    for index, pattern in enumerate(settings.ignore):
        if problem := problem_of(pattern):
            raise UsageError(
                f"{pattern!r} {problem}",
                where=f"source {settings.name}: ignore[{index}]",
                remedy="write a pattern of .gitignore",
            )


def read(data: bytes | None) -> tuple[tuple[str, ...], tuple[Fault, ...]]:
    """Return the patterns of a `.rondelignore`, and a fault for each line that is none.

    None, and a file that is too large, ignores nothing.
    """
    if data is None:
        return (), ()
    lines = data.decode("utf-8", "replace").splitlines()
    if len(data) > MOST_BYTES or len(lines) > MOST_LINES:
        most = f"{MOST_BYTES >> 10} KiB or {MOST_LINES} lines"
        return (), (fault(0, f"is over {most}", "ignore whole folders"),)
    patterns, faults = [], []
    for number, line in enumerate(lines, 1):
        if problem := problem_of(line):
            words = f"{line[:80]!r} {problem}"
            faults.append(fault(number, words, "write a pattern of .gitignore"))
        else:
            patterns.append(line)
    return tuple(patterns), tuple(faults)


def fault(line: int, problem: str, remedy: str) -> Fault:
    return Fault(
        file=FILE,
        line=line,
        column=int(line > 0),
        problem=problem,
        remedy=remedy,
        reason="InvalidIgnore",
    )


def problem_of(pattern: str) -> str:
    """Return what is wrong with a pattern; "" for nothing."""
    if len(pattern) > LONGEST:
        return f"is over {LONGEST} characters long"
    names = pattern.split("/")
    if max(0 if name == "**" else name.count("*") for name in names) > MOST_STARS:
        return f"has over {MOST_STARS} stars in one name"
    if names.count("**") > MOST_STARS:
        return f"has `**` over {MOST_STARS} times"
    try:
        compiled((pattern,))
    except (ValueError, re.error):
        return "is no pattern"
    return ""


def compiled(patterns: Iterable[str]) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec  # noqa: PLC0415 - only where something is ignored

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # a set in a set is a set to git
        return GitIgnoreSpec.from_lines(patterns)


@lru_cache(maxsize=SPECS)
def ignoring(patterns: tuple[str, ...]) -> Ignored:
    """Return what tells whether a path itself is ignored; a later pattern overrules."""
    if not patterns:
        return is_nothing
    spec = compiled(patterns)
    if not any(one.include is not None for one in spec.patterns):
        return is_nothing
    return lru_cache(maxsize=REMEMBERED)(spec.match_file)


def is_nothing(path: str) -> bool:
    """Ignore nothing."""
    del path
    return False


def is_left_out(path: str, ignored: Ignored) -> bool:
    """Tell whether a file is ignored, or a folder above it: nothing below that comes back."""
    return any(ignored(f"{one}/") for one in parents(path)) or ignored(path)


def parents(path: str) -> list[str]:
    """Return the folders above a path, the nearest last."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
