"""Writes sql/tables/ for the read tables of reconciler/projections/tables.py.

For developers, while a migration that creates them is being written: `python migrations/read_tables.py`.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.projections.tables import TABLES
from reconciler.store.schema import read_table_sql

if __name__ == "__main__":
    for table in TABLES:
        Path(__file__).with_name("sql").joinpath("tables", f"{table.name}.sql").write_text(read_table_sql(table))
