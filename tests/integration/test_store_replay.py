"""Replay equals live on PostgreSQL: one long random history, appended group by group, against its rebuild."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from random import Random

from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.ports import EventFilter
from reconciler.projections.fold import LogFold
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.rebuild import rebuilding
from tests.unit.test_history_properties import FILES, NODES, Life, live

STEPS = 60


def steps(random: Random) -> Iterator[Sequence[object]]:
    """Commits, hands on nodes, failing nodes, rollbacks, a killed controller, Git gone."""
    kinds: list[Callable[[], Sequence[object]]] = [
        lambda: ("commit", random.choice(["image.yaml", "sites/eu/image.yaml"]), random.choice(sorted(FILES))),
        lambda: ("commit", "image.yaml", random.choice(["a", "b", "c"])),
        lambda: ("touch", random.choice(NODES), random.choice([REGISTRIES_CONF, POLICY_JSON]), "# by hand\n"),
        lambda: ("fault", random.choice(NODES), random.choice(["unreachable", "reload", "lose", "heal"]), "placed"),
        lambda: ("fault", random.choice(NODES), "heal", ""),
        lambda: ("rollback", random.random(), random.choice(["fleet:", "pool:eu", "node:us-2"]), False),
        lambda: (random.choice(["kill", "lift", "wait", "git-gone", "git-back"]),),
    ]
    for _ in range(STEPS):
        yield random.choice(kinds)()


def again(event: StoredEvent) -> NewEvent:
    return NewEvent(
        event.event_id,
        event.fleet,
        event.stream,
        event.body,
        event.actor,
        event.correlation_id,
        event.causation_id,
    )


async def test_the_live_rows_of_a_long_history_are_those_of_a_replay(engine: AsyncEngine, tmp_path: Path) -> None:
    life = Life.begin(tmp_path)
    await life.rest()
    for step in steps(Random(1126)):
        await live(life, step)
        await life.rest()
    events = await life.world.log.read(EventFilter())
    assert len({event.type for event in events}) > 30

    log = await PostgresEventLog.open(engine, LogFold(), tool_version="test")
    for _, group in groupby(events, key=lambda event: event.group):
        await log.append([again(event) for event in group], {})
    async with rebuilding(engine, LogFold()) as rebuild:
        found = await rebuild.compare()
    assert (found.events, found.differing, found.differences) == (len(events), 0, ())
