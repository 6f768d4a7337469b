"""What a rollback would restore and refuse, and with which recorded files (DESIGN §8). Appends nothing.

Position P means the end of its append group. A pool's state at P is what was in force then; its nodes get the file set
recorded for exactly those inputs, byte for byte. Only where none was recorded is something rendered anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reconciler.errors import InputRejected, UsageError
from reconciler.events.catalogue import FilesRendered, ResourceAdded, ResourceChanged, ResourceRemoved
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.desired import Desired, Version, render_inputs, shadowed_out
from reconciler.projections.holds import NOTHING, places_of
from reconciler.projections.tables import HOLDS, NODE_STATES, NODES, POOLS, RENDERS, Key, Row
from reconciler.registries.model import digest
from reconciler.registries.render import render
from reconciler.registries.validate import validate_set
from reconciler.stages.context import Context
from reconciler.stages.expiry import expiring_certificates, is_expired
from reconciler.stages.project import Unit, disruption_of, options_over, units


@dataclass(frozen=True)
class Scope:
    """How far a rollback reaches: the fleet, one pool, or one node; and one resource, when given."""

    kind: str
    name: str
    pools: tuple[str, ...]
    resource: str | None = None


@dataclass(frozen=True)
class Rollback:
    """A worked-out rollback: the hold's entries and files, the holds it replaces, and what it means for nodes."""

    position: int
    scope: Scope
    entries: tuple[Mapping[str, Any], ...]
    files: tuple[Mapping[str, Any], ...]
    replaces: tuple[str, ...]
    replaced_entries: Mapping[str, tuple[int, ...]]
    rendered_anew: tuple[str, ...]
    nodes: tuple[str, ...]
    untouched: tuple[str, ...]
    """Pools of the scope that were not there at the position: they stay as they are."""
    expired: tuple[Mapping[str, Any], ...]
    """Certificates of what is restored that have expired by now, as problems with their `pools`."""


def scope_of(snapshot: Snapshot, pool: str | None, node: str | None, resource: str | None) -> Scope:
    """The scope that the options name. Raises UsageError for a pool or node that is not there."""
    pools = tuple(sorted(key[1] for key, row in snapshot.table(POOLS).items() if row["spec"]))
    if pool and node:
        raise UsageError("--pool and --node exclude each other", remedy="name the narrower one only")
    if node:
        row = snapshot.one(NODES, snapshot.fleet, node)
        if row is None or row["pool"] is None:
            raise UsageError(f"there is no node {node} in a pool", where="--node", remedy="see `reconciler get nodes`")
        return Scope("node", node, (row["pool"],), resource)
    if pool:
        if pool not in pools:
            raise UsageError(f"there is no pool {pool}", where="--pool", remedy="see `reconciler get pools`")
        return Scope("pool", pool, (pool,), resource)
    return Scope("fleet", "", pools, resource)


async def work_out(context: Context, now: Snapshot, position: int, scope: Scope) -> Rollback:
    """Everything about a rollback but the append. Raises UsageError or InputRejected where it cannot be."""
    past = await context.snapshot(position)
    desired, then = Desired(context.name, now.rows), Desired(context.name, past.rows)
    _refuse_unknown_resource(desired, then, scope)
    unwritten = () if scope.resource else _unwritten(now, past, then, scope)
    untouched = tuple(pool for pool in scope.pools if pool not in (*then.pools, *unwritten))
    replaced = tuple(str(h["hold"]) for h in desired.holds if _covers(scope, h) and not _only_on(desired, h, untouched))
    remaining = _without_holds(context.name, now, replaced)
    since = await _contents_since(context, position, scope)
    states = _States(desired, remaining, then, scope, since, replaced, unwritten)
    known = [pool for pool in scope.pools if pool in then.pools]
    entries = [entry for pool in known for entry in states.entries(pool)]
    given_back = [name for pool in known for name in states.given_back(pool)]
    merged = (*_merge(entries, desired, then, scope), *_baseline_entries(unwritten, given_back, scope))
    merged = tuple({**entry, "id": number} for number, entry in enumerate(merged))
    rows = _with_hold(context.name, now, replaced, merged)
    after = Desired(context.name, rows)
    _refuse_alone_in_force(remaining, after, scope)
    files, anew = await _recorded_files(context, now, after, scope)
    ids = {str(h["hold"]): tuple(int(e["id"]) for e in h["entries"]) for h in desired.holds if h["hold"] in replaced}
    certificates = await expiring_certificates(context, replace(now, rows=rows))
    restored = {entry["resource"] for entry in merged}
    expired = tuple(c for c in certificates if c["object"] in restored and is_expired(c))
    return Rollback(
        position, scope, merged, files, replaced, ids, anew, _nodes(after, scope, untouched), untouched, expired
    )


