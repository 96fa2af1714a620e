"""The first schema: the journal's events, and the results of runs.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


# A frozen copy of ci/results.py's SCHEMA as it was for this revision.
RESULTS = (
    """CREATE TABLE IF NOT EXISTS results (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL,
    check_name TEXT NOT NULL,
    outcome TEXT NOT NULL,
    started_at REAL NOT NULL,
    finished_at REAL NOT NULL,
    exit_code INTEGER,
    isolation TEXT NOT NULL,
    reason TEXT NOT NULL,
    failed TEXT NOT NULL,
    log TEXT NOT NULL
)""",
    "CREATE INDEX IF NOT EXISTS results_by_key ON results (key, seq)",
    "CREATE INDEX IF NOT EXISTS results_by_check ON results (check_name, seq)",
    "CREATE INDEX IF NOT EXISTS results_by_age ON results (finished_at)",
    """CREATE TABLE IF NOT EXISTS test_results (
    run TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    outcome TEXT NOT NULL,
    duration_s REAL NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (run, position)
)""",
    "CREATE INDEX IF NOT EXISTS test_results_by_name ON test_results (name)",
)


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("change", sa.Integer, nullable=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_change", "events", ["change"])
    for statement in RESULTS:
        op.execute(statement)
