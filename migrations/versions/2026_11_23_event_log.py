"""The event log, the blobs, the read tables, leases and last_seen.

The files under sql/ that a released migration ran never change again: a later migration brings its own.
There is no way down: what the log holds is not thrown away.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "2026_11_23"
down_revision = None

_SQL = Path(__file__).parent.parent / "sql"
_TABLES = ("events", "streams", "log", "blobs", "leases", "last_seen")
_READ_TABLES = ("fleets", "resources", "pools", "nodes", "node_states", "renders", "guards", "holds", "rollouts")
_FILES = (
    *(f"tables/{name}" for name in (*_TABLES, *_READ_TABLES)),
    "functions/refuse_change",
    *(f"triggers/{name}_append_only" for name in ("events", "blobs", "log")),
    *(f"views/{name}" for name in ("history", "node_state", "holds_now")),
)


def upgrade() -> None:
    """Create every object, one file each."""
    for name in _FILES:
        op.execute(_SQL.joinpath(f"{name}.sql").read_text())