def _unwritten(now: Snapshot, past: Snapshot, then: Desired, scope: Scope) -> tuple[str, ...]:
    """The pools of the scope whose state at P is the baseline: nothing of ours was wanted there yet, or given back.

    A pool that was not there is one of them only where no other is in question: else it stays as it is.
    """
    node = scope.name if scope.kind == "node" else ""
    before = [pool for pool in scope.pools if pool in then.pools and _is_unwritten(past, then, pool, node)]
    if any(pool in then.pools and pool not in before for pool in scope.pools):
        return tuple(before)
    for (_, name), row in sorted(now.table(NODES).items()):
        state = past.one(NODE_STATES, past.fleet, name) or {}
        if row["pool"] in scope.pools and row["pool"] not in then.pools and state.get("files"):
            other = (past.one(NODES, past.fleet, name) or {}).get("pool")
            raise UsageError(
                f"pool {row['pool']} was not there at #{past.position}, and its node {name} had files of pool {other}",
                where="--to",
                remedy="choose a later position: `reconciler rollback` lists them",
            )
    return scope.pools


def _is_unwritten(past: Snapshot, then: Desired, pool: str, node: str) -> bool:
    row = past.one(POOLS, past.fleet, pool)
    if row is None or row["commit"] is None or then.at_baseline(pool, node):
        return True
    mine = [name for name, found in then.nodes.items() if found.pool == pool]
    written = [name for name in mine if (past.one(NODE_STATES, past.fleet, name) or {}).get("files")]
    return not then.pools[pool].enforces and not written


def _baseline_entries(pools: Sequence[str], nodes: Sequence[str], scope: Scope) -> list[dict[str, Any]]:
    """The entries that give the files from before the first write back to pools, and to further nodes."""
    wide = [("fleet", "")] if scope.kind == "fleet" and pools == scope.pools else [("pool", name) for name in pools]
    scopes = [("node", scope.name)] if scope.kind == "node" and pools else wide
    scopes += [("node", name) for name in nodes]
    nothing: dict[str, Any] = {"resource": "", "restored": None, "refused": [], "baseline": True}
    return [{**nothing, "scope": {"kind": kind, "name": name}} for kind, name in scopes]


def _refuse_unknown_resource(now: Desired, then: Desired, scope: Scope) -> None:
    if scope.resource is not None and not set(scope.pools) & set(then.pools):
        raise UsageError("none of the pools was there yet", where="--to", remedy="choose a later position")
    known: set[str] = set()
    for desired in (now, then):
        for pool in set(scope.pools) & set(desired.pools):
            node = scope.name if scope.kind == "node" else ""
            known |= {*desired.git(pool), *desired.in_force(pool, node)}
    if scope.resource is not None and scope.resource not in known:
        raise UsageError(
            f"there is no resource {scope.resource}, neither then nor now",
            where="--resource",
            remedy=f"name one of: {', '.join(sorted(known)) or 'none'}",
        )


def _refuse_alone_in_force(before: Desired, after: Desired, scope: Scope) -> None:
    """One resource is not given to nodes that have their own files back: it would be all that is in force there."""
    node = scope.name if scope.kind == "node" else ""
    for pool in scope.pools if scope.resource is not None else ():
        if before.at_baseline(pool, node) and not after.at_baseline(pool, node):
            hold = [name for name, entry in before.entries_at(pool, node) if entry.get("baseline")][-1]
            raise UsageError(
                f"hold {hold} gave {f'node {node}' if node else f'pool {pool}'} the files from before the first "
                f"write back: {scope.resource} would be all that is in force there",
                where="--resource",
                remedy=f"lift the hold first: reconciler hold lift {hold}",
            )


def _covers(scope: Scope, hold: Row) -> bool:
    """Whether the new hold says everything the old one said, so that it replaces it."""
    asked = ("node", hold["node"]) if hold["node"] else ("pool", hold["pool"])
    for entry in hold["entries"]:
        about = (entry["scope"]["kind"], entry["scope"]["name"])
        inside = scope.kind == "fleet" or (scope.kind, scope.name) in (asked, about)
        if not inside or (scope.resource is not None and entry["resource"] != scope.resource):
            return False
    return True


def _only_on(desired: Desired, hold: Row, pools: Sequence[str]) -> bool:
    """Whether a hold decides about none but these pools."""
    found = {pool for entry in hold["entries"] for pool, _ in places_of(desired, entry)}
    return bool(found) and found <= set(pools)


def _without_holds(fleet: str, now: Snapshot, replaced: Sequence[str]) -> Desired:
    kept: dict[Key, Row] = {key: row for key, row in now.table(HOLDS).items() if row["hold"] not in replaced}
    return Desired(fleet, {**now.rows, HOLDS.name: kept})


