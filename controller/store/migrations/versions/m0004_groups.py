"""Runs that hold a place in a concurrency group."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("concurrency_group", sa.Text(), nullable=True))
    holds_a_place = "concurrency_group IS NOT NULL AND phase IN ('Pending', 'Running')"
    op.create_index(
        "run_by_group", "run", ["concurrency_group"], sqlite_where=sa.text(holds_a_place)
    )
