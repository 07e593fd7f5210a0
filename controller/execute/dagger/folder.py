"""A session's private folder: in memory where there is some, and gone with its owner."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from controller import environment

MEMORY = Path("/dev/shm")  # noqa: S108 - secrets are better there than on a disk; folders are ours
PREFIX = "rondel-session-"
LOCK = "lock"


class PrivateFolder:
    """A new folder that only we may enter; its lock tells the living from what a crash has left."""

    def __init__(self, parent: Path) -> None:
        made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent))
        self._lock = opened_lock(made)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Under its name only with the lock held: a sweep beside us never sees it without.
        self.path = made.rename(parent / made.name.removeprefix("."))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def place_for_sessions(state_dir: Path) -> Path:
    """Return where private folders go."""
    runtime = environment.get("XDG_RUNTIME_DIR")
    for place in (Path(runtime) if runtime else MEMORY, MEMORY):
        if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
            return place
    folder = state_dir / "sessions"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def sweep(parent: Path) -> int:
    """Remove the folders whose owner is gone, with the secrets in them; return how many."""
    return sum(removed(one) for one in parent.glob(f"{PREFIX}*") if is_ours(one))


def is_ours(folder: Path) -> bool:
    try:
        return not folder.is_symlink() and folder.lstat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def removed(folder: Path) -> bool:
    """Remove the folder unless somebody holds its lock."""
    try:
        lock = opened_lock(folder)
    except OSError:
        return False  # another sweep was quicker
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(lock)


def opened_lock(folder: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(folder / LOCK, flags, 0o600)