@dataclass(frozen=True)
class _States:
    """Desired state now, without the replaced holds, and at P; `since`: see `_contents_since`; `unwritten`: pools whose
    state at P is the baseline."""

    now: Desired
    remaining: Desired
    then: Desired
    scope: Scope
    since: Mapping[tuple[str, str], Sequence[Mapping[str, str]]]
    replaced: Sequence[str]
    unwritten: Sequence[str]

    def entries(self, pool: str) -> list[dict[str, Any]]:
        """One entry per resource whose state would otherwise differ from that at P: of the scope, and, in a wider
        scope, of each node that a hold set apart at P and none sets apart now."""
        back = pool in self.unwritten
        if self.scope.kind == "node":
            name = self.scope.name
            return [] if back else self._entries(pool, name, self.remaining.in_force(pool, name))
        found = [] if back else self._entries(pool, "", self.remaining.in_force(pool))
        for name in self._set_apart(pool):
            if self.scope.resource or not self.then.at_baseline(pool, name):
                found += self._entries(pool, name, {} if back else self.then.in_force(pool))
        return found

    def given_back(self, pool: str) -> list[str]:
        """The nodes that had their own files back at P, where their pool had not."""
        if self.scope.kind == "node" or self.scope.resource or pool in self.unwritten:
            return []
        return [name for name in self._set_apart(pool) if self.then.at_baseline(pool, name)]

    def _set_apart(self, pool: str) -> list[str]:
        """The nodes that a hold set apart at P and none sets apart now."""
        now = {name for name, node in self.now.nodes.items() if node.pool == pool} - {*self.remaining.held_nodes(pool)}
        return [name for name in self.then.held_nodes(pool) if name in now]

    def _entries(self, pool: str, node: str, underneath: Mapping[str, Version]) -> list[dict[str, Any]]:
        wanted, present = self.then.in_force(pool, node), self.now.in_force(pool, node)
        git = self.now.git(pool)
        entries = []
        for resource in sorted({*wanted, *present, *underneath, *git}):
            restored, lies = wanted.get(resource), underneath.get(resource)
            same = _content(restored)["meaning"] == _content(lies)["meaning"]  # such an entry would end at once
            if same or (self.scope.resource is not None and resource != self.scope.resource):
                continue
            contents = [_content(git.get(resource)), _content(present.get(resource))]
            contents.extend(self.since.get((pool, resource), ()))
            contents.extend(_inherited(self.now, self.replaced, resource))
            wish = _content(restored)["meaning"]
            refused = {content["content"]: content for content in contents if content["meaning"] != wish}
            entries.append(
                {
                    "pool": pool,
                    "node": node,
                    "resource": resource,
                    "restored": restored.as_data() if restored else None,
                    "refused": [refused[name] for name in sorted(refused)],
                }
            )
        return entries


def _content(version: Version | None) -> Mapping[str, str]:
    return {"content": version.content, "meaning": version.meaning} if version else NOTHING


def _inherited(desired: Desired, replaced: Sequence[str], resource: str) -> Iterable[Mapping[str, str]]:
    """A later rollback inherits what it replaces."""
    for hold in desired.holds:
        for entry in hold["entries"] if hold["hold"] in replaced else ():
            if entry["resource"] == resource:
                yield from entry["refused"]


async def _contents_since(
    context: Context, position: int, scope: Scope
) -> dict[tuple[str, str], list[Mapping[str, str]]]:
    """(pool, resource) → the contents Git brought into force after P, absence included."""
    types = ("ResourceAdded", "ResourceChanged", "ResourceRemoved")
    found: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for event in await context.log.read(EventFilter(context.name, after=position, types=types)):
        body = event.body
        if isinstance(body, (ResourceAdded, ResourceChanged, ResourceRemoved)):
            content = NOTHING if isinstance(body, ResourceRemoved) else _said(body)
            for pool in set(body.pools) & set(scope.pools):
                found.setdefault((pool, body.resource), []).append(content)
    return found


def _said(body: ResourceAdded | ResourceChanged) -> Mapping[str, str]:
    return {"content": body.content, "meaning": body.meaning}


def _merge(
    entries: Sequence[Mapping[str, Any]], now: Desired, then: Desired, scope: Scope
) -> tuple[Mapping[str, Any], ...]:
    """Entries with ids and scopes; for the fleet, one entry where all pools that take the resource agree."""
    merged: list[dict[str, Any]] = []
    by_resource: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        by_resource.setdefault(entry["resource"], []).append(entry)
    for resource, found in sorted(by_resource.items()):
        wide = [entry for entry in found if not entry["node"]]
        agree = bool(wide) and scope.kind == "fleet" and _all_agree(resource, now, then)
        refused = {c["content"]: c for entry in wide for c in entry["refused"]}
        for entry in (*wide[: 1 if agree else None], *(entry for entry in found if entry["node"])):
            kind, name = ("node", entry["node"]) if entry["node"] else ("pool", entry["pool"])
            if agree and not entry["node"]:
                kind, name = "fleet", ""
            merged.append(
                {
                    "id": len(merged),
                    "resource": resource,
                    "scope": {"kind": kind, "name": name},
                    "restored": entry["restored"],
                    "refused": [refused[c] for c in sorted(refused)] if kind == "fleet" else entry["refused"],
                }
            )
    return tuple(merged)


