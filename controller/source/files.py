"""Files of a folder as Git would name them; links that lead out are faults, never followed."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from controller.model.source import Entry, Fault

CHUNK = 1 << 20
SMALL = 1 << 20  # bytes: a manifest is no larger, and its content is kept while it is loaded
RACY_NS = 50_000_000  # a file touched this shortly before its look may change again unseen
Ignored = Callable[[str], bool]


@dataclass(slots=True)
class Found:
    """What a look at one path gave: exactly one of entry and fault, or neither (not ours)."""

    entry: Entry | None = None
    fault: Fault | None = None
    signature: tuple[int, ...] | None = None  # None: hash it again at the next look
    inode: int | None = None
    content: bytes | None = None


@dataclass(slots=True)
class Scan:
    """Every file below a root."""

    found: dict[str, Found] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[Fault]:
        return [one.fault for one in self.found.values() if one.fault is not None]


def signature(info: os.stat_result, now_ns: int) -> tuple[int, ...] | None:
    """Return what tells a file from its changed self; None when it is too young to tell."""
    if now_ns - max(info.st_mtime_ns, info.st_ctime_ns) < RACY_NS:
        return None
    return (info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino, info.st_mode)


def walk(
    root: Path, ignored: Ignored, unreadable: list[str]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield every path below `root` that is no folder, relative to it; dot names are left out."""
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda one: one.name)
        except OSError:
            unreadable.append(folder)
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or ignored(path):
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            else:
                yield path, entry


def scan(root: Path, ignored: Ignored, known: dict[str, Found], now_ns: int) -> Scan:
    """Look at every file; what has the signature it had is not read again.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(root)
    result = Scan()
    for path, entry in walk(root, ignored, result.unreadable):
        before = known.get(path)
        if before is not None and before.signature is not None:
            try:
                if signature(entry.stat(follow_symlinks=False), now_ns) == before.signature:
                    result.found[path] = before
                    continue
            except FileNotFoundError:
                continue
        found = look(root, path, now_ns)
        if found is not None:
            result.found[path] = found
    if result.unreadable[:1] == [""]:
        raise PermissionError(root)
    return result


def look(root: Path, path: str, now_ns: int) -> Found | None:
    """Look at one path; None when nothing is there."""
    try:
        info = os.lstat(root / path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        path.encode()
    except UnicodeEncodeError:
        return Found(fault=refused(ascii(path), "its name is not UTF-8", "rename it"))
    if stat.S_ISLNK(info.st_mode):
        return look_through(root, path)
    if not stat.S_ISREG(info.st_mode):
        return Found(fault=refused(path, "is not a regular file", "move it elsewhere"))
    return hashed(root / path, path, info, now_ns)


def look_through(root: Path, path: str) -> Found:
    """A link inside the folder to a regular file is followed, once."""
    target = link_target(path, str((root / path).readlink()))
    if target is None:
        return Found(fault=refused(path, "is a link out of the source", "copy the file"))
    full = root / target
    try:
        info = os.lstat(full)
        outside = full.parent.resolve() != (root.resolve() / target).parent
    except OSError:
        return Found(fault=refused(path, "is a link to nothing", "remove it"))
    if outside or not stat.S_ISREG(info.st_mode):
        problem = "is a link to something other than a regular file of the source"
        return Found(fault=refused(path, problem, "copy the file"))
    found = hashed(full, path, info, now_ns=0)
    found.signature = None  # its own times say nothing of the target's
    return found


def link_target(path: str, link: str) -> str | None:
    """Return where a link at `path` leads, relative to the root; None when it leads out."""
    if link.startswith("/"):
        return None
    target = os.path.normpath(os.path.join(os.path.dirname(path), link))  # noqa: PTH118, PTH120
    return None if target.startswith("..") else target


def refused(path: str, problem: str, remedy: str) -> Fault:
    return Fault(file=path, problem=problem, remedy=remedy)


def hashed(full: Path, path: str, info: os.stat_result, now_ns: int) -> Found:
    mode = "100755" if info.st_mode & stat.S_IXUSR else "100644"
    try:
        blob, content = blob_of(full)
    except OSError as error:
        return Found(fault=refused(path, f"can't be read: {error.strerror}", "check its mode"))
    return Found(
        entry=Entry(mode, blob),
        signature=signature(info, now_ns),
        inode=info.st_ino,
        content=content,
    )


def blob_of(full: Path) -> tuple[str, bytes | None]:
    """Return Git's blob id of a file, and its content when it is small. Links are not followed."""
    with os.fdopen(os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= SMALL:
            data = file.read()
            return git_name(len(data), (data,)), data
        return git_name(size, iter(lambda: file.read(CHUNK), b"")), None


def git_name(size: int, chunks: Iterator[bytes] | tuple[bytes, ...]) -> str:
    # Git's own name for content: compared with Git's, never relied on for security.
    name = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in chunks:
        name.update(chunk)
    return name.hexdigest()
