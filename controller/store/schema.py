"""Makes the database, or brings an older one up to date. Alembic is imported for the latter."""

import sqlite3
from pathlib import Path

from sqlalchemy.schema import CreateIndex, CreateTable

from controller.errors import StalledError
from controller.store.connection import Connection, explain, open_for_writing
from controller.store.statements import SQLITE
from controller.store.tables import metadata

HEAD = "0009"
"""The newest migration's name. They are numbered, so older and newer can be told apart."""

_STAMP = "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"
MIGRATIONS = Path(__file__).parent / "migrations"


def prepare(path: Path) -> None:
    """Make the tables at `path`, or migrate what is there; call it under the store's lock.

    Raises:
        StalledError: StoreTooNew, or StoreDamaged.
        TransientError: the database can't be opened or written now.
    """
    try:
        connection = open_for_writing(path)
    except sqlite3.Error as error:
        raise explain(error, str(path)) from error
    try:
        _prepare(connection, path)
    except sqlite3.Error as error:
        raise explain(error, str(path)) from error
    finally:
        connection.close()


def _prepare(connection: Connection, path: Path) -> None:
    found = version(connection)
    if found is None:
        create(connection)
    elif found != HEAD:
        check_not_newer(found, path)
        _migrate(connection)


def check_not_newer(found: str, path: Path) -> None:
    """Raise StalledError when `found` is a version that this program doesn't know."""
    if found > HEAD:
        raise StalledError(
            f"the store was written by a newer Rondel (schema {found}, this one knows {HEAD})",
            reason="StoreTooNew",
            where=str(path),
            remedy="upgrade Rondel, or name another directory with --state-dir",
        )


def version(connection: Connection) -> str | None:
    """Return the schema's version, None for an empty database."""
    stamp = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
    if not connection.execute(stamp).fetchone()[0]:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row and str(row[0])


def create(connection: Connection) -> None:
    """Make every table in one transaction and stamp it with the newest version."""
    connection.execute("BEGIN IMMEDIATE")
    for table in metadata.sorted_tables:
        connection.execute(str(CreateTable(table).compile(dialect=SQLITE)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(str(CreateIndex(index).compile(dialect=SQLITE)))
    connection.execute(_STAMP)
    connection.execute("INSERT INTO alembic_version VALUES (?)", (HEAD,))
    connection.execute("COMMIT")


def _migrate(connection: Connection) -> None:
    from controller.store.migrations.run import upgrade  # noqa: PLC0415 - alembic costs 0.1 s

    upgrade(connection)
