"""Desired state as of a snapshot: Git's layer, and the state in force with the holds laid over it (DESIGN §8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.projections.tables import HOLDS, NODES, POOLS, RENDERS, RESOURCES, Key, Row
from reconciler.registries.model import digest
from reconciler.rollout.nodes import Node
from reconciler.rollout.pools import Pool, home_of, homes, later_path_wins, takers

OPENSHIFT_BASE = "openshift"
"""The base of pools that are laid over MCO's templates: the same for every node."""

SCOPE_RANK = {"fleet": 0, "pool": 1, "node": 2}


@dataclass(frozen=True)
class Version:
    """One content of a resource: blobs `content` (canonical JSON), `text`, `lines`; `meaning` is what is compared.

    `hold` names the hold that keeps it in force against Git, or is empty.
    """

    resource: str
    content: str
    meaning: str
    text: str
    lines: str
    file: str
    line: int
    commit: str
    hold: str = ""

    def as_data(self) -> dict[str, Any]:
        """As a hold's entry records it."""
        names = ("content", "meaning", "text", "lines", "file", "line", "commit")
        return {name: getattr(self, name) for name in names}


def blobs_of(version: Version) -> tuple[str, str, str]:
    """The blobs that a version names."""
    return version.content, version.text, version.lines


def version_of(resource: str, row: Mapping[str, Any], hold: str = "") -> Version:
    return Version(
        resource,
        row["content"],
        row["meaning"],
        row["text"],
        row["lines"],
        row["file"],
        int(row["line"]),
        row["commit"],
        hold,
    )


def meaning(document: Mapping[str, Any]) -> str:
    """Digest of what a resource says: no comments, labels, annotations or name, and lists whose order does not
    count are sorted. Two contents with one meaning are one wish (DESIGN §8 'Contents compare by meaning')."""
    body = {key: value for key, value in document.items() if key not in ("apiVersion", "metadata")}
    return digest(_sorted_lists(body, ()))


_ORDERED = {"containerRuntimeSearchRegistries", "mirrors"}
"""The lists whose order the runtime can tell."""


