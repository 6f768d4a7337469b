"""The schema as text: the SQL of a read table."""

from __future__ import annotations

from reconciler.projections.tables import Table


def read_table_sql(table: Table) -> str:
    """The text of migrations/sql/tables/NAME.sql (written by migrations/read_tables.py)."""
    key = ", ".join(table.key)
    body = "".join(f"    {name} {kind},\n" for name, kind in table.columns.items())
    keys = "".join(f"    {name} text NOT NULL,\n" for name in table.key)
    name, comment = table.name, table.comment.replace("'", "''")
    return f"""\
CREATE TABLE {name} (
{keys}{body}    valid_from bigint NOT NULL,
    valid_to bigint CHECK (valid_to > valid_from),
    PRIMARY KEY ({key}, valid_from)
);
CREATE UNIQUE INDEX {name}_current ON {name} ({key}) WHERE valid_to IS NULL;
CREATE INDEX {name}_as_of ON {name} USING gist (int8range(valid_from, valid_to));
COMMENT ON TABLE {name} IS '{comment}';
COMMENT ON COLUMN {name}.valid_from IS 'Position of the log from which the row holds (the last of its append group).';
COMMENT ON COLUMN {name}.valid_to IS 'Position from which it no longer holds; NULL: it holds now.';
COMMENT ON INDEX {name}_current IS 'One row per key holds now.';
COMMENT ON INDEX {name}_as_of IS 'Finds the rows as of a position.';
"""
