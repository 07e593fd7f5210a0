"""An input of a folder: copied for one run, and named by what was copied."""

import os
import shutil
import stat
from pathlib import Path

from pathspec import GitIgnoreSpec

from controller.model.source import Entry
from controller.model.workflow import Input
from controller.reconcile import keys
from controller.source.confined import opened
from controller.source.files import (
    CHUNK,
    EXECUTABLE,
    SMALL,
    blob_of,
    git_name,
    link_target,
    mode_of,
    unspeakable,
    walk,
)
from controller.source.ignoring import Ignored


def copy_input(root: Path, ignored: Ignored, wanted: Input, target: Path) -> dict[str, Entry]:
    """Copy an input's files to `target`; return what was copied, by path relative to the input.

    Links out of the folder, FIFOs and the like are no part of a source. An input that is one file
    becomes `target` itself.

    Raises:
        OSError: a file can't be read or written.
    """
    place = keys.normal(wanted.path)
    spec = GitIgnoreSpec.from_lines(wanted.ignore)
    copied = {}
    for path, info in files_at(root, place, ignored):
        relative = path[len(place) :].lstrip("/")
        if unspeakable(path) or (relative and spec.match_file(relative)):
            continue
        origin = origin_of(root, path, info)
        entry = origin and copy(root, origin, target / relative if relative else target)
        if entry:
            copied[relative] = entry
    return copied


def files_at(root: Path, place: str, ignored: Ignored) -> list[tuple[str, os.stat_result]]:
    """Return the files at or below `place`; none where a link or a hidden name stands above."""
    parts = place.split("/") if place else []
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    if any(part.startswith(".") for part in parts) or any(ignored(one + "/") for one in above):
        return []
    if any((root / one).is_symlink() for one in above):
        return []
    root.stat()  # a folder that is gone is no empty input
    try:
        info = (root / place).lstat() if place else root.stat()
    except (FileNotFoundError, NotADirectoryError):
        return []
    if not stat.S_ISDIR(info.st_mode):
        return [] if ignored(place) else [(place, info)]
    if place and ignored(place + "/"):
        return []
    found = walk(root, place, ignored)
    for path, problem in found.closed.items():
        raise PermissionError(f"{path}: {problem}")
    return found.files


def origin_of(root: Path, path: str, info: os.stat_result) -> str | None:
    """Return the path of the regular file that `path` stands for, links followed once."""
    if stat.S_ISREG(info.st_mode):
        return path
    if not stat.S_ISLNK(info.st_mode):
        return None
    target = link_target(path, str((root / path).readlink()))
    if target is None or not is_regular(root, target):
        return None
    return target


def is_regular(root: Path, path: str) -> bool:
    try:
        with opened(root, path) as file:
            return stat.S_ISREG(os.fstat(file).st_mode)
    except OSError:
        return False


def copy(root: Path, path: str, target: Path) -> Entry | None:
    """Copy one file; return the entry of the copy. None when it is gone by now."""
    try:
        with opened(root, path) as file:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                return None
            target.parent.mkdir(parents=True, exist_ok=True)
            blob = copy_content(file, target)
    except FileNotFoundError:
        return None
    mode = mode_of(info)
    target.chmod(0o755 if mode == EXECUTABLE else 0o644)
    return Entry(mode, blob)


def copy_content(file: int, target: Path) -> str:
    """Copy an open file's bytes to a new file; return Git's id of what was written."""
    with os.fdopen(file, "rb", closefd=False) as source, target.open("xb+") as copied:
        data = source.read(SMALL + 1)
        copied.write(data)
        if len(data) <= SMALL:
            return git_name(len(data), (data,))
        shutil.copyfileobj(source, copied, CHUNK)
        copied.flush()
        copied.seek(0)
        blob, _ = blob_of(copied.fileno(), os.fstat(copied.fileno()).st_size)
        return blob
