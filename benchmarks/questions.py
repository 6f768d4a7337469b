"""The questions of docs/how-to/ask-with-sql.md, asked of what benchmarks/history.py made."""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "ask-with-sql.md"
QUESTIONS: dict[str, str] = dict(
    re.findall(r"^## (.+?)\n(?:.(?!^## ))*?^```sql\n(.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)
"""Heading → query."""

LATE = 0.98
"""As much of the log lies before "a week ago", and before "30 days ago" a tenth less."""


AT = """
SELECT recorded_at FROM public.events
WHERE position = (SELECT greatest(1, (max(position) * :share)::bigint) FROM public.events)
"""
ENTRY = """
SELECT entry FROM public.content_entries WHERE list = 'allowed' GROUP BY entry ORDER BY count(*), entry LIMIT 1
"""


async def bound(connection: AsyncConnection, question: str) -> str:
    """The query with names and times of the history in place of the page's."""
    query = QUESTIONS[question]
    names = {
        "worker-1": "node-01-010",
        "'worker'": "'pool-01'",
        "reg.example.com": await connection.scalar(sa.text(ENTRY)),
        "now() - interval '7 days'": await _moment(connection, LATE),
        "now() - interval '30 days'": await _moment(connection, LATE - 0.1),
        "'2026-11-21 03:00+00'": await _moment(connection, 0.5),
    }
    for written, name in names.items():
        query = query.replace(written, name)
    return query.strip().rstrip(";")


async def _moment(connection: AsyncConnection, share: float) -> str:
    found = await connection.scalar(sa.text(AT), {"share": share})
    return f"timestamptz '{found.isoformat()}'"
