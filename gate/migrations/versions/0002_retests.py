"""Results of runs that were limited to single tests.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE results ADD COLUMN tests TEXT NOT NULL DEFAULT '[]'")
