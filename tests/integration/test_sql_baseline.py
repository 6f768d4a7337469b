"""In SQL, too, nothing is in force where a hold gave the files from before the first write back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.questions import QUESTIONS
from reconciler import commands
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.desired import Desired, Version
from reconciler.projections.tables import HOLDS
from reconciler.store.database import transaction
from reconciler.transport.memory import MemoryTransport
from reconciler.wiring import SystemClock
from tests.world import FLEET, IMAGE, POOL, World, image, make_real_world, memory_nodes

BLOCKED = "untrusted.example.com"


async def ask(engine: AsyncEngine, query: str, **given: Any) -> Sequence[Mapping[str, Any]]:
    async with transaction(engine) as connection:
        return [dict(row) for row in (await connection.execute(sa.text(query), given)).mappings()]


async def wanted(engine: AsyncEngine, position: int, node: str = "") -> set[tuple[str, str, str]]:
    """What desired_at says of the pool, or of a node: what is its own, over what is the pool's."""
    rows = await ask(engine, "SELECT * FROM reconciler_v1.desired_at(:at) ORDER BY node", at=position)
    laid = {row["resource"]: row for row in rows if row["pool"] == "worker" and row["node"] in ("", node)}
    assert not any(row["shadowed"] for row in rows)
    return {(name, row["content"], row["hold"] or "") for name, row in laid.items() if row["content"]}


def said(versions: Mapping[str, Version]) -> set[tuple[str, str, str]]:
    return {(version.resource, version.content, version.hold) for version in versions.values()}


async def ended(world: World) -> list[Snapshot]:
    """The state after each append group."""
    groups = {event.group: event.position for event in await world.log.read(EventFilter())}
    return [await world.reads.snapshot(FLEET, position) for position in groups.values()]


async def lift_all(world: World) -> None:
    for row in (await world.context.snapshot()).table(HOLDS).values():
        await commands.lift_hold(world.context, row["hold"], reason="over")
    await world.sync()


async def test_a_hold_at_the_baseline_has_nothing_in_force(tmp_path: Path, engine: AsyncEngine) -> None:
    """The fleet at it, a node with a hold of its own above that, then a node alone, over an older hold of its own."""
    world = await make_real_world(tmp_path, MemoryTransport(SystemClock()), engine)
    observing = POOL.replace("mode: enforce", "mode: observe")
    world.repository.commit({"pool.yaml": observing, "image.yaml": IMAGE, **memory_nodes(["w1", "w2"])})
    await world.sync()
    unwritten = f"#{await world.head()}"
    world.repository.commit({"pool.yaml": POOL})
    await world.sync()
    first = f"#{await world.head()}"
    world.repository.commit({"image.yaml": IMAGE.replace(BLOCKED, "other.example.com")})
    await world.sync()
    await commands.rollback(world.context, to=unwritten, reason="all of it")
    await world.sync()
    await commands.rollback(world.context, to=first, node="w1", reason="but this one")
    await world.sync()
    await lift_all(world)
    await commands.rollback(world.context, to=first, node="w2", reason="as before")
    await world.sync()
    await commands.rollback(world.context, to=unwritten, node="w2", reason="as in the beginning")
    await world.sync()

    kept = await ask(engine, "SELECT resources FROM reconciler_v1.holds ORDER BY from_position")
    assert [row["resources"] for row in kept] == [[], ["Image/cluster"], ["Image/cluster"], []]

    seen = set()
    for snapshot in await ended(world):
        desired = Desired(FLEET, snapshot.rows)
        for node in ("", "w1", "w2") if "worker" in desired.pools else ():
            now = await wanted(engine, snapshot.position, node)
            assert now == said(desired.in_force("worker", node)), (snapshot.position, node)
            seen.add((node, desired.at_baseline("worker", node), bool(now)))
        listed = "SELECT resource, list, entry FROM reconciler_v1.entries_at(:at) WHERE node = ''"
        told = """SELECT resource, list, entry FROM reconciler_v1.entry_history
            WHERE from_position <= :at AND (until_position IS NULL OR until_position > :at)"""
        at_once = [await ask(engine, query, at=snapshot.position) for query in (listed, told)]
        one, other = ({tuple(row.values()) for row in rows} for rows in at_once)
        assert one == other
        assert bool(one) == bool(desired.pools and desired.in_force("worker"))
    assert {("", True, False), ("w1", False, True), ("w2", True, False), ("w1", True, False)} <= seen


async def test_what_a_hold_held_back_leaves_out_the_commits_that_ended_it(tmp_path: Path, engine: AsyncEngine) -> None:
    world = await make_real_world(tmp_path, MemoryTransport(SystemClock()), engine)
    world.repository.commit(
        {"pool.yaml": POOL, "image.yaml": image(blockedRegistries=["old.corp"]), **memory_nodes(["w1"])}
    )
    await world.sync()
    first = f"#{await world.head()}"
    commits = {}
    for until_fixed, steps in ((True, ("bad", "still", "mended")), (False, ("bad again", "other", "agreed"))):
        says = (["bad.corp", "old.corp"], ["bad.corp", "new.corp"], ["new.corp"] if until_fixed else ["old.corp"])
        for name, blocked in zip(steps, says, strict=True):
            commits[world.repository.commit({"image.yaml": image(blockedRegistries=blocked)})] = name
            await world.sync()
            if name.startswith("bad"):
                await commands.rollback(world.context, to=first, reason=name, until_fixed=until_fixed)
                await world.sync()
    assert (await world.status()).holds == ()
    async with transaction(engine) as connection:
        await connection.exec_driver_sql("SET search_path = reconciler_v1, public")
        query = QUESTIONS["What did a hold hold back?"].replace(":", r"\:")
        rows = (await connection.execute(sa.text(query))).mappings().all()
    assert [commits[row["commit"]] for row in rows] == ["still", "other"]
