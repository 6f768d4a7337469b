"""Whatever happened to a fleet: who had an entry and when is what the read tables and the nodes' files said then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.history.blame import blame_file
from reconciler.history.entries import history_of_entry
from reconciler.history.files import side
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.desired import Desired, shadowed_out
from reconciler.projections.entry_history import entries_about
from reconciler.projections.tables import NODE_STATES
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.stages.context import Context, decode_file_set
from reconciler.stages.host_files import recorded_files
from reconciler.stages.past import past, past_at
from tests.unit.test_history_properties import NODES, Life, live, steps

ENTRIES = ("a.corp", "b.corp", "c.corp", "search.corp", "quay.io/a", "mirror.corp/a")
Items = Mapping[str, Sequence[Mapping[str, Any]]]


def covers(span: Mapping[str, Any], position: int) -> bool:
    """Whether an interval, or what a node had, was so at the end of the group at `position`."""
    return span["from"]["position"] <= position and (not span["until"] or position < span["until"]["position"])


async def entries_in_force(context: Context, snapshot: Snapshot, entry: str) -> set[tuple[str, str]]:
    """(pool or node, resource) by the read tables."""
    desired = Desired(context.name, snapshot.rows)
    found = set()
    for pool, spec in desired.pools.items():
        for node in ("", *desired.held_nodes(pool)):
            for version in shadowed_out(desired.in_force(pool, node), spec):
                body = json.loads((await context.load([version.content]))[version.content])
                if any(said.entry == entry for said in entries_about(version.resource, body, entry)):
                    found.add((node or pool, version.resource))
    return found


async def nodes_with(context: Context, snapshot: Snapshot, entry: str) -> set[str]:
    """The nodes whose last proved file set has the entry in some file."""
    found = set()
    for (_, node), state in snapshot.table(NODE_STATES).items():
        if state["files"]:
            entries = decode_file_set((await context.load([state["files"]]))[state["files"]]).entries
            contents = await context.load(file.sha256 for file in entries)
            if any(f'"{entry}"'.encode() in contents[file.sha256] for file in entries):
                found.add(node)
    return found


async def check(life: Life) -> None:
    context = life.world.context
    items: Items = {
        entry: [item for item in await history_of_entry(context, entry) if item["entry"] == entry] for entry in ENTRIES
    }
    events = await life.world.log.read(EventFilter())
    for event, after in zip(events, [*events[1:], None], strict=True):
        if after is not None and after.group == event.group:
            continue  # not the end of its group
        snapshot = await context.snapshot(event.position)
        for entry, found in items.items():
            then = [item for item in found if covers(item, event.position)]
            scopes = {(scope, item["resource"]) for item in then for scope in (*item["pools"], *item["nodes"])}
            assert scopes == await entries_in_force(context, snapshot, entry), (entry, event.position)
            nodes = {e["node"] for item in found for e in item["effective"] if covers(e, event.position)}
            assert nodes == await nodes_with(context, snapshot, entry), (entry, event.position)


async def check_at_rest(life: Life) -> None:
    """When everything had come to rest, what is settled is what was recorded; and files are blamed as they are."""
    for position in life.rests:
        literal, settled = [await past_at(life.world.context, position, settled=how) for how in (False, True)]
        for asked in (literal, settled):
            snapshot = await asked.context.snapshot()
            hosts = await recorded_files(asked.context, snapshot, Desired(asked.context.name, snapshot.rows), NODES)
            wanted = {host.name: side(host, "wanted") for host in hosts}
            if asked is literal:
                before = wanted
        assert wanted == before
    node, named = NODES[0], dict(wanted[NODES[0]] or ())
    if REGISTRIES_CONF in named:
        data = await blame_file(settled.context, node, REGISTRIES_CONF)
        content = (await life.world.context.load([named[REGISTRIES_CONF]]))[named[REGISTRIES_CONF]]
        assert [line["text"] for line in data["lines"]] == content.decode().splitlines()
        for line in data["lines"]:
            assert all(origin["commit"] for origin in line["origins"])


async def lived(taken: Sequence[Sequence[object]]) -> None:
    with TemporaryDirectory() as directory:
        life = Life.begin(Path(directory))
        await life.rest()
        for step in taken:
            await live(life, step)
            await life.rest()
        await check(life)
        await check_at_rest(life)
        assert (await past(life.world.context, f"#{await life.world.head()}")).unrendered == ()


@example(
    [("commit", "image.yaml", "b"), ("rollback", 0.0, "node:eu-1", True), ("commit", "image.yaml", "a"), ("lift",)]
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=3, max_size=8))
def test_histories_are_told_as_they_were(taken: Sequence[Sequence[object]]) -> None:
    asyncio.run(lived(taken))
