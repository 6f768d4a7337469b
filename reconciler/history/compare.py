"""What differs between two points in time: bytes of node files, resources in force, or which images can be pulled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from reconciler.explanations import why
from reconciler.history.files import blob_differences, chosen_nodes, refuse_unknown
from reconciler.projections.desired import Desired, Version, shadowed_out
from reconciler.projections.tables import NODES, POOLS, Row
from reconciler.stages.context import Context
from reconciler.stages.explained import Question
from reconciler.stages.host_files import Blobs, HostFiles, recorded_files


@dataclass(frozen=True)
class Between:
    """The fleet at two points in time (settled, as `stages.past` says), and which of its nodes are asked about."""

    before: Context
    after: Context
    nodes: Sequence[str] = ()
    pool: str | None = None

    async def desired(self) -> tuple[Desired, Desired]:
        """The state in force then and now. Raises UsageError for a node or pool that is in neither."""
        old, new = await self.before.snapshot(), await self.after.snapshot()
        then, now = Desired(old.fleet, old.rows), Desired(new.fleet, new.rows)
        refuse_unknown(self.nodes, self.pool, then, now)
        return then, now

    def of(self, desired: Desired) -> list[str]:
        """The nodes asked about that are there."""
        there = [name for name in self.nodes if name in desired.nodes]
        pool = self.pool if self.pool in desired.pools else None
        return chosen_nodes(desired, there, pool) if (there or not self.nodes) and pool == self.pool else []


# --- Files ----------------------------------------------------------------------------------------------------------


async def files_between(asked: Between) -> tuple[list[dict[str, Any]], list[str]]:
    """Per path and distinct change, `from` and `to` as text, with the `nodes` it holds for; and notes on nodes that
    cannot be compared.

    Compared are the wanted files over what a node has of its own; before anything was wanted, what it had.
    """
    then, now = await asked.desired()
    old, new = await _hosts(asked.before, asked.of(then), then), await _hosts(asked.after, asked.of(now), now)
    notes = _came_and_went(old.keys(), new.keys())
    changes: dict[tuple[Blobs, Blobs], list[HostFiles]] = {}
    for name in sorted(old.keys() & new.keys()):
        before, after = _meant(old[name]), _meant(new[name])
        if before is None or after is None:
            when, host = ("before", old[name]) if before is None else ("after", new[name])
            notes.append(f"{name} cannot be compared: {when}, {host.unknown}")
        elif before != after:
            changes.setdefault((before, after), []).append(new[name])
    named = {digest for pair in changes for blobs in pair for _, digest in blobs}
    contents = await asked.after.load_past(named)
    items: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for (before, after), hosts in changes.items():
        for found in blob_differences(contents, before, after):
            key = (found["path"], found["kind"], found["from"], found["to"])
            item = items.setdefault(key, {**found, "pools": [], "nodes": []})
            item["nodes"] = sorted({*item["nodes"], *(host.name for host in hosts)})
            item["pools"] = sorted({*item["pools"], *(host.pool for host in hosts if host.pool)})
    return [items[key] for key in sorted(items, key=lambda key: (items[key]["nodes"], key))], sorted(notes)


def _came_and_went(before: Collection[str], after: Collection[str]) -> list[str]:
    """Nodes that cannot be compared, as they were not there at both points."""
    came = [f"{name} was not in the fleet before" for name in after if name not in before]
    return sorted([*came, *(f"{name} is not in the fleet after" for name in before if name not in after)])


async def _hosts(context: Context, names: Sequence[str], desired: Desired) -> dict[str, HostFiles]:
    found = await recorded_files(context, await context.snapshot(), desired, names)
    return {host.name: host for host in found}


def _meant(host: HostFiles) -> Blobs | None:
    return host.wanted if host.wanted is not None else host.applied


# --- Resources ------------------------------------------------------------------------------------------------------


async def resources_between(asked: Between) -> list[dict[str, Any]]:
    """Per resource in force and distinct change: its documents as text, where they stood, and the `pools` (or, where
    holds set nodes apart, `nodes`) it holds for. `alike`: both mean the same. Of NodePools and Nodes the settings,
    defaults included."""
    then, now = await asked.desired()
    inventory = await _inventory(asked, then, now)
    scopes = _scopes(asked, then, now)
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    changes: dict[tuple[str, str, str], tuple[Version | None, Version | None]] = {}
    for pool, node in scopes:
        before, after = _used(then, pool, node), _used(now, pool, node)
        for name in sorted({*before, *after}):
            old, new = before.get(name), after.get(name)
            if (old and old.content) == (new and new.content):
                continue
            key = (name, old.content if old else "", new.content if new else "")
            changes[key] = (old, new)
            item = found.setdefault(key, {"resource": name, "pools": [], "nodes": []})
            item["nodes" if node else "pools"].append(node or pool)
    versions = [version for pair in changes.values() for version in pair if version]
    contents = await asked.after.load_past(version.text for version in versions)
    return [*({**found[key], **_change(*changes[key], contents)} for key in sorted(found)), *inventory]


async def _inventory(asked: Between, then: Desired, now: Desired) -> list[dict[str, Any]]:
    """The pools and nodes asked about whose settings differ."""
    old, new = await asked.before.snapshot(), await asked.after.snapshot()
    pools = sorted({pool for pool, _ in _scopes(asked, then, now)})
    nodes = sorted({*asked.of(then), *asked.of(now)})
    found = []
    for kind, table, names in (("NodePool", POOLS, pools), ("Node", NODES, nodes)):
        for name in names:
            rows = [side.one(table, side.fleet, name) for side in (old, new)]
            before, after = (row if row and row["spec"] else None for row in rows)
            if (before and before["spec"]) != (after and after["spec"]):
                about: dict[str, Any] = {"pools": [], "nodes": [], "pools" if kind == "NodePool" else "nodes": [name]}
                found.append({"resource": f"{kind}/{name}", **about, **_settings(before, after)})
    return found


def _settings(before: Row | None, after: Row | None) -> dict[str, Any]:
    """A change of a document of the inventory. Its place is known of pools, its commit of nodes."""
    texts, places = [], []
    for row in (before, after):
        texts.append(yaml.safe_dump(row["spec"], allow_unicode=True) if row else "")
        file = f"{row['file']}:{row['line']}" if row and "file" in row else ""
        commit = row["commit"] if row and not file else None
        places.append({"file": file, "commit": commit, "content": None, "hold": None} if row else None)
    kind = "removed" if after is None else "added" if before is None else "changed"
    sides = {"from": texts[0], "to": texts[1], "before": places[0], "after": places[1]}
    return {"kind": kind, "alike": False, **sides}


def _scopes(asked: Between, then: Desired, now: Desired) -> list[tuple[str, str]]:
    """(pool, node) pairs: each pool, and each node that a hold sets apart; of a node asked about, its own."""
    if asked.nodes:
        homes = {name: node.pool for desired in (then, now) for name, node in desired.nodes.items()}
        return [(str(homes[name]), name) for name in asked.nodes if homes[name]]
    pools = sorted({*then.pools, *now.pools}) if asked.pool is None else [asked.pool]
    held = {(pool, name) for pool in pools for desired in (then, now) for name in desired.held_nodes(pool)}
    return [*((pool, "") for pool in pools), *sorted(held)]


def _used(desired: Desired, pool: str, node: str) -> Mapping[str, Version]:
    if pool not in desired.pools:
        return {}
    return {v.resource: v for v in shadowed_out(desired.in_force(pool, node), desired.pools[pool])}


def _change(old: Version | None, new: Version | None, contents: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "kind": "removed" if new is None else "added" if old is None else "changed",
        "alike": old is not None and new is not None and old.meaning == new.meaning,
        "from": contents[old.text].decode(errors="replace") if old else "",
        "to": contents[new.text].decode(errors="replace") if new else "",
        "before": _place(old),
        "after": _place(new),
    }


def _place(version: Version | None) -> dict[str, Any] | None:
    if version is None:
        return None
    place = f"{version.file}:{version.line}"
    return {"file": place, "commit": version.commit, "content": version.content, "hold": version.hold or None}


# --- Images ---------------------------------------------------------------------------------------------------------


async def images_between(asked: Between, images: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Each image that is judged otherwise than before, with the `nodes` it is true for and what decided, and decides;
    and notes on nodes that cannot be compared. Both times the files are those wanted."""
    then, now = await asked.desired()
    question = Question(list(dict.fromkeys(images)))
    names = asked.of(then), asked.of(now)
    old, new = await _verdicts(asked.before, question, names[0]), await _verdicts(asked.after, question, names[1])
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for key in sorted(old.keys() & new.keys()):
        before, after = old[key], new[key]
        if before["verdict"] == after["verdict"]:
            continue
        same = (key[0], *(side[name] for side in (before, after) for name in ("verdict", "reason")))
        item = found.setdefault(same, {"image": key[0], "before": before, "after": after, "nodes": []})
        item["nodes"].append(key[1])
    return list(found.values()), _came_and_went(*names)


async def _verdicts(
    context: Context, question: Question, nodes: Sequence[str]
) -> dict[tuple[str, str], dict[str, Any]]:
    """By image and node."""
    if not nodes:
        return {}
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for item in await why(context, question):
        answer = {name: item[name] for name in ("verdict", "reason", "decidedBy", "changes")}
        found |= {(item["image"], name): answer for name in item["nodes"] if name in nodes}
    return found
