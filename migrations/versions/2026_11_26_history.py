"""What answers questions about the past: views, functions, and who may append what.

The files under sql/ that a released migration ran never change again: a later migration brings its own.
There is no way down: what the log holds is not thrown away.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "2026_11_26"
down_revision = "2026_11_23"

_SQL = Path(__file__).parent.parent / "sql"
_FILES: tuple[str, ...] = (
    "tables/restores",
    "tables/2026_11_26/blobs",
    "functions/redact_blob",
    "functions/refuse_blob_change",
    "triggers/2026_11_26/blobs_append_only",
    "triggers/blobs_redaction_only",
    "triggers/events_redact_blob",
    "tables/projections",
    "functions/refuse_other_fold",
    "triggers/events_fold",
)


def upgrade() -> None:
    """Create or replace every object, one file each."""
    for name in _FILES:
        op.execute(_SQL.joinpath(f"{name}.sql").read_text())
