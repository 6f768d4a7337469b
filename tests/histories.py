"""Histories as data: what is committed and done on a world in memory, and the names by which answers are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from reconciler import commands, custody
from reconciler.ports import EventFilter
from reconciler.stages.observe import observe
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.world import ManualClock, MemoryWorld, ScriptedSource, image, make_world, mirrors, site

POLICY = b'{"default": [{"type": "insecureAcceptAnything"}]}\n'
SYNCED = ("commit", "rollback", "lift", "undo", "reachable", "release", "adopt")
"""The steps after which there is a sync, unless they say otherwise."""

_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_POSITION = re.compile(r"#(\d+)\b")


@dataclass
class History:
    """A world whose steps were done. `commits`: their ids, by the names that the steps give them."""

    world: MemoryWorld
    transport: MemoryTransport
    source: ScriptedSource
    commits: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)

    async def do(self, step: Mapping[str, Any]) -> None:
        """One of: commit, rollback, lift, undo, reachable (each then a sync, unless `sync` is false), drift (then a
        look), release and adopt (a node), own (a node's file) and full (its disk)."""
        (verb,) = step.keys() & {*SYNCED, "drift", "own", "full"}
        await getattr(self, f"_{verb}")(step[verb], **{k: v for k, v in step.items() if k not in (verb, "sync")})
        if verb in SYNCED and step.get("sync", True):
            await self.world.sync()
            self.world.clock.advance(3600)

    async def _commit(self, files: Mapping[str, Any], name: str, author: str = "Alice", message: str = "") -> None:
        changed: dict[str, str | None] = {}
        for place, value in files.items():
            if place == "sites":
                for pool, count in value.items():
                    changed |= site(pool, count)
            elif place == "image":
                changed["image.yaml"] = image(**value) if value is not None else None
            elif place == "mirror":
                changed["mirror.yaml"] = mirrors(**value) if value is not None else None
            else:
                changed[place] = value
        self.source.commit(changed)
        commit, tree = self.source.history[-1]
        self.source.history[-1] = (replace(commit, author=author, message=message or commit.message), tree)
        self.commits[name] = commit.sha

    async def _rollback(self, asked: Mapping[str, Any]) -> None:
        to = self.named(asked["to"])
        await commands.rollback(self.world.context, **{**asked, "to": to})

    async def _lift(self, reason: str) -> None:
        (hold,) = (await self.world.status()).holds
        await commands.lift_hold(self.world.context, hold, reason=reason)

    async def _undo(self, reason: str) -> None:
        (hold,) = (await self.world.status()).holds
        await commands.undo_rollback(self.world.context, hold, reason=reason)

    async def _reachable(self, nodes: Mapping[str, bool]) -> None:
        for node, answers in nodes.items():
            self.transport.node(node).faults.unreachable = not answers

    async def _full(self, node: str) -> None:
        self.transport.node(node).faults.disk_full = True

    async def _release(self, node: str, reason: str) -> None:
        await custody.release(self.world.context, node, restore=True, reason=reason)

    async def _adopt(self, node: str, reason: str) -> None:
        await custody.adopt(self.world.context, node, reason=reason)

    async def _drift(self, files: Mapping[str, str]) -> None:
        await self._own(files)
        await observe(self.world.context)

    async def _own(self, files: Mapping[str, str]) -> None:
        for place, text in files.items():
            node, _, path = place.partition(":")
            self.transport.node(node).files[path] = Entry(text.encode())

    def named(self, point: str) -> str:
        """A point in time of a case: the name of a commit, or as it is."""
        return self.commits.get(point, point)

    async def shown(self, lines: Sequence[str]) -> list[str]:
        """Printed lines with commits by name, positions by the type of their event, and one space for many."""
        types = {event.position: event.type for event in await self.world.log.read(EventFilter())}
        found = []
        for line in lines:
            text = _POSITION.sub(lambda place: f"#{types.get(int(place[1]), place[1])}", line)
            for name, sha in self.commits.items():
                text = text.replace(sha[:12], name)
            text = _TIME.sub("TIME", re.sub(r"h-[0-9a-f]{8}", "HOLD", text))
            found.append(" ".join(text.split()))
        return found


async def played(directory: Path, steps: Sequence[Mapping[str, Any]]) -> History:
    """A history; nodes begin with a policy that accepts all."""
    clock = ManualClock()
    transport = MemoryTransport(clock)
    world = make_world(directory, transport, clock)
    source = ScriptedSource()
    world.context.source = source
    history = History(world, transport, source)
    for node in ("eu-1", "eu-2", "us-1", "us-2"):
        transport.node(node).files["/etc/containers/policy.json"] = Entry(POLICY)
    for step in steps:
        await history.do(step)
    return history


def cases(directory: Path) -> dict[str, Mapping[str, Any]]:
    """FILE/NAME → case."""
    return {
        f"{path.stem}/{name}": case
        for path in sorted(directory.glob("*.yaml"))
        for name, case in yaml.safe_load(path.read_text()).items()
    }
