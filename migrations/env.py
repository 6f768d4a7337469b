"""How Alembic runs a migration: alone, with timeouts, each in a transaction of its own.

Called through `reconciler.store.upgrade`, which hands the connection over.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from reconciler.store.upgrade import MIGRATION_LOCK


def run(connection: Connection) -> None:
    """Wait for our turn (at most a minute); then no statement may block the service for long."""
    connection.execute(text("SET statement_timeout = '60s'"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.execute(text("SET statement_timeout = '10min'"))
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
    connection.commit()


run(context.config.attributes["connection"])
