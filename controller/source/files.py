"""Files of a folder as Git would name them; links that lead out are faults, never followed."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from controller.clock import SystemClock
from controller.model.source import Entry, Fault
from controller.source.confined import opened
from controller.source.ignoring import Ignored

CHUNK = 1 << 20
SMALL = 1 << 20  # bytes: a manifest is no larger
RACY_NS = 50_000_000  # a file touched this shortly before its look may change again unseen
EXECUTABLE, PLAIN = "100755", "100644"
Keep = Callable[[str, bytes], None]  # takes a manifest's content, by path
Times = tuple[int, ...]

# File times are the machine's, whatever clock the daemon decides by.
MACHINE = SystemClock()


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at one path gave: an entry, a fault, or both (the last good one, and why)."""

    entry: Entry | None = None
    fault: Fault | None = None
    signature: Times | None = None  # None: read it again at the next look
    inode: int = 0
    target: str | None = None  # where a link leads, relative to the root


@dataclass(slots=True)
class Walk:
    """Paths that are no folders, with their stat; and what can't be looked into, and why."""

    files: list[tuple[str, os.stat_result]] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Scan:
    """Every file below a root."""

    found: dict[str, Found] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


def now_ns() -> int:
    return int(MACHINE.now().timestamp() * 1e9)


def times(info: os.stat_result) -> Times:
    """Return what tells a file from its changed self."""
    return (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino, info.st_mode)


def signature(info: os.stat_result, now: int) -> Times | None:
    """Return the file's times; None when it is so young that it could change within them."""
    if now - max(info.st_mtime_ns, info.st_ctime_ns) < RACY_NS:
        return None
    return times(info)


def walk(root: Path, start: str, ignored: Ignored) -> Walk:
    """Find every path at or below `start`, relative to `root`; dot names are left out.

    Raises:
        OSError: `start` itself is a folder that can't be listed.
    """
    result = Walk()
    pending = [start]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as listing:
                entries = list(listing)
        except OSError as error:
            if folder == start:
                raise
            if not isinstance(error, FileNotFoundError):
                result.closed[folder] = error.strerror or str(error)
            continue
        sort_in(entries, f"{folder}/" if folder else "", ignored, pending, result)
    return result


def sort_in(
    entries: Iterable[os.DirEntry[str]],
    prefix: str,
    ignored: Ignored,
    pending: list[str],
    result: Walk,
) -> None:
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = prefix + entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                if not ignored(path + "/"):
                    pending.append(path)
            elif not ignored(path):
                result.files.append((path, entry.stat(follow_symlinks=False)))
        except FileNotFoundError:
            continue
        except OSError as error:
            result.closed[path] = error.strerror or str(error)


def scan(root: Path, ignored: Ignored, known: dict[str, Found], now: int) -> Scan:
    """Look at every file once, as it is; what has the signature it had is not read again.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    paths = walk(root, "", ignored)
    result = Scan(unreadable=list(paths.closed))
    for path, info in paths.files:
        before = known.get(path)
        same = before is not None and before.signature == times(info)
        found = before if same else look(root, path, info, now)
        if found is not None:
            result.found[path] = found
    return result


def look(
    root: Path, path: str, info: os.stat_result, now: int, keep: Keep | None = None
) -> Found | None:
    """Look at one path; None when nothing is there. A manifest's content goes to `keep`."""
    if fault := unspeakable(path):
        return Found(fault=fault)
    try:
        if stat.S_ISLNK(info.st_mode):
            return look_through(root, path, keep)
        if not stat.S_ISREG(info.st_mode):
            return Found(fault=refused(path, "is not a regular file", "move it elsewhere"))
        entry, _ = hashed(root, path, path, keep)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Found(fault=closed(path, error.strerror or str(error)))
    return Found(entry=entry, signature=signature(info, now), inode=info.st_ino)


def look_through(root: Path, path: str, keep: Keep | None) -> Found:
    """A link inside the folder to a regular file is followed, once."""
    target = link_target(path, str((root / path).readlink()))
    if target is None:
        return Found(fault=refused(path, "is a link out of the source", "copy the file"))
    try:
        entry, _ = hashed(root, target, path, keep)
    except FileNotFoundError:
        return Found(fault=refused(path, "is a link to nothing", "remove it"), target=target)
    except OSError:
        problem = "is a link to something other than a regular file of the source"
        return Found(fault=refused(path, problem, "copy the file"), target=target)
    # No signature: its own times say nothing of its target's.
    return Found(entry=entry, target=target)


def link_target(path: str, link: str) -> str | None:
    """Return where a link at `path` leads, relative to the root; None when it leads out.

    A name that begins with a dot is not part of the source.
    """
    if link.startswith("/"):
        return None
    target = os.path.normpath(PurePosixPath(path).parent / link)
    hidden = any(part.startswith(".") for part in target.split("/"))
    return None if hidden else target


def hashed(root: Path, path: str, name: str, keep: Keep | None) -> tuple[Entry, bytes | None]:
    """Return a regular file's entry, and its content when it is small.

    Raises:
        OSError: it can't be read, or a link stands on the way to it.
    """
    with opened(root, path) as file:
        info = os.fstat(file)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(0, "is not a regular file")
        blob, data = blob_of(file, info.st_size)
    if keep is not None and data is not None and name.endswith((".yaml", ".yml")):
        keep(name, data)
    return Entry(mode_of(info), blob), data


def mode_of(info: os.stat_result) -> str:
    return EXECUTABLE if info.st_mode & stat.S_IXUSR else PLAIN


def blob_of(file: int, size: int) -> tuple[str, bytes | None]:
    """Return Git's blob id of an open file of that size, and its content when it is small."""
    if size <= SMALL:
        data = os.read(file, size + 1)
        if len(data) <= size:
            return git_name(len(data), (data,)), data
        os.lseek(file, 0, os.SEEK_SET)
    return git_name(size, iter(lambda: os.read(file, CHUNK), b"")), None


def git_name(size: int, chunks: Iterable[bytes]) -> str:
    # Git's own name for content: compared with Git's, never relied on for security.
    name = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in chunks:
        name.update(chunk)
    return name.hexdigest()


def unspeakable(path: str) -> Fault | None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return refused(ascii(path).strip("'"), "its name is not UTF-8", "rename it")
    return None


def closed(path: str, problem: str) -> Fault:
    return refused(path or ".", f"can't be read: {problem}", "check its owner and mode")


def refused(path: str, problem: str, remedy: str) -> Fault:
    return Fault(file=path, problem=problem, remedy=remedy)
