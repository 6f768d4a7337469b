"""The read tables: temporal rows that the folds write and everything else reads.

Each row is valid from one position (inclusive) to another (exclusive, None: still). The physical tables have
the columns `fleet`, key, body, `valid_from`, `valid_to`; migrations/sql/tables holds the same definition for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ColumnType = Literal["text", "bigint", "boolean", "jsonb", "timestamptz"]
Row = Mapping[str, Any]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A read table. `key` columns are text and never null ("" where something does not apply)."""

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, ColumnType]
    comment: str = ""

    def key_of(self, row: Row) -> Key:
        return tuple(row[column] for column in self.key)


FLEETS = Table(
    "fleets",
    ("fleet",),
    {
        "url": "text",
        "branch": "text",
        "path": "text",
        "head": "text",
        "judged_with": "text",
        "signature": "jsonb",
        "accepted": "text",
        "accepted_signature": "jsonb",
        "rejected": "text",
        "problems": "jsonb",
        "waiting": "jsonb",
        "approved": "jsonb",
        "rewritten": "text",
        "unreachable": "text",
        "unreachable_since": "timestamptz",
        "cluster": "jsonb",
    },
    "One row per fleet: its source, last recorded head and last accepted commit, and what waits for a person.",
)
RESOURCES = Table(
    "resources",
    ("fleet", "pool", "resource"),
    {
        "content": "text",
        "text": "text",
        "lines": "text",
        "meaning": "text",
        "file": "text",
        "line": "bigint",
        "commit": "text",
        "position": "bigint",
    },
    "Git's layer: the resources each pool takes from the last commit it accepted.",
)
POOLS = Table(
    "pools",
    ("fleet", "pool"),
    {
        "spec": "jsonb",
        "base_files": "jsonb",
        "file": "text",
        "line": "bigint",
        "commit": "text",
        "rejected": "text",
        "problems": "jsonb",
        "warnings": "jsonb",
        "blocked": "text",
        "rollout": "text",
        "cause": "text",
        "locks": "jsonb",
        "refused": "jsonb",
        "completed": "jsonb",
        "window_until": "text",
        "mass": "jsonb",
    },
    "One row per NodePool: settings, base, the commit its content comes from, what it refused, its rollout.",
)
NODES = Table(
    "nodes",
    ("fleet", "node"),
    {"pool": "text", "spec": "jsonb", "commit": "text", "discovered": "boolean", "cluster": "jsonb"},
    "The inventory: one row per Node.",
)
NODE_STATES = Table(
    "node_states",
    ("fleet", "node"),
    {
        "base": "text",
        "base_files": "jsonb",
        "machine_id": "text",
        "files": "text",
        "files_base": "text",
        "converged_at": "timestamptz",
        "generation": "bigint",
        "receipt": "jsonb",
        "step": "text",
        "step_owner": "text",
        "step_fence": "bigint",
        "step_data": "jsonb",
        "step_cause": "text",
        "phase": "text",
        "cordoned": "text",
        "drain_blocked": "jsonb",
        "unproven": "jsonb",
        "deferred": "jsonb",
        "failed": "jsonb",
        "unreachable": "text",
        "unreachable_since": "timestamptz",
        "refused": "boolean",
        "drift": "jsonb",
        "drift_observed": "text",
        "drift_since": "timestamptz",
        "drift_cause": "text",
        "strays": "jsonb",
        "ignored": "jsonb",
        "drift_allowed": "text",
        "repairs": "jsonb",
        "contested": "jsonb",
        "unloaded": "boolean",
        "shadows": "jsonb",
        "host_key": "text",
        "refusal": "text",
        "asked": "jsonb",
        "released": "jsonb",
    },
    "One row per node: base, what the last receipt proved, the open step, drift, failures.",
)
RENDERS = Table(
    "renders",
    ("fleet", "pool", "node", "base"),
    {
        "inputs": "text",
        "renderer": "text",
        "files": "text",
        "origins": "text",
        "disruption": "text",
    },
    "The files wanted on the nodes of a pool over one base (node: only where a hold makes one node differ).",
)
GUARDS = Table(
    "guards",
    ("fleet", "pool"),
    {
        "images": "bigint",
        "nodes": "jsonb",
        "untold": "jsonb",
        "unheard": "jsonb",
        "judged_with": "text",
        "changes": "jsonb",
        "overrides": "jsonb",
        "approved": "jsonb",
    },
    "The latest judgement of the lock-out guard per pool, and what people gave up or approved for its content.",
)
HOLDS = Table(
    "holds",
    ("fleet", "hold"),
    {
        "pool": "text",
        "node": "text",
        "position": "bigint",
        "entries": "jsonb",
        "files": "jsonb",
        "reason": "text",
        "actor": "text",
        "since": "timestamptz",
        "due": "text",
        "until_fixed": "boolean",
    },
    "Rollback entries in force against newer commits.",
)
ROLLOUTS = Table(
    "rollouts",
    ("fleet", "pool", "rollout"),
    {
        "state": "text",
        "plan": "text",
        "targets": "jsonb",
        "kind": "text",
        "waves": "jsonb",
        "approved": "jsonb",
        "nodes": "bigint",
        "disruption": "text",
        "effective": "text",
        "reasons": "jsonb",
        "commit": "text",
        "started_at": "timestamptz",
        "ended_at": "timestamptz",
        "outcome": "text",
        "cause": "text",
    },
    "One row per rollout: progressing, completed, halted, aborted or superseded.",
)

RESTORES = Table(
    "restores",
    ("fleet",),
    {"evidence": "jsonb", "detected_at": "timestamptz", "epoch": "bigint"},
    "What contradicts this copy of the log until a person accepts it, and the fence epoch in force (NULL: the first).",
)

TABLES: tuple[Table, ...] = (FLEETS, RESOURCES, POOLS, NODES, NODE_STATES, RENDERS, GUARDS, HOLDS, ROLLOUTS, RESTORES)


def rollout_of(rows: Mapping[str, Mapping[Key, Row]], pool: Row) -> Row | None:
    """The row of a pool's latest rollout, from the pool's own; None before the first."""
    return rows.get(ROLLOUTS.name, {}).get((*POOLS.key_of(pool), pool["rollout"] or ""))


@dataclass
class Working:
    """The rows a batch of events reads and writes: key → row, None where there is none."""

    rows: dict[str, dict[Key, Row | None]] = field(default_factory=dict)

    def get(self, table: Table, *key: str) -> Row | None:
        return self.rows.setdefault(table.name, {}).get(key)

    def put(self, table: Table, key: Key, **columns: Any) -> None:
        """Set columns of a row (created with every other column None)."""
        rows = self.rows.setdefault(table.name, {})
        old = rows.get(key) or {**dict.fromkeys(table.columns), **dict(zip(table.key, key, strict=True))}
        rows[key] = {**old, **columns}

    def drop(self, table: Table, key: Key) -> None:
        self.rows.setdefault(table.name, {})[key] = None


Touched = tuple[Table, Key]


def on_body(change: Callable[[Any, Any, Working], None]) -> Callable[[Any, Working], None]:
    """A fold's function of (event, its body, rows) as the function of (event, rows) that is registered."""
    return lambda event, rows: change(event, event.body, rows)
