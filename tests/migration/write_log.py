"""Writes a database as this version leaves it, for the versions to come: `python -m tests.migration.write_log FILE`.

tests/migration/data/README.md says when, and which files it wrote. What the fleet lives through stands here, so that a
later version's test can give it the same repository and let it go on.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg import sql
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler import commands, control
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.store.database import engine_for
from reconciler.store.embedded import EmbeddedPostgres
from reconciler.store.tables import READ_TABLES
from reconciler.store.upgrade import upgrade
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.wiring import SystemClock
from tests.world import ScriptedSource, World, image, make_real_world, mirrors, site

TABLES = ("events", "blobs", "streams", "log", "last_seen", *READ_TABLES)

A, B, C, D = (image(blockedRegistries=[f"{name}.corp"]) for name in "abcd")
COMMITS: tuple[dict[str, str | None], ...] = (
    {**site("eu"), **site("us", 1), "mirrors.yaml": mirrors("m", "quay.io/a", "mirror.corp/a"), "image.yaml": A},
    {"image.yaml": B, "sites/eu/search.yaml": mirrors("eu", "quay.io/eu", "mirror.corp/eu")},
    {"image.yaml": "kind: [Image"},
    {"image.yaml": C},
    {"image.yaml": D, "sites/eu/search.yaml": None},
)


async def live(directory: Path, engine: AsyncEngine) -> None:
    """Rollouts, a file changed by hand, a node away, a rejected commit, content that fails on a node, rollbacks of
    fleet and node, a hold that keeps a commit back and one that is lifted, a paused pool."""
    transport, source = MemoryTransport(SystemClock()), ScriptedSource()
    world = await make_real_world(directory, transport, engine)
    world.context = replace(world.context, source=source)
    await _commit(world, source, 0)
    good = await world.head()
    transport.node("eu-1").files[REGISTRIES_CONF] = Entry(b"# by hand\n")
    await _rest(world)
    transport.node("eu-2").faults.unreachable = True
    await _commit(world, source, 1)
    transport.node("eu-2").faults.unreachable = False
    await _commit(world, source, 2)
    transport.node("eu-1").faults.reload = "unable"
    await _commit(world, source, 3)
    transport.node("eu-1").faults.reload = ""
    done = await commands.rollback(world.context, to=f"#{good}", reason="this one first", node="us-1")
    await _rest(world)
    await commands.lift_hold(world.context, str(done["hold"]), reason="it was for the whole fleet")
    await commands.rollback(world.context, to=f"#{good}", reason="it does not load")
    await _rest(world)
    await _commit(world, source, 4)
    await control.pause(world.context, "us", reason="nobody is there")
    await _rest(world)


async def _commit(world: World, source: ScriptedSource, *numbers: int) -> None:
    for number in numbers:
        source.commit(COMMITS[number])
        await _rest(world)


async def _rest(world: World) -> None:
    for _ in range(6):
        before = await world.head()
        await world.run()
        if await world.head() == before:
            return


def rows(url: str) -> Iterator[str]:
    """Every row as one line of JSON: its table, then its columns; what is null is left out."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name in TABLES:
            query = sql.SQL("SELECT row_to_json(t) FROM {} t ORDER BY t").format(sql.Identifier(name))
            for [row] in connection.execute(query):
                columns = {column: value for column, value in row.items() if value is not None}
                yield json.dumps({"table": name, "row": columns}, ensure_ascii=False, separators=(",", ":"))


def main() -> None:
    with TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder), for_tests=True) as server:
        upgrade(server.start())
        asyncio.run(_write(Path(folder), server.url))
        Path(sys.argv[1]).write_text("".join(f"{line}\n" for line in rows(server.url)))


async def _write(directory: Path, url: str) -> None:
    engine = engine_for(url)
    await live(directory / "world", engine)
    await engine.dispose()


if __name__ == "__main__":
    main()
