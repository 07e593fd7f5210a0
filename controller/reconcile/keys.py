"""What an input is made of, by content: the same digest for Git and Directory."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from controller import digest
from controller.model.source import Entry
from controller.model.workflow import Input

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

AFTER_SLASH = "0"  # the character after "/": a folder's paths sort before folder + this


class Index:
    """The paths of one snapshot, sorted once, so that each input is found by two bisections."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries
        self._paths: list[str] | None = None  # sorted when an input first asks
        self._digests: dict[tuple[str, tuple[str, ...]], str | None] = {}  # many share an input

    def select(self, wanted: Input) -> dict[str, Entry]:
        """Return the input's files, by path relative to it ("" when it is one file)."""
        root = normal(wanted.path)
        if root in self._entries:
            return {"": self._entries[root]}
        below = self._below(root)
        if wanted.ignore:
            ignored = patterns(wanted.ignore)
            below = {path: entry for path, entry in below.items() if not ignored.match_file(path)}
        return below

    def digest(self, wanted: Input) -> str | None:
        """Return the input's digest; None when nothing is there."""
        key = (normal(wanted.path), wanted.ignore)
        if key not in self._digests:
            selected = self.select(wanted)
            self._digests[key] = digest_of(selected) if selected else None
        return self._digests[key]

    def _below(self, root: str) -> dict[str, Entry]:
        if self._paths is None:
            self._paths = sorted(self._entries)
        if not root:
            return dict(self._entries)
        first = bisect_left(self._paths, root + "/")
        last = bisect_left(self._paths, root + AFTER_SLASH)
        cut = len(root) + 1
        return {path[cut:]: self._entries[path] for path in self._paths[first:last]}


@lru_cache(maxsize=1024)
def patterns(lines: tuple[str, ...]) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec  # noqa: PLC0415 - only where inputs are filtered

    return GitIgnoreSpec.from_lines(lines)


def select(entries: Mapping[str, Entry], wanted: Input) -> dict[str, Entry]:
    """Return the input's files, by path relative to it ("" when it is one file)."""
    return Index(entries).select(wanted)


def input_digest(entries: Mapping[str, Entry], wanted: Input) -> str | None:
    """Return the digest over an input's sorted (mode, path, blob); None: nothing is there."""
    return Index(entries).digest(wanted)


def digest_of(selected: Mapping[str, Entry]) -> str:
    """Return the digest of selected files, paths relative to the input."""
    # Paths alone are sorted: pairs of them take five times as long.
    entries = ((selected[path], path) for path in sorted(selected))
    return digest.sha256("".join(f"{one.mode} {one.blob} {path}\0" for one, path in entries))


def within(path: str, root: str) -> bool:
    """Tell whether `path` is `root` or stands below it; "" and "." hold everything."""
    root = normal(root)
    return not root or path == root or path.startswith(root + "/")


def normal(path: str) -> str:
    """Return a path of a manifest as snapshots write it: no "./", no trailing slash."""
    parts: Iterable[str] = (part for part in path.split("/") if part not in {"", "."})
    return "/".join(parts)


def is_manifest(path: str, folder: str) -> bool:
    """Tell whether a source's file is read as a manifest: YAML below `folder`, nothing hidden."""
    if not path.endswith((".yaml", ".yml")) or not within(path, folder):
        return False
    return not any(part.startswith(".") for part in path.split("/"))
