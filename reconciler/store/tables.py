"""The tables as SQLAlchemy sees them. migrations/sql/ defines them; a test holds both, and tables.py, together."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, JSONB
from sqlalchemy.types import TypeEngine

from reconciler.events.chain import Content, Record
from reconciler.projections.tables import TABLES, ColumnType, Table

METADATA = sa.MetaData()

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("position", sa.BigInteger, primary_key=True),
    sa.Column("version", sa.BigInteger),
    sa.Column("append_group", sa.BigInteger),
    sa.Column("recorded_at", sa.DateTime(timezone=True)),
    sa.Column("previous_hash", BYTEA),
    sa.Column("hash", BYTEA),
    sa.Column("event_id", sa.Uuid),
    sa.Column("fleet", sa.Text),
    sa.Column("stream", sa.Text),
    sa.Column("type", sa.Text),
    sa.Column("schema_version", sa.Integer),
    sa.Column("data", sa.Text),
    sa.Column("actor", sa.Text),
    sa.Column("tool_version", sa.Text),
    sa.Column("correlation_id", sa.Uuid),
    sa.Column("causation_id", sa.Uuid),
    sa.Column("node", sa.Text),
    sa.Column("pool", sa.Text),
    sa.Column("resource", sa.Text),
    sa.Column("commit_sha", sa.Text),
)
EVENT_COLUMNS = (*Record._fields[:-1], *Content._fields)
"""The columns in the order of a flattened Record."""

STREAMS = sa.Table(
    "streams",
    METADATA,
    sa.Column("stream", sa.Text, primary_key=True),
    sa.Column("fleet", sa.Text),
    sa.Column("version", sa.BigInteger),
    sa.Column("last_position", sa.BigInteger),
)
APPEND_LOCK = sa.Table("append_lock", METADATA)
LOG = sa.Table(
    "log",
    METADATA,
    sa.Column("log_id", sa.Uuid, primary_key=True),
    sa.Column("created", sa.DateTime(timezone=True)),
)
BLOBS = sa.Table(
    "blobs",
    METADATA,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("content", BYTEA),
    sa.Column("redacted_at", sa.BigInteger),
)
PROJECTIONS = sa.Table(
    "projections",
    METADATA,
    sa.Column("fold_version", sa.Integer),
    sa.Column("rebuilds", sa.BigInteger),
    sa.Column("rebuilt_at", sa.DateTime(timezone=True)),
)
CONTENT_ENTRIES = sa.Table(
    "content_entries",
    METADATA,
    sa.Column("content", sa.Text),
    sa.Column("list", sa.Text),
    sa.Column("entry", sa.Text),
    sa.Column("detail", JSONB),
    sa.Column("field", sa.Text),
)
"""What documents list; written by a trigger on blobs."""
LEASES = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text),
    sa.Column("expires_at", sa.DateTime(timezone=True)),
)
LAST_SEEN = sa.Table(
    "last_seen",
    METADATA,
    sa.Column("fleet", sa.Text, primary_key=True),
    sa.Column("node", sa.Text, primary_key=True),
    sa.Column("seen_at", sa.DateTime(timezone=True)),
    sa.Column("runtime", sa.Text),
)
IDENTITIES = sa.Table(
    "identities",
    METADATA,
    sa.Column("login", sa.Text, primary_key=True),
    sa.Column("identity", sa.Text, primary_key=True),
)

_TYPES: dict[ColumnType, TypeEngine[Any]] = {
    "text": sa.Text(),
    "bigint": sa.BigInteger(),
    "boolean": sa.Boolean(),
    "jsonb": JSONB(none_as_null=True),
    "timestamptz": sa.DateTime(timezone=True),
}


def _read_table(table: Table) -> sa.Table:
    return sa.Table(
        table.name,
        METADATA,
        *(sa.Column(name, sa.Text, primary_key=True) for name in table.key),
        *(sa.Column(name, _TYPES[kind]) for name, kind in table.columns.items()),
        sa.Column("valid_from", sa.BigInteger, primary_key=True),
        sa.Column("valid_to", sa.BigInteger),
    )


READ_TABLES = {table.name: _read_table(table) for table in TABLES}
