"""The database is made, stamped, migrated, and refused when it is too new."""

import os
import stat
import subprocess
import sys

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from controller.errors import StalledError, UsageError
from controller.store import Store, schema
from controller.store.connection import open_for_writing
from controller.store.migrations.run import upgrade
from controller.store.tables import metadata
from tests.store_lives import FixedClock


@pytest.fixture
def connection(tmp_path):
    connection = open_for_writing(tmp_path / "x.db")
    yield connection
    connection.close()


def shape(connection):
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    return {
        name: " ".join(sql.split())
        for name, sql in connection.execute(query)
        if name != "alembic_version"
    }


def test_the_migrations_lead_to_the_tables_as_they_are_written(connection):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    upgrade(connection)
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    with engine.connect() as sql:
        context = MigrationContext.configure(sql, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_a_new_database_has_the_shape_of_a_migrated_one(connection, tmp_path):
    upgrade(connection)
    made = open_for_writing(tmp_path / "made.db")
    schema.create(made)
    assert shape(made) == shape(connection)
    assert schema.version(made) == schema.version(connection) == schema.HEAD
    made.close()


def test_the_newest_migration_is_the_head():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


async def test_a_newer_store_is_refused_and_left_alone(tmp_path):
    store = await Store.open(tmp_path, clock=FixedClock())
    await store.write(
        lambda tx: tx._connection.execute("UPDATE alembic_version SET version_num = '9999'")
    )
    await store.close()
    before = (tmp_path / "rondel.db").read_bytes()
    with pytest.raises(StalledError, match="newer Rondel") as caught:
        await Store.open(tmp_path, clock=FixedClock())
    assert caught.value.reason == "StoreTooNew"
    assert (tmp_path / "rondel.db").read_bytes() == before


async def test_postgresql_is_refused_in_clear_words(tmp_path):
    with pytest.raises(UsageError, match=r"store\.url"):
        await Store.open(tmp_path, clock=FixedClock(), url="postgresql+psycopg://db/rondel")


async def test_what_is_made_is_for_its_owner_only(tmp_path):
    old = os.umask(0)
    try:
        store = await Store.open(tmp_path / "a" / "state", clock=FixedClock())
        await store.blobs.put(b"x")
        await store.close()
    finally:
        os.umask(old)
    folders = [
        tmp_path / "a" / "state",
        *(p for p in (tmp_path / "a" / "state").rglob("*") if p.is_dir()),
    ]
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_opening_a_store_imports_no_alembic(tmp_path):
    program = """
import asyncio, sys
from pathlib import Path
from controller.clock import SystemClock
from controller.store import Store
async def main():
    for _ in range(2):
        store = await Store.open(Path(sys.argv[1]), clock=SystemClock())
        await store.close()
asyncio.run(main())
print([name for name in ("alembic", "psycopg", "mako") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_rows_of_an_older_store_are_kept_by_its_migration(connection):
    upgrade(connection, "0001")
    connection.execute(
        "INSERT INTO step_run VALUES"
        " ('r', 's', 0, 'steps', 0, NULL, 'Succeeded', '', 0, 1, 0, '{}', '{}', '', NULL, NULL)"
    )
    upgrade(connection)
    [row] = connection.execute("SELECT run, name, cache FROM step_run")
    assert row == ("r", "s", "{}")
