"""Suspensions with who and why, failures in a row, expected successes, keys of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("workflow", "suspend_override")  # nothing has ever set it
    op.add_column("workflow", sa.Column("suspension", sa.Text(), nullable=True))
    failures = sa.Column("failures", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("workflow", failures)
    op.add_column("workflow", sa.Column("watched_since", sa.Text(), nullable=True))
    op.add_column("source", sa.Column("suspension", sa.Text(), nullable=True))
    op.add_column("schedule", sa.Column("last_key", sa.Text(), nullable=True))
