"""Whatever happens in a cluster, one pass brings the log to what it says, and a second finds nothing new."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.errors import ClusterError
from reconciler.kubernetes.memory import MemoryCluster
from reconciler.ports import ClusterNode
from reconciler.projections.desired import Desired
from reconciler.rollout.placement import placement, winners
from reconciler.rollout.pools import Pool
from reconciler.stages.discover import discover
from reconciler.stages.inventory import known_nodes
from reconciler.transport.memory import MemoryTransport
from tests.world import FLEET, ManualClock, MemoryWorld, ScriptedSource, make_world, node_document, pool

NAMES = ("a", "b", "c", "d")
LABELS = st.dictionaries(st.sampled_from(["x", "y", "skip"]), st.sampled_from(["1", "2"]), max_size=3)
POOLS = {
    "one": pool("one", mode="observe", nodeSelector={"matchLabels": {"x": "1"}}),
    "two": pool("two", mode="observe", nodeSelector={"matchLabels": {"x": "2"}}),
    "high": pool("high", mode="observe", priority=1, nodeSelector={"matchLabels": {"y": "1"}}),
    "tied": pool("tied", mode="observe", nodeSelector={"matchLabels": {"y": "2"}}),
}
SELECTOR = "skip!=1"

nodes = st.builds(
    ClusterNode,
    name=st.sampled_from(NAMES),
    uid=st.sampled_from(["u1", "u2"]),
    labels=LABELS,
    ready=st.booleans(),
    reason=st.sampled_from(["", "KubeletNotReady: 1 s", "KubeletNotReady: 2 s"]),
    unschedulable=st.booleans(),
    cordoned_by=st.sampled_from(["", "step"]),
)
events = st.one_of(
    st.tuples(st.just("put"), nodes),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("document"), st.sampled_from(NAMES), st.sampled_from([None, *NAMES])),
    st.tuples(st.just("pools"), st.sets(st.sampled_from(sorted(POOLS)), min_size=1)),
    st.tuples(st.just("out"), st.booleans()),
)
B = ClusterNode("b", "u1", {"x": "1"}, ready=True)
HISTORIES = st.lists(st.lists(events, min_size=1, max_size=4), min_size=1, max_size=6)


class Story:
    """A fleet whose cluster always has the node `anchor`, so that it is never taken for another one."""

    def __init__(self, directory: Path) -> None:
        clock = ManualClock()
        self.world: MemoryWorld = make_world(directory, MemoryTransport(clock), clock)
        self.cluster = MemoryCluster([ClusterNode("anchor", "anchor", {}, ready=True)])
        self.source = ScriptedSource()
        context = self.world.context
        self.world.context = replace(
            context, source=self.source, cluster=self.cluster, fleet=replace(context.fleet, node_selector=SELECTOR)
        )
        self.files: dict[str, str | None] = {f"{name}.pool.yaml": text for name, text in POOLS.items()}
        self.documents: dict[str, str] = {}
        self.there: dict[str, ClusterNode] = {}
        self.source.commit(self.files)

    def take(self, event: Sequence[Any]) -> None:
        match event:
            case ("put", node):
                self.there[node.name] = node
                self.cluster.put(node)
            case ("remove", name):
                if self.there.pop(name, None):
                    self.cluster.remove(name)
            case ("document", name, node_name):
                self.documents.pop(name, None)
                if node_name is not None and node_name not in self.documents.values():
                    self.documents[name] = node_name
                spec = f"{{transport: memory, nodeName: {self.documents.get(name)}}}"
                kept = {f"n{i}.yaml": node_document(f"keep-{i}", "{transport: memory}") for i in range(len(NAMES) * 2)}
                self.source.commit(
                    {**kept, f"{name}.yaml": node_document(name, spec) if name in self.documents else None}
                )
            case ("pools", chosen):
                self.source.commit({f"{name}.pool.yaml": POOLS[name] if name in chosen else None for name in POOLS})
            case ("out", out):
                self.cluster.failure = ClusterError("out of reach") if out else None

    async def check(self) -> None:
        await self.world.run()
        snapshot = await self.world.context.snapshot()
        known = known_nodes(snapshot)
        if self.cluster.failure is None:
            self._check_nodes(known)
            pools = Desired(FLEET, snapshot.rows).pools
            for node in known.values():
                assert node.pool == placement(pools, node.labels)[0], node
        before = await self.world.head()
        await discover(self.world.context)
        assert await self.world.head() == before

    def _check_nodes(self, known: Mapping[str, Any]) -> None:
        named = set(self.documents.values()) | set(self.documents)
        wanted = {n.name for n in self.there.values() if n.name not in named and n.labels.get("skip") != "1"}
        assert {name for name, node in known.items() if node.discovered} == wanted | {"anchor"}
        for name, node in known.items():
            told = self.there.get(node.node_name)
            if told is None or (name not in wanted and name not in self.documents):
                assert not node.cluster or name == "anchor"
                continue
            assert (node.cluster["uid"], node.cluster["ready"]) == (told.uid, told.ready)
            assert (node.cluster["unschedulable"], node.cluster["cordoned_by"]) == (
                told.unschedulable,
                told.cordoned_by,
            )
            assert node.labels == {**told.labels, **({} if node.discovered else node.spec["labels"])}

    async def check_replay(self) -> None:
        log = self.world.log
        live = deepcopy((log.rows, log.past))
        await self.world.reads.rebuild()
        assert (log.rows.now, log.rows.since) == (live[0].now, live[0].since)


async def _tell(history: Sequence[Sequence[Sequence[Any]]]) -> None:
    with TemporaryDirectory() as directory:
        story = Story(Path(directory))
        for moment in history:
            for event in moment:
                story.take(event)
            await story.check()
        await story.check_replay()


@example([[("put", ClusterNode("a", "u1", {"x": "1", "y": "2"}, ready=True))], [("pools", {"one"})]])
@example([[("document", "a", "b"), ("put", B)], [("remove", "b")]])
@example([[("put", B)], [("put", replace(B, labels={"y": "1"}))], [("document", "b", "b"), ("out", True)]])
@example([[("document", "a", "b"), ("put", B)], [("out", True), ("pools", {"one"})], [("document", "a", "a")]])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES)
def test_the_log_follows_the_cluster(history: Sequence[Sequence[Sequence[Any]]]) -> None:
    asyncio.run(_tell(history))


@given(st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(-1, 1), LABELS), max_size=4), LABELS)
def test_a_placement_is_the_one_matching_pool_of_highest_priority(
    specs: Mapping[str, tuple[int, Mapping[str, str]]], labels: Mapping[str, str]
) -> None:
    defaults = Pool.with_defaults().spec
    pools = {
        name: Pool(name, {**defaults, "priority": priority, "nodeSelector": {"matchLabels": wanted}})
        for name, (priority, wanted) in specs.items()
    }
    matching = {name: priority for name, (priority, wanted) in specs.items() if wanted.items() <= labels.items()}
    best = [name for name, priority in matching.items() if priority == max(matching.values())]
    chosen, why = placement(pools, labels)
    assert chosen == (best[0] if len(best) == 1 else None)
    assert bool(why) == (len(best) > 1)
    assert winners(pools, labels) == sorted(best)
