"""A source's paths in order: their digest, and what stands below a folder, without a sort."""

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterable

from controller.source.files import Found

FEW = 100  # changed paths; above this one sort costs less
AFTER_SLASH = "0"  # the character after "/": a folder's paths sort before folder + this


class Listing:
    """Sorted paths with what was found there, kept in step by single changes."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._lines: dict[str, str] = {}  # "" where there is no entry

    def put_all(self, changed: Iterable[tuple[str, Found | None]]) -> None:
        """Take in what paths have become; None takes one away."""
        fresh, gone = [], []
        for path, found in changed:
            if found is None:
                gone += [path] if self._lines.pop(path, None) is not None else []
                continue
            fresh += [path] if path not in self._lines else []
            self._lines[path] = line(path, found)
        if len(fresh) + len(gone) > FEW:
            self._paths = sorted(self._lines)
            return
        for path in gone:
            del self._paths[bisect_left(self._paths, path)]
        for path in fresh:
            insort(self._paths, path)

    def at(self, place: str) -> list[str]:
        """Return the paths at or below `place`; "" is the root."""
        if not place:
            return list(self._paths)
        first = bisect_left(self._paths, place + "/")
        last = bisect_left(self._paths, place + AFTER_SLASH)
        return [*([place] if place in self._lines else []), *self._paths[first:last]]

    def digest(self) -> str:
        """Return the digest over the sorted (path, mode, blob) of all entries."""
        text = "".join(map(self._lines.__getitem__, self._paths))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def line(path: str, found: Found) -> str:
    return f"{found.entry.mode} {found.entry.blob} {path}\0" if found.entry else ""
