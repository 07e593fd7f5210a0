"""Words to the outside: what alerts tell, what is wrong, what commits are told."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "word",
        sa.Column("id", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("alert", "occasion", "source", "workflow", "run", "text", "at")
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("word_by_alert", "word", ["alert", "at"])
    op.create_table(
        "trouble",
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("source", "workflow", "subject", "state", "since")
        ),
        sa.PrimaryKeyConstraint("source", "workflow", "subject"),
    )
    op.create_table(
        "commit_status",
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("source", "commit_id", "workflow", "state", "text", "run", "at")
        ),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("said_number", sa.BigInteger(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("source", "commit_id", "workflow"),
    )
    op.create_index(
        "commit_status_unsaid",
        "commit_status",
        ["source"],
        sqlite_where=sa.text("number > said_number"),
    )
    op.create_index("commit_status_by_time", "commit_status", ["at"])
