"""What a workflow's own history keeps; reruns are found by what they repeat."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "run_by_rerun", "run", ["rerun_of"], sqlite_where=sa.text("rerun_of IS NOT NULL")
    )
    op.create_table(
        "history_limit",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("workflow", sa.Text(), nullable=False),
        sa.Column("successful", sa.Integer(), nullable=True),
        sa.Column("failed", sa.Integer(), nullable=True),
        sa.Column("keep_last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source", "workflow"),
    )
