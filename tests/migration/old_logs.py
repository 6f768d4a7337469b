"""Databases as earlier versions left them (tests/migration/data), loaded at the schema they had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from psycopg import sql
from psycopg.types.json import Jsonb

from reconciler.store.database import blocking_engine_for
from reconciler.store.upgrade import _config
from tests.integration.test_store_append_only import libpq

DATA = Path(__file__).parent / "data"
OLD_LOGS = sorted(DATA.glob("*.ndjson"))


def load(url: str, file: Path) -> None:
    """Bring an empty database to the revision that the file is named after, and put its rows in."""
    engine = blocking_engine_for(url)
    with engine.connect() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, file.stem)
    engine.dispose()
    rows = read(file)
    with psycopg.connect(libpq(url)) as connection:
        for name in rows:  # triggers have judged these rows where they were written
            connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)))
        for name, found in rows.items():
            table = sql.Identifier(name)
            statement = sql.SQL("INSERT INTO {} SELECT * FROM jsonb_populate_recordset(NULL::{}, %s)").format(
                table, table
            )
            connection.execute(statement, [Jsonb(found)])
        for name in rows:
            connection.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(sql.Identifier(name)))


def read(file: Path) -> Mapping[str, list[Mapping[str, Any]]]:
    """Table → its rows."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for line in file.read_text().splitlines():
        item = json.loads(line)
        rows.setdefault(item["table"], []).append(item["row"])
    return rows
