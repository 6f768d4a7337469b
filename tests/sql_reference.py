"""docs/reference/sql.md from the comments of the schema reconciler_v1.

For developers, after a change of sql/reconciler_v1: `python -m tests.sql_reference > docs/reference/sql.md`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import sqlalchemy as sa

from reconciler.store.database import blocking_engine_for
from reconciler.store.embedded import EmbeddedPostgres
from reconciler.store.upgrade import upgrade

HEAD = """\
# SQL

Written by `python -m tests.sql_reference` from the comments in the database, which `\\d+` and `\\df+` in psql show;
a test holds the two together. [Ask the history with SQL](../how-to/ask-with-sql.md) has worked questions.

The schema `reconciler_v1` is an interface: within version 1, names and meanings stay, and columns are only added at the
end. What cannot stay comes as `reconciler_v2` beside it, and version 1 then lasts for one more release. The tables in
`public`, and the views `history`, `node_state` and `holds_now` there, are of no version and may change at any upgrade.

`reconciler_reader`, and every other role of reconciler, may read all of it. Nothing in it can be written.

## Views
"""

VIEWS = """
SELECT relname, obj_description(pg_class.oid, 'pg_class'), attname, format_type(atttypid, atttypmod),
    col_description(pg_class.oid, attnum)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
WHERE relnamespace = 'reconciler_v1'::regnamespace AND relkind = 'v'
ORDER BY relname, attnum
"""
FUNCTIONS = """
SELECT proname, pg_get_function_arguments(oid), pg_get_function_result(oid), obj_description(oid, 'pg_proc')
FROM pg_proc WHERE pronamespace = 'reconciler_v1'::regnamespace
ORDER BY proname
"""


def reference(connection: sa.Connection) -> str:
    """The whole page."""
    return "\n".join([HEAD, *_views(connection), "## Functions", "", *_functions(connection)])


def _views(connection: sa.Connection) -> Iterator[str]:
    rows = connection.execute(sa.text(VIEWS)).all()
    for (name, comment), columns in groupby(rows, key=lambda row: (row[0], row[1])):
        yield from (f"### {name}", "", comment, "", "| Column | Type | Meaning |", "| --- | --- | --- |")
        for _, _, column, kind, meaning in columns:
            yield f"| `{column}` | {kind} | {meaning} |"
        yield ""


def _functions(connection: sa.Connection) -> Iterator[str]:
    for name, arguments, result, comment in connection.execute(sa.text(FUNCTIONS)):
        yield from (f"### {name}", "", "```", f"{name}({arguments})", f"  → {result}", "```", "", comment, "")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder), for_tests=True) as server:
        upgrade(server.url)
        engine = blocking_engine_for(server.url)
        with engine.connect() as connection:
            print(reference(connection), end="")
        engine.dispose()


if __name__ == "__main__":
    main()
