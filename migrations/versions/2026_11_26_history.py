"""What answers questions about the past: views, functions, and who may append what.

The files under sql/ that a released migration ran never change again: a later migration brings its own.
There is no way down: what the log holds is not thrown away.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "2026_11_26"
down_revision = "2026_11_23"

_SQL = Path(__file__).parent.parent / "sql"
_GUARDS = (
    "owns_log",
    "holds_role",
    "author_names",
    "commits_to_approve",
    "refuse_broken_chain",
    "refuse_unauthorised",
    "refuse_self_approval",
    "advance_streams",
)
"""Functions that judge appends."""
_OWNERS = ("advance_streams", "redact_blob", "keep_entries")
"""Triggers that run with the rights of the owner. Nobody else may hang them on a table."""
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
    "tables/2026_11_26/holds",
    "tables/2026_11_26/node_states",
    "tables/2026_11_26/fleets",
    "tables/2026_11_26/nodes",
    "tables/append_lock",
    "tables/restores",
    "tables/clusters",
    "tables/cluster_objects",
    "tables/machine_pools",
    "tables/machines",
    "tables/2026_11_26/blobs",
    "tables/2026_11_26/streams",
    "functions/redact_blob",
    "functions/refuse_blob_change",
    "triggers/2026_11_26/blobs_append_only",
    "triggers/blobs_redaction_only",
    "triggers/events_redact_blob",
    "tables/projections",
    "functions/refuse_other_fold",
    "triggers/events_fold",
    "tables/identities",
    "views/event_authority",
    *(f"functions/{name}" for name in _GUARDS),
    "triggers/events_chain",
    "triggers/events_authority",
    "triggers/events_approval",
    "triggers/events_streams",
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
    _pin()
    _keep_for_the_owner()
    _leave_streams_to_the_trigger()


def _pin() -> None:
    """Triggers find our tables and the server's types, whatever the caller's search_path says and whatever temporary
    tables and types it has: pg_temp comes last."""
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    for name in sorted({*_GUARDS, *_OWNERS, "refuse_blob_change", "refuse_other_fold"}):
        op.execute(f"ALTER FUNCTION {name} SET search_path = pg_catalog, {schema}, pg_temp")


def _keep_for_the_owner() -> None:
    for name in _OWNERS:
        op.execute(f"REVOKE EXECUTE ON FUNCTION {name} FROM PUBLIC")


def _leave_streams_to_the_trigger() -> None:
    """Nobody but `advance_streams` moves the heads any more."""
    roles = "SELECT rolname FROM pg_roles WHERE rolname ~ '^reconciler_(service|operator|approver)$'"
    for role in op.get_bind().scalars(sa.text(roles)):
        op.execute(f"REVOKE INSERT, UPDATE ON streams FROM {role}")
