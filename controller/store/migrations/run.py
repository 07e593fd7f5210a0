"""Runs the migrations on an open connection."""

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from controller.store.connection import Connection
from controller.store.schema import MIGRATIONS


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the database to `revision`, all in one transaction."""
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as sql:  # which looks the driver over, and would end a transaction
        connection.execute("BEGIN IMMEDIATE")
        config.attributes["connection"] = sql
        command.upgrade(config, revision)
        if connection.in_transaction:
            connection.execute("COMMIT")
