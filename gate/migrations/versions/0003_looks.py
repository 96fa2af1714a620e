"""What each plan was made from beyond the events, so that it can be made once more.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "looks",
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("step", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("seen", sa.Integer, nullable=False),
        sa.Column("workers", sa.Integer, nullable=False),
        sa.Column("may_sandbox", sa.Boolean, nullable=False),
        sa.Column("may_start", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