def _sorted_lists(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted_lists(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_sorted_lists(item, path) for item in value]
        return items if path and path[-1] in _ORDERED else sorted(items, key=digest)
    return value


class Desired:
    """What a snapshot's rows of RESOURCES, POOLS, NODES and HOLDS say is wanted."""

    def __init__(self, fleet: str, rows: Mapping[str, Mapping[Key, Row]]) -> None:
        self.fleet = fleet
        self.pools = {
            key[1]: Pool(key[1], row["spec"]) for key, row in sorted(rows.get(POOLS.name, {}).items()) if row["spec"]
        }
        self.nodes = {
            key[1]: Node(key[1], row["spec"], None, row["pool"], row["cluster"] or {}, bool(row["discovered"]))
            for key, row in sorted(rows.get(NODES.name, {}).items())
        }
        self.holds = sorted(rows.get(HOLDS.name, {}).values(), key=lambda row: (row["since"], row["hold"]))
        self._git: dict[str, dict[str, Version]] = {}
        for (_, pool, resource), row in sorted(rows.get(RESOURCES.name, {}).items()):
            self._git.setdefault(pool, {})[resource] = version_of(resource, row)
        self._homes = homes(self.pools.values())

    def git(self, pool: str) -> Mapping[str, Version]:
        """Git's layer: what the pool takes from the last commit it accepted, shadowed ones included."""
        return self._git.get(pool, {})

    def in_force(self, pool: str, node: str = "", *, without: tuple[str, int] | None = None) -> dict[str, Version]:
        """Git's layer with the holds over it; the narrower scope wins, of one scope the newer hold.

        `without` names an entry (hold, id) that is left out.
        """
        versions = dict(self.git(pool))
        for hold, entry in self.entries_at(pool, node):
            restored = entry["restored"]
            if (hold, entry["id"]) == without:
                continue
            if entry.get("baseline"):
                versions.clear()
            elif restored is None:
                versions.pop(entry["resource"], None)
            elif pool in self.takers(entry["resource"]):
                versions[entry["resource"]] = version_of(entry["resource"], restored, hold)
        return versions

    def held_nodes(self, pool: str) -> list[str]:
        """The pool's nodes that a hold of node scope makes differ from it."""
        named = {
            entry["scope"]["name"]
            for hold in self.holds
            for entry in hold["entries"]
            if entry["scope"]["kind"] == "node"
        }
        return sorted(name for name in named if name in self.nodes and self.nodes[name].pool == pool)

    def holds_on(self, pool: str, node: str = "") -> list[Row]:
        """The holds that keep something there against Git."""
        names = {hold for hold, _ in self.entries_at(pool, node)}
        return [hold for hold in self.holds if hold["hold"] in names]

    def takers(self, resource: str) -> tuple[str, ...]:
        """The pools that take a resource's directory."""
        directory = resource.rpartition(":")[0] or "."
        return takers(home_of(directory, self._homes), self.pools.values())

    def recorded_files(self, pool: str, node: str, base: str, inputs: str) -> Mapping[str, Any] | None:
        """The file set that a hold gives back byte for byte, when the inputs are those it was rendered from."""
        for hold in reversed(self.holds):
            for files in hold["files"]:
                if (files["pool"], files["node"], files["base"], files["inputs"]) == (pool, node, base, inputs):
                    found: Mapping[str, Any] = files
                    return found
        return None

    def at_baseline(self, pool: str, node: str = "") -> bool:
        """Whether nothing of ours is in force there: a hold gave the files from before the first write back."""
        back = False
        for _, entry in self.entries_at(pool, node):
            back = bool(entry.get("baseline")) or (back and entry["restored"] is None)
        return back

    def entries_at(self, pool: str, node: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
        """(hold, entry) of what holds say there, in the order in which they are laid over Git."""
        found = [
            (SCOPE_RANK[entry["scope"]["kind"]], number, hold["hold"], entry)
            for number, hold in enumerate(self.holds)
            for entry in hold["entries"]
            if _applies(entry["scope"], pool, node)
        ]
        for _, _, hold_id, entry in sorted(found, key=lambda item: item[:2]):
            yield hold_id, entry


def _applies(scope: Mapping[str, str], pool: str, node: str) -> bool:
    if scope["kind"] == "fleet":
        return True
    return scope["name"] == (pool if scope["kind"] == "pool" else node)


def shadowed_out(versions: Mapping[str, Version], pool: Pool) -> list[Version]:
    """What a pool really uses of the versions in force."""
    return [versions[identity] for identity in later_path_wins(versions, pool)]


def render_inputs(pool: Pool, bodies: Iterable[tuple[str, str]], base: str) -> str:
    """Digest of all that decides a pool's bytes: (identity, body digest) pairs, render settings, base files.

    The renderer's version is no part: what is recorded for these inputs stays until they change (DESIGN §7).
    """
    settings = {name: pool.spec[name] for name in ("base", "mirrorSyntax", "releaseImage", "runtime")}
    return digest({"resources": sorted(bodies), "settings": settings, "base": base})


def base_digest(files: Mapping[str, str | None]) -> str:
    """Identity of a node's base: the digest of its base files' hashes.

    Absent ones (None) do not count, so that a path that a later version looks at as well changes no base without it.
    """
    return digest({path: sha256 for path, sha256 in files.items() if sha256 is not None})


def base_of(
    fleet: str, rows: Mapping[str, Mapping[Key, Row]], pool: str | None, state: Mapping[str, Any]
) -> str | None:
    """The base a node's files are rendered over: its own captured one, its pool's templates, or MCO's; None before its
    first observation."""
    base = state.get("base")
    row = rows.get(POOLS.name, {}).get((fleet, pool)) if base and pool else None
    if row and row["spec"] and row["spec"]["base"] == OPENSHIFT_BASE:
        return OPENSHIFT_BASE
    if row and row["base_files"]:
        return base_digest(row["base_files"])
    return str(base) if base else None


def base_files_of(pool: Row, state: Mapping[str, Any]) -> Mapping[str, str | None]:
    """The blobs of the base that `base_of` names, by path (None: absent); MCO's templates are no blobs."""
    if pool["spec"]["base"] == OPENSHIFT_BASE:
        return {}
    found: Mapping[str, str | None] = pool["base_files"] or state["base_files"]
    return found


def wanted_row(
    fleet: str, rows: Mapping[str, Mapping[Key, Row]], pool: str | None, node: str, state: Mapping[str, Any]
) -> Row | None:
    """The RENDERS row that says what a node should have; None when nothing was rendered for it."""
    base = base_of(fleet, rows, pool, state)
    if base is None or pool is None:
        return None
    renders = rows.get(RENDERS.name, {})
    return renders.get((fleet, pool, node, base)) or renders.get((fleet, pool, "", base))
