"""The lock-out guard through whole passes: the cases of cases/lock_out, on nodes in memory; one on a real sshd node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import commands, queries
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_node import Entry
from tests.world import POOL, ManualClock, MemoryWorld, ScriptedSource, make_world, memory_nodes

FOLDER = Path(__file__).parents[1] / "cases" / "lock_out"
CASES = {case["name"]: case for path in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(path.read_text())}
ACCEPT_ALL = b'{"default": [{"type": "insecureAcceptAnything"}]}'


def pool(**settings: Any) -> str:
    """The pool of the test worlds with other guard settings; those that are not given are the defaults."""
    document = yaml.safe_load(POOL)
    spec = {k: v for k, v in document["spec"].items() if k not in ("requiredImages", "reachableRegistries")}
    return yaml.safe_dump({**document, "spec": {**spec, **settings}})


class Fleet:
    """Two memory nodes whose host accepts everything, and a repository in memory."""

    def __init__(self, directory: Path) -> None:
        clock = ManualClock()
        self.transport, self.source = MemoryTransport(clock), ScriptedSource()
        self.world: MemoryWorld = make_world(directory, self.transport, clock)
        self.world.context = replace(self.world.context, source=self.source)
        for name in ("w1", "w2"):
            self.transport.node(name).files[POLICY_JSON] = Entry(ACCEPT_ALL)
        self.files: dict[str, str | None] = {"pool.yaml": pool(), **memory_nodes(["w1", "w2"])}

    async def do(self, step: Mapping[str, Any]) -> None:
        """One step of a case, then passes until nothing moves, then what is expected of it."""
        self.files |= {"pool.yaml": pool(**step["pool"])} if "pool" in step else {}
        if "commit" in step or "pool" in step:
            self.source.commit({**self.files, **step.get("commit", {})})
            self.files = {}
        for name, images in step.get("images", {}).items():
            self.transport.node(name).images = images
        for name in ("w1", "w2"):
            self.transport.node(name).faults.unreachable = name in step.get("unreachable", ())
        if "override" in step:
            await commands.override(self.world.context, pool="worker", reason="test", **step["override"])
        if "approve" in step:
            await commands.approve_pool(self.world.context, "worker", reason=step["approve"])
        if "rollback" in step:
            await commands.rollback(self.world.context, to=step["rollback"], reason="test")
        before, asked = await self.world.head(), self.transport.node("w1").asked
        await self.world.run(recheck=step.get("recheck", False))
        await self.world.sync()
        await self.expect(step["expect"], before, self.transport.node("w1").asked - asked)

    async def expect(self, wanted: Mapping[str, Any], before: int, asked: int) -> None:
        status, data = await queries.status(self.world.context)
        judged = (await self.world.types(before)).count("GuardJudged")
        found: dict[str, Any] = {"exit": status.exit_code, "guard": data["guard"], "judged": judged, "asked": asked}
        found |= {"blocked": status.pools[0].blocked}
        for name in ("w1", "w2"):
            entry = self.transport.node(name).files.get(REGISTRIES_CONF)
            found[name] = entry.content.decode() if entry else ""
        for key, value in wanted.items():
            if isinstance(value, str) and value and key != "guard":
                assert value in found[key], (key, found)
            else:
                assert found[key] == value, (key, found)
        head = await self.world.head()
        await self.world.run()
        assert await self.world.head() == head, "an unchanged poll appended something"


@pytest.mark.parametrize("name", CASES)
async def test_lock_out(name: str, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for step in CASES[name]["steps"]:
        await fleet.do(step)
    assert await fleet.world.reads.rebuild() == await fleet.world.head()
