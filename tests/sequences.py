"""A fleet in memory to which commits, rollbacks and people's words happen one after the other, as cases tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from reconciler import commands, queries
from reconciler.errors import ReconcilerError
from reconciler.events.catalogue import CommitHeldBack, HoldExtended, HoldLifted, HoldReinstated
from reconciler.events.envelope import StoredEvent
from reconciler.ports import DrainAnswer, DrainTask, EventFilter
from reconciler.registries.model import POLICY_JSON
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.authorities import certificate, config_map
from tests.world import ManualClock, MemoryWorld, ScriptedSource, make_world, node_document

ACCEPT_ALL = b'{"default": [{"type": "insecureAcceptAnything"}]}\n'
REST = 6
"""Passes after which everything must have come to rest."""

_CONFIG = "config.openshift.io/v1"
_KINDS = {
    "IDMS": (_CONFIG, "ImageDigestMirrorSet", "imageDigestMirrors"),
    "ITMS": (_CONFIG, "ImageTagMirrorSet", "imageTagMirrors"),
    "ICSP": ("operator.openshift.io/v1alpha1", "ImageContentSourcePolicy", "repositoryDigestMirrors"),
}

Files = Mapping[str, Mapping[str, bytes]]
"""Node → path → content."""


def manifest(short: str | Mapping[str, Any]) -> str:
    """A manifest from a case: its text; or {Image: registrySources, ca: NAME}; or {IDMS|ITMS|ICSP: NAME, rows: {SOURCE:
    mirrors}, policy: …}; or {CA: NAME, of: [registries], until: days}. `labels` go into its metadata, `comment` before
    it."""
    if isinstance(short, str):
        return short
    comment = f"# {short['comment']}\n" if "comment" in short else ""
    if "CA" in short:
        return comment + config_map(short["CA"], dict.fromkeys(short["of"], certificate(short["CA"])))
    metadata: dict[str, Any] = {"labels": short["labels"]} if "labels" in short else {}
    if "Image" in short:
        spec: dict[str, Any] = {"registrySources": short["Image"]}
        spec |= {"additionalTrustedCA": {"name": short["ca"]}} if "ca" in short else {}
        document = {"apiVersion": _CONFIG, "kind": "Image", "metadata": {"name": "cluster", **metadata}, "spec": spec}
        return comment + yaml.safe_dump(document)
    key = next(name for name in _KINDS if name in short)
    version, kind, rows = _KINDS[key]
    policy = {"mirrorSourcePolicy": short["policy"]} if "policy" in short else {}
    listed = [{"source": source, "mirrors": mirrors, **policy} for source, mirrors in short["rows"].items()]
    metadata["name"] = short[key]
    return comment + yaml.safe_dump({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {rows: listed}})


def site(name: str, nodes: int, spec: Mapping[str, Any]) -> str:
    """A pool that takes the top and `sites/NAME`, and its nodes."""
    wanted = {
        "mode": "enforce",
        "nodeSelector": {"matchLabels": {name: ""}},
        "paths": [".", f"sites/{name}"],
        "maxParallel": 50,
        "canary": {"nodes": 1, "soak": "0s"},
        "requiredImages": ["needed.example.com/app:1"],
        "reachableRegistries": ["nowhere.example.com"],
        **spec,
    }
    document = {"apiVersion": "reconciler.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": name}, "spec": wanted}
    named = [dedent(node_document(f"{name}-{number + 1}", "{transport: memory}", name)) for number in range(nodes)]
    return "---".join([yaml.safe_dump(document), *named])


@dataclass
class StuckDrainer:
    """`stuck`: nodes that cannot be uncordoned."""

    stuck: list[str] = field(default_factory=list)

    async def cordon(self, task: DrainTask) -> DrainAnswer:
        del task
        return DrainAnswer("done")

    drain = cordon

    async def uncordon(self, task: DrainTask) -> DrainAnswer:
        return DrainAnswer("failed", "no answer") if task.target.name in self.stuck else DrainAnswer("done")


@dataclass
class Sequence:
    """What has happened so far. `ends` and `states` are by the names that the case gives to steps."""

    world: MemoryWorld
    source: ScriptedSource
    transport: MemoryTransport
    clock: ManualClock
    drainer: StuckDrainer
    pools: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    begins: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    states: dict[str, Files] = field(default_factory=dict)
    holds: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, directory: Path) -> Sequence:
        clock = ManualClock()
        transport, source = MemoryTransport(clock), ScriptedSource()
        world = make_world(directory, transport, clock)
        drainer = StuckDrainer()
        world.context = replace(world.context, source=source, drainers={"command": drainer})
        return cls(world, source, transport, clock, drainer)

    async def do(self, step: Mapping[str, Any]) -> None:
        """One step, then passes until nothing moves, then what is expected of it."""
        before, said = await self.world.head(), dict[str, Any]()
        if refused := step.get("expect", {}).get("refused"):
            with pytest.raises(ReconcilerError, match=refused):
                await self._act(step)
            assert await self.world.head() == before
        else:
            said.update(await self._act(step))
        for _ in range(step.get("passes", REST)):
            head = await self.world.head()
            await self.world.run()
            if await self.world.head() == head:
                break
        else:
            assert "passes" in step, f"no rest: {(await self.world.types())[-20:]}"
        name = step.get("as", "")
        self.begins[name], self.ends[name] = before + 1, await self.world.head()
        self.states[name] = self.now()
        await self._check(step.get("expect", {}), said, before)

    def now(self) -> Files:
        """What stands on every node."""
        return {
            name: {path: entry.content for path, entry in node.files.items()}
            for name, node in sorted(self.transport.nodes.items())
        }

    # --- Steps ------------------------------------------------------------------------------------------------------

    async def _act(self, step: Mapping[str, Any]) -> Mapping[str, Any]:
        for name, images in step.get("images", {}).items():
            self.transport.node(name).images = images
        self.drainer.stuck = step.get("stuck", self.drainer.stuck)
        for name, contents in step.get("own", {}).items():
            self.transport.node(name).files.update({path: Entry(text.encode()) for path, text in contents.items()})
        for name, faults in step.get("faults", {}).items():
            for fault, value in faults.items():
                setattr(self.transport.node(name).faults, fault, value)
        self.clock.advance(timedelta(**step.get("later", {})).total_seconds())
        if "commit" in step or "pools" in step or "drop" in step:
            self._commit(step)
        context, reason = self.world.context, "because"
        if "rollback" in step:
            asked = {key.replace("-", "_"): value for key, value in step["rollback"].items()}
            hold, within = asked.pop("hold", ""), asked.pop("until", None)
            until = self.clock.now() + timedelta(**within) if within else None
            done = await commands.rollback(
                context, reason=reason, until=until, **{**asked, "to": self._to(asked["to"])}
            )
            self.holds[hold] = done["hold"]
            return done
        if "undo" in step:
            return await commands.undo_rollback(context, self.holds[step["undo"]], reason=reason)
        if "lift" in step:
            return await commands.lift_hold(context, self.holds[step["lift"]], reason=reason)
        if "accept" in step:
            hold = self.holds[step["accept"]["hold"]]
            accept = self.commits[step["accept"]["commit"]]
            return await commands.lift_hold(context, hold, reason=reason, accept=accept)
        return {}

    def change(self, files: Mapping[str, Any]) -> None:
        """Commit manifests in their short forms (None: removed)."""
        self.source.commit({path: manifest(short) if short else None for path, short in files.items()})

    def _commit(self, step: Mapping[str, Any]) -> None:
        for name, change in step.get("pools", {}).items():
            nodes, spec = self.pools.get(name, (0, {}))
            self.pools[name] = change.get("nodes", nodes), {**spec, **change.get("spec", {})}
            for number in range(self.pools[name][0]):
                self.transport.node(f"{name}-{number + 1}").files.setdefault(POLICY_JSON, Entry(ACCEPT_ALL))
        files: dict[str, str | None] = {f"inventory/{name}.yaml": site(name, *self.pools[name]) for name in self.pools}
        for name in step.get("drop", ()):
            files[f"inventory/{name}.yaml"] = None
            del self.pools[name]
        files |= {path: manifest(short) if short else None for path, short in step.get("commit", {}).items()}
        self.source.commit(files)
        if "then" in step:
            self.change(step["then"])
        self.commits[step.get("as", "")] = self.source.history[-1][0].sha

    def _to(self, point: str) -> str:
        """`NAME` stands for the position at the end of that step, `first NAME` for the first one of it."""
        if point.startswith("first "):
            return f"#{self.begins[point.removeprefix('first ')]}"
        return f"#{self.ends[point]}" if point in self.ends else point

    # --- What is expected -------------------------------------------------------------------------------------------

    async def _check(self, wanted: Mapping[str, Any], said: Mapping[str, Any], before: int) -> None:
        status, data = await queries.status(self.world.context)
        names = {hold: name for name, hold in self.holds.items()}
        held = {
            names[item["name"]]: {entry["resource"] or "baseline": entry["gitIs"] for entry in item["entries"]}
            for item in await queries.list_holds(self.world.context)
        }
        events = await self.world.log.read(EventFilter(after=before))
        found: dict[str, Any] = {
            "exit": status.exit_code,
            "holds": held,
            "events": [text for event in events if (text := _told(event, names))],
            "problems": [_named(problem["message"], names) for problem in data["problems"]],
            "blocked": "; ".join(pool["blocked"] for pool in data["pools"]),
            "waiting": (data["waiting"] or {}).get("reason", ""),
            "overdue": [names[hold] for hold in data["overdue"]],
            "modes": {pool["name"]: pool["mode"] for pool in data["pools"]},
            "files": {node.name: node.files for node in status.nodes},
            "status": {node["name"]: node["status"] for node in await queries.list_nodes(self.world.context)},
            "anew": sorted(text.partition(" ")[0] for text in said.get("renderedAnew", ())),
            "expired": [problem["object"] for problem in said.get("expired", ())],
            "untouched": said.get("untouched", []),
        }
        for key in set(wanted) - {"has", "text", "lacks", "refused", "left"}:
            texts = isinstance(wanted[key], str) and wanted[key]
            assert (wanted[key] in found[key]) if texts else (wanted[key] == found[key]), (key, found)
        assert wanted.get("exit", 0) == found["exit"], (found, await queries.status(self.world.context))
        await self._check_nodes(wanted)
        for hold, left in wanted.get("left", {}).items():
            items = {item["name"]: item for item in await queries.list_holds(self.world.context)}
            assert sorted({text for e in items[self.holds[hold]]["entries"] for text in e["left"]}) == sorted(left)

    async def _check_nodes(self, wanted: Mapping[str, Any]) -> None:
        now = self.now()
        for node, state in wanted.get("has", {}).items():
            assert now[node] == self.states[state][node], (node, state, now[node])
        for node, texts in {**wanted.get("text", {})}.items():
            content = b"\n".join(now[node].values()).decode()
            assert [text for text in texts if text not in content] == [], content
        for node, texts in wanted.get("lacks", {}).items():
            content = b"\n".join(now[node].values()).decode()
            assert [text for text in texts if text in content] == [], content


def _named(text: str, names: Mapping[str, str]) -> str:
    for hold, name in names.items():
        text = text.replace(str(hold), name)
    return text


def _told(event: StoredEvent, names: Mapping[str, str]) -> str:
    """What an event says of holds, in the words of the cases."""
    match event.body:
        case HoldLifted(hold=hold, cause=cause):
            return f"{names[hold]} {cause}"
        case HoldReinstated(hold=hold):
            return f"{names[hold]} reinstated"
        case HoldExtended(hold=hold, entries=entries):
            return f"{names[hold]} keeps out {', '.join(entry['resource'] for entry in entries)}"
        case CommitHeldBack(whole=True, pools=pools):
            return f"held back for {', '.join(pools)}"
        case CommitHeldBack(entries=entries):
            return f"held back {', '.join(f'''{entry['resource']} ({entry['git']})''' for entry in entries)}"
        case _:
            return ""
