"""Opening files below a folder: no link is followed on the way, so nothing outside is reached."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def opened(root: Path, path: str) -> Iterator[int]:
    """Yield a descriptor of the file at `path`, relative to `root`.

    The root itself may be a link: the operator named it. A FIFO doesn't block.

    Raises:
        OSError: nothing is there, it may not be read, or a link stands on the way.
    """
    file = open_below(root, path)
    try:
        yield file
    finally:
        os.close(file)


def open_below(root: Path, path: str) -> int:
    """Return the descriptor of `opened`, for the caller to close."""
    *folders, name = path.split("/")
    if name == ".." or ".." in folders:
        raise PermissionError(f"{path}: leads out of its source")
    place = os.open(root, FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, FOLDER | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
        return os.open(name, FILE, dir_fd=place)
    finally:
        os.close(place)