def _all_agree(resource: str, now: Desired, then: Desired) -> bool:
    """Whether one entry may speak for every pool that takes the resource now: none of them came later than P."""
    contents, pools = set(), now.takers(resource)
    if not set(pools) <= set(then.pools):
        return False
    for pool in pools:
        version = then.in_force(pool).get(resource)
        contents.add(version.content if version else None)
    return len(contents) <= 1


def _with_hold(
    fleet: str, now: Snapshot, replaced: Sequence[str], entries: Sequence[Mapping[str, Any]]
) -> Mapping[str, Mapping[Key, Row]]:
    """The rows with the new hold in place of those that it replaces."""
    kept: dict[Key, Row] = {key: row for key, row in now.table(HOLDS).items() if row["hold"] not in replaced}
    newest = max((row["since"] for row in kept.values()), default=None)
    if entries:
        # "~" sorts after every hold's id: of two holds of one time the new one wins
        kept[fleet, "~new"] = {"hold": "~new", "since": newest, "entries": list(entries), "files": []}
    return {**now.rows, HOLDS.name: kept}


async def _recorded_files(
    context: Context, now: Snapshot, after: Desired, scope: Scope
) -> tuple[tuple[Mapping[str, Any], ...], tuple[str, ...]]:
    """The recorded file set per unit, and the units that must be rendered anew (checked to be renderable)."""
    events = await context.log.read(EventFilter(context.name, types=("FilesRendered",), newest_first=True))
    recorded: dict[tuple[str, str, str], FilesRendered] = {}
    for event in events:
        if isinstance(event.body, FilesRendered):
            recorded.setdefault((event.body.pool, event.body.base, event.body.inputs), event.body)
    files, anew = [], []
    for unit in _units(now, after, scope):
        pool = after.pools[unit.pool]
        if after.at_baseline(unit.pool, unit.node):
            continue
        versions = shadowed_out(after.in_force(unit.pool, unit.node), pool)
        resources = await context.load_resources(versions)
        chosen = [resources[version] for version in versions]
        inputs = render_inputs(pool, [(r.identity, digest(r.body)) for r in chosen], unit.base)
        body = recorded.get((unit.pool, unit.base, inputs))
        if body is not None:
            names = ("base", "inputs", "renderer", "files", "origins")
            known = {name: getattr(body, name) for name in names}
            files.append({"pool": unit.pool, "node": unit.node, **known})
            continue
        outcome = render(chosen, await options_over(context, pool, unit.base_files))
        together = [problem for problem in validate_set(chosen) if problem.severity == "error"]
        if together or not outcome.ok:
            problems = "\n".join(str(problem) for problem in together or outcome.problems)
            raise InputRejected(
                f"what would be in force does not hold together:\n{problems}", where=f"pool {unit.pool}"
            )
        anew.append(f"{unit.pool}{f'/{unit.node}' if unit.node else ''} over base {unit.base[:12]}")
    return tuple(files), tuple(anew)


async def given_again(context: Context, now: Snapshot, found: Rollback) -> list[FilesRendered]:
    """The recorded file sets of a rollback that begins no hold: nothing else would remember them."""
    desired, given = Desired(context.name, now.rows), []
    known = {(unit.pool, unit.node, unit.base): unit for unit in units(now, desired)}
    for files in found.files:
        key = (files["pool"], files["node"], files["base"])
        row = now.one(RENDERS, context.name, *key)
        if key not in known or (row and row["inputs"] == files["inputs"]):
            continue
        old = str(row["files"]) if row else ""
        disruption = await disruption_of(context, desired.pools[files["pool"]], known[key], old, files["files"])
        given.append(FilesRendered(**files, disruption=disruption))
    return given


def _units(now: Snapshot, after: Desired, scope: Scope) -> list[Unit]:
    found = [unit for unit in units(now, after) if unit.pool in scope.pools]
    return [unit for unit in found if unit.node == scope.name] if scope.kind == "node" else found


def _nodes(after: Desired, scope: Scope, untouched: Sequence[str]) -> tuple[str, ...]:
    if scope.kind == "node":
        return (scope.name,)
    return tuple(name for name, node in after.nodes.items() if node.pool in set(scope.pools) - set(untouched))
