"""Who runs work on this state directory, and which of them is gone.

An instance is a row and a lock on a file of its own. The kernel frees the lock when the process
dies, however it dies, so no clock and no heartbeat is asked.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from controller import ids
from controller.disk import explain_os
from controller.errors import RefusedError

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class FileLock:
    """An exclusive lock on a file, held by this process until `release` or its death.

    It is flock's: a child made by fork alone holds it too, one made by exec doesn't.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, *, wait: bool = False, shared: bool = False) -> bool:
        """Take the lock; False when another holds it and `wait` is not set.

        Several may share it; who looks whether somebody holds it stands in no other's way.
        """
        handle = os.open(self.path, _OPEN, 0o600)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(handle, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            return False
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return True

    def write(self, text: str) -> None:
        """Replace the file's text; others may read it while the lock is held."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, text.encode(), 0)

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def make_private(folder: Path) -> None:
    """Make the folder for its owner's eyes only; one that is there stays as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


class InstanceLock:
    """The life of one instance: its file is locked while the process lives."""

    def __init__(self, state_dir: Path, kind: str) -> None:
        self.id = f"{kind}-{ids.nonce()[:12]}"
        self._lock = FileLock(lock_path(state_dir, self.id))

    def acquire(self) -> None:
        make_private(self._lock.path.parent)
        self._lock.acquire(wait=True)

    def release(self) -> None:
        """End it: the file goes first, so that nobody finds it free and takes it for a crash."""
        self._lock.path.unlink(missing_ok=True)
        self._lock.release()


def lock_path(state_dir: Path, instance: str) -> Path:
    return state_dir / "instances" / f"{instance}.lock"


def is_alive(state_dir: Path, instance: str) -> bool:
    """Return whether the process of that instance still lives."""
    path = lock_path(state_dir, instance)
    if not path.exists():
        return False
    lock = FileLock(path)
    if not lock.acquire(shared=True):
        return True
    lock.release()
    return False


def drop_dead_locks(state_dir: Path) -> None:
    """Remove the files of the dead: a missing one says the same. Call it under the store's lock.

    Nobody makes a lock without it, so none is met between its making and its taking.
    """
    for path in lock_path(state_dir, "").parent.glob("*.lock"):
        if not is_alive(state_dir, path.stem):
            path.unlink(missing_ok=True)


class ServeLock:
    """One `serve` per state directory: held as a context, it names its holder to others."""

    def __init__(self, state_dir: Path, instance: str = "") -> None:
        self._instance = instance
        self._lock = FileLock(state_dir / "controller.lock")

    def __enter__(self) -> Self:
        """Take it.

        Raises:
            RefusedError: another process holds it, and is named.
            TransientError: StoreReadOnly, StoreFull, StoreUnavailable.
        """
        if not self._take():
            raise RefusedError(
                f"a controller already serves this directory: {self._holder()}",
                where=str(self._lock.path.parent),
                remedy="stop it first, or name another directory with --state-dir",
            )
        self.name(self._instance)
        return self

    def _take(self) -> bool:
        try:
            make_private(self._lock.path.parent)
            return self._lock.acquire()
        except OSError as error:
            raise explain_os(error, self._lock.path) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.write("")
        self._lock.release()

    def name(self, instance: str) -> None:
        """Write who holds it: this process, and its instance once it is known."""
        self._lock.write(json.dumps({"pid": os.getpid(), "instance": instance}))

    def _holder(self) -> str:
        try:
            told: dict[str, Any] = json.loads(self._lock.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it was taken this very moment
            return "unknown process"
        instance = told.get("instance")
        return f"process {told.get('pid')}" + (f" ({instance})" if instance else "")


def settling_lock(state_dir: Path) -> FileLock:
    """Return the lock under which a database is made, migrated, or put in another's place."""
    return FileLock(state_dir / "store.lock")


@contextmanager
def alone(state_dir: Path) -> Iterator[None]:
    """Hold the directory with no other process in it, and keep others from settling in.

    Raises:
        RefusedError: a controller, an `exec` or a program uses it, and is named.
        TransientError: StoreReadOnly, StoreFull, StoreUnavailable.
    """
    with ServeLock(state_dir):
        lock = settling_lock(state_dir)
        lock.acquire(wait=True)
        try:
            _check_nobody_lives(state_dir)
            yield
        finally:
            lock.release()


def _check_nobody_lives(state_dir: Path) -> None:
    names = sorted(path.stem for path in lock_path(state_dir, "").parent.glob("*.lock"))
    if living := [name for name in names if is_alive(state_dir, name)]:
        raise RefusedError(
            f"it is in use by {', '.join(living)}",
            where=str(state_dir),
            remedy="wait until that has ended, or stop it",
        )
