"""Folders as content: a sorted list of (mode, path, digest), itself kept as a blob."""

import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from controller import digest
from controller.store.files import unreadable, unsupported

FILE, EXECUTABLE, FOLDER = "100644", "100755", "040000"

_MODES = {FILE, EXECUTABLE, FOLDER}


class Node(NamedTuple):
    """A file of a tree, or an empty folder; `path` "" is the artifact itself."""

    mode: str
    path: str
    digest: str  # "" for a folder


def encode(nodes: Iterable[Node]) -> bytes:
    """Return the canonical bytes; names that are no UTF-8 survive."""
    return digest.canonical(sorted(nodes, key=lambda node: node.path)).encode(
        "utf-8", "surrogatepass"
    )


def decode(data: bytes) -> list[Node]:
    """Return the nodes. Raises ValueError for what isn't a tree, or one that leaves its place."""
    nodes = [Node(*map(str, row)) for row in json.loads(data.decode("utf-8", "surrogatepass"))]
    if len({node.path for node in nodes}) != len(nodes):
        raise ValueError("a path is listed twice")
    for node in nodes:
        _check(node)
    return nodes


def _check(node: Node) -> None:
    path = PurePosixPath(node.path)
    confined = not path.is_absolute() and ".." not in path.parts and "\0" not in node.path
    if not confined or node.mode not in _MODES:
        raise ValueError(f"{node.path!r} ({node.mode}) has no place in a tree")


def mode_of(status: os.stat_result) -> str:
    return EXECUTABLE if status.st_mode & stat.S_IXUSR else FILE


def walk(root: Path) -> Iterator[tuple[str, Path, bool]]:
    """Yield (path in the tree, path here, whether a folder) of files and of empty folders.

    Raises:
        StalledError: ArtifactUnsupported, ArtifactUnreadable.
    """
    waiting = [("", root)]
    while waiting:
        path, here = waiting.pop()
        entries = _entries(here)
        if not entries:
            yield path, here, True
        for entry in entries:
            inner = f"{path}/{entry.name}" if path else entry.name
            if entry.is_symlink():
                raise unsupported(Path(entry.path))
            if entry.is_dir(follow_symlinks=False):
                waiting.append((inner, Path(entry.path)))
            else:
                yield inner, Path(entry.path), False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(folder, error) from error
