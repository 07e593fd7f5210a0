"""Opens SQLite and says in the house's words what goes wrong with it."""

import os
import sqlite3
from pathlib import Path

from controller.errors import RondelError, StalledError, TransientError

Connection = sqlite3.Connection

DATABASE = "rondel.db"
BUSY_SECONDS = 10.0
_STATEMENTS_KEPT = 256
_WAL_PAGES = 2000  # 8 MiB between checkpoints

_FULL = {sqlite3.SQLITE_FULL}
_READ_ONLY = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def open_for_writing(
    path: Path, *, busy_seconds: float = BUSY_SECONDS, synchronous: str = "FULL"
) -> Connection:
    """Open a connection that begins a transaction only when told to.

    FULL survives a power cut; NORMAL survives the death of the process only.
    """
    connection = _connect(str(path), busy_seconds)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    return connection


def open_for_reading(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> Connection:
    """Open a connection that can't write.

    On a disk that can't be written SQLite has no place for its shared memory. Nobody writes there
    then, and with no log beside it the database is whole: it is read as it lies.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        return _try_reading(uri, busy_seconds)
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        if (
            _code(error) != sqlite3.SQLITE_CANTOPEN
            or os.access(path.parent, os.W_OK)
            or log.exists()
        ):
            raise
        return _try_reading(f"{uri}&immutable=1", busy_seconds)


def _try_reading(uri: str, busy_seconds: float) -> Connection:
    connection = _connect(uri, busy_seconds)
    try:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(name: str, busy_seconds: float) -> Connection:
    return sqlite3.connect(
        name,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS_KEPT,
        uri=name.startswith("file:"),
    )


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def explain(error: sqlite3.Error, where: str = "") -> RondelError:
    """Return the error as what happens next: time heals it, or a person must act."""
    code = _code(error)
    text = f"the store says: {error}"
    if code in _FULL:
        return TransientError(text, reason="StoreFull", where=where, remedy="free disk space")
    if code in _READ_ONLY:
        return TransientError(
            text, reason="StoreReadOnly", where=where, remedy="make the state directory writable"
        )
    if code in _DAMAGED:
        return StalledError(
            text, reason="StoreDamaged", where=where, remedy="restore it from a backup"
        )
    return TransientError(text, reason="StoreUnavailable", where=where)
