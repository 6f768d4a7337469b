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
_V1_FUNCTIONS = (
    "group_end",
    "position_at",
    "desired_at",
    "entries_at",
    "effective_nodes",
    "fleet_at",
    "node_files_at",
)
_V1_VIEWS = (
    "history",
    "resource_history",
    "entry_history",
    "node_state",
    "node_file_history",
    "rollout_log",
    "drift_log",
    "holds",
)
_FILES: tuple[str, ...] = (
    "schemas/reconciler_v1",
    "tables/content_entries",
    "functions/blob_document",
    "functions/resource_entries",
    "functions/keep_entries",
    "functions/base_digest",
    "triggers/blobs_entries",
    "indexes/resources_content",
    *(f"reconciler_v1/{name}" for name in _V1_FUNCTIONS),
    "functions/effect",
    "functions/path_rank",
    "views/held_resources",
    "views/resource_positions",
    "functions/shadowed_positions",
    "views/entry_positions",
    *(f"reconciler_v1/{name}" for name in _V1_VIEWS),
)


def upgrade() -> None:
    """Create or replace every object, one file each."""
    for name in _FILES:
        op.execute(_SQL.joinpath(f"{name}.sql").read_text())
