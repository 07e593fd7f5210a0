"""What trouble with the disk of the state directory means, in the house's words."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.errors import RondelError, TransientError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def explain_os(error: OSError, where: Path) -> RondelError:
    """Return the error as what happens next, as the store's `connection.explain` does."""
    text = f"the state directory fails: {error.strerror or error}"
    if error.errno in _FULL:
        return TransientError(text, reason="StoreFull", where=str(where), remedy="free disk space")
    if error.errno in _READ_ONLY:
        return TransientError(
            text,
            reason="StoreReadOnly",
            where=str(where),
            remedy="make the state directory writable",
        )
    return TransientError(text, reason="StoreUnavailable", where=str(where))


@contextmanager
def room_for(what: Path) -> Iterator[None]:
    """Here a disk that takes no more is told as such; every other error passes as it is.

    Raises:
        TransientError: StoreFull, StoreReadOnly.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or error.errno == errno.EROFS:
            raise explain_os(error, what) from error
        raise
