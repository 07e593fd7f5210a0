"""Bytes on disk, whole or absent: written beside their place, made durable, then renamed."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from controller import ids
from controller.errors import StalledError

CHUNK = 1 << 20


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Draft:
    """A file being written under a name of its own; `place` gives it its real one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ids.nonce()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._handle = os.open(self._path, flags, 0o600)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]

    def name(self) -> str:
        """Return the sha256 of what was written, 64 hex digits."""
        return self._hash.hexdigest()

    def place(self, target: Path) -> None:
        """Make the bytes durable and rename; the folder's names are the caller's to sync."""
        os.fsync(self._handle)
        self._path.rename(target)

    def discard(self) -> None:
        """Let go; a file that was not placed is removed."""
        os.close(self._handle)
        self._path.unlink(missing_ok=True)


@contextmanager
def draft(folder: Path) -> Iterator[Draft]:
    new = Draft(folder)
    try:
        yield new
    finally:
        new.discard()


def chunks(handle: int) -> Iterator[bytes]:
    while data := os.read(handle, CHUNK):
        yield data


@contextmanager
def open_regular(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file for reading, following no link; give its handle and status.

    Raises:
        StalledError: ArtifactUnsupported for a link, FIFO, socket or device; ArtifactUnreadable.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(path, flags)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise unsupported(path)
        yield handle, status
    finally:
        os.close(handle)


def unreadable(path: Path, error: OSError) -> StalledError:
    if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link; a socket
        return unsupported(path)
    return StalledError(
        f"it can't be read: {error.strerror}",
        reason="ArtifactUnreadable",
        where=str(path),
        remedy="let the step leave it readable",
    )


def unsupported(path: Path) -> StalledError:
    return StalledError(
        "only regular files and folders are kept, no links and no special files",
        reason="ArtifactUnsupported",
        where=str(path),
        remedy="let the step write a copy",
    )


def write_new(target: Path, data: Iterable[bytes], mode: int) -> str:
    """Write a file that must not exist; return its sha256, 64 hex digits."""
    name = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, mode), "wb") as file:
        try:
            for chunk in data:
                name.update(chunk)
                file.write(chunk)
            file.flush()
        except BaseException:
            target.unlink()
            raise
    return name.hexdigest()
