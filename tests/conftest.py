"""Fixtures for tests that need a database: a real PostgreSQL, and an empty migrated database for each test; and a
real Kubernetes control plane.

DATABASE_URL names the server to use (its login must be allowed to create databases); without it, an embedded one
is started for the session and ends with it. KUBEBUILDER_ASSETS names the folder of Kubernetes' programs; without it,
those that `make kubernetes` built are used.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.errors import StoreError
from reconciler.store.database import engine_for, parsed
from reconciler.store.embedded import SUPERUSER, EmbeddedPostgres
from reconciler.store.upgrade import upgrade
from tests.cluster import ApiServer


@dataclass(frozen=True)
class Server:
    """A PostgreSQL for tests. `superuser_url` is empty where the server is not ours to administer."""

    url: str
    superuser_url: str = ""

    def url_of(self, database: str, *, superuser: bool = False) -> str:
        url = parsed(self.superuser_url if superuser else self.url).set(database=database)
        return url.render_as_string(hide_password=False)

    def administer(self, statement: str, *names: str) -> None:
        """Run a statement about whole databases, which no transaction may hold."""
        url = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def drop(self, database: str) -> None:
        """As a superuser where there is one: a session of another login, or of the server's own, may still be there."""
        Server(self.superuser_url or self.url).administer("DROP DATABASE {} WITH (FORCE)", database)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if given := os.environ.get("DATABASE_URL"):
        yield Server(given)
        return
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), for_tests=True)
    try:
        embedded.start()
    except StoreError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    with embedded:
        yield Server(embedded.url, embedded.url_for(SUPERUSER))


@pytest.fixture(scope="session")
def template_database(postgres: Server) -> Iterator[str]:
    """The name of a migrated, empty database."""
    name = f"reconciler_template_{uuid.uuid4().hex[:12]}"
    postgres.administer("CREATE DATABASE {}", name)
    upgrade(postgres.url_of(name))
    yield name
    postgres.drop(name)


@pytest.fixture
def database(postgres: Server, template_database: str) -> Iterator[str]:
    """The name of a database of this test's own."""
    name = f"reconciler_test_{uuid.uuid4().hex[:12]}"
    postgres.administer("CREATE DATABASE {} TEMPLATE {}", name, template_database)
    yield name
    postgres.drop(name)


@pytest.fixture
def database_url(postgres: Server, database: str) -> str:
    """A migrated, empty database of this test's own."""
    return postgres.url_of(database)


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[str]:
    """The URL of a database without any schema."""
    name = f"reconciler_empty_{uuid.uuid4().hex[:12]}"
    postgres.administer("CREATE DATABASE {}", name)
    yield postgres.url_of(name)
    postgres.drop(name)


@pytest.fixture(scope="module")
def shared_database_url(postgres: Server, template_database: str) -> Iterator[str]:
    """A migrated, empty database that the tests of a module share."""
    name = f"reconciler_test_{uuid.uuid4().hex[:12]}"
    postgres.administer("CREATE DATABASE {} TEMPLATE {}", name, template_database)
    yield postgres.url_of(name)
    postgres.drop(name)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = engine_for(database_url)
    yield engine
    await engine.dispose()


ROLES = {"olga": ["operator"], "carol": ["approver"], "paula": ["operator", "approver"], "robot": ["service"]}
"""Login of `logins` → what it is granted."""


@pytest.fixture(scope="session")
def logins(postgres: Server, template_database: str) -> Iterator[None]:
    """Logins of people and of a service, as an administrator makes them."""
    del template_database  # its migrations make the roles
    if not postgres.superuser_url:
        pytest.skip("needs a superuser: DATABASE_URL names a server that is not ours")
    url = make_url(postgres.superuser_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        for login, roles in ROLES.items():
            granted = sql.SQL(", ").join(sql.Identifier(f"reconciler_{role}") for role in roles)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(sql.Identifier(login), granted))
        _let_in(connection)
        yield
        for login in ROLES:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))


def _let_in(connection: psycopg.Connection) -> None:
    """They come in as this process does: by who it is for the operating system."""
    [name] = connection.execute("SHOW ident_file").fetchone() or [""]
    file = Path(name)
    users = file.read_text()
    same = users.splitlines()[-1].rpartition(" ")[0]
    file.write_text(users + "".join(f"{same} {login}\n" for login in ROLES))
    connection.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A Kubernetes control plane that the tests of a module share: no nodes, no controllers, plain Kubernetes."""
    with ApiServer(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def openshift(cluster: ApiServer) -> ApiServer:
    """The module's cluster, with OpenShift's resources."""
    cluster.load_openshift()
    return cluster
