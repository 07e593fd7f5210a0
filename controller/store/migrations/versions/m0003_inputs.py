"""Inputs of folders, kept so that a run can be run again as it was; runs that are steps."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run", sa.Column("parent", sa.Text(), nullable=True))
    op.create_index("run_by_parent", "run", ["parent"], sqlite_where=sa.text("parent IS NOT NULL"))
    op.create_table(
        "kept_input",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("blob", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
