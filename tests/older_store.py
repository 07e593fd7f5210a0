"""A store as the schema before the newest had it, for whoever tests upgrades."""

import sqlite3
from contextlib import closing
from pathlib import Path

from controller.store.migrations.run import upgrade
from controller.store.schema import HEAD

BEFORE = f"{int(HEAD) - 1:04}"
NAMES = "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"


def set_back(database: Path) -> None:
    """Take away what the newest migration has brought; rows of older tables stay."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as older:
        upgrade(older, BEFORE)
        kept = {*older.execute(NAMES)}
        columns = {name: columns_of(older, name) for kind, name in kept if kind == "table"}
    with closing(sqlite3.connect(database, isolation_level=None)) as store:
        store.execute("BEGIN IMMEDIATE")
        found = {*store.execute(NAMES)}
        for kind, name in sorted(found - kept):  # indexes before their tables
            store.execute(f'DROP {kind} IF EXISTS "{name}"')
        for table, wanted in columns.items():
            for column in columns_of(store, table) - wanted:
                store.execute(f'ALTER TABLE {table} DROP COLUMN "{column}"')
        store.execute("UPDATE alembic_version SET version_num = ?", (BEFORE,))
        store.execute("COMMIT")


def columns_of(store: sqlite3.Connection, table: str) -> set[str]:
    return {name for _, name, *_ in store.execute(f"PRAGMA table_info({table})")}
