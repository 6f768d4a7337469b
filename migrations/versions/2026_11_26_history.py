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
_FILES: tuple[str, ...] = ("tables/2026_11_26/holds",)


def upgrade() -> None:
    """Create or replace every object, one file each."""
    for name in _FILES:
        op.execute(_SQL.joinpath(f"{name}.sql").read_text())
