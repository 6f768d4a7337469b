"""The fleet as one file: the rows and blobs that a plan needs, for CI that reaches neither the database nor a node."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler import __version__
from reconciler.errors import UsageError
from reconciler.events.codec import plain
from reconciler.ports import Snapshot
from reconciler.projections.tables import (
    CLUSTER_OBJECTS,
    CLUSTERS,
    HOLDS,
    MACHINE_POOLS,
    NODE_STATES,
    RENDERS,
    RESOURCES,
    TABLES,
    Key,
    Row,
    Table,
)
from reconciler.stages.context import Context, FleetSettings, decode_file_set

KIND = "FleetExport"
API_VERSION = "reconciler.dev/v1alpha1"


@dataclass(frozen=True)
class Export:
    """An export that was read: the fleet's settings, its rows, and the blobs they name."""

    fleet: FleetSettings
    log_id: str
    snapshot: Snapshot
    blobs: tuple[bytes, ...]


async def export_fleet(context: Context) -> str:
    """The fleet as JSON text. It holds what the log knows of the nodes (addresses, host keys, registry files)."""
    snapshot = await context.snapshot()
    sets = await context.blobs.get(set(_file_sets(snapshot)))
    entries = {entry.sha256 for blob in sets.values() for entry in decode_file_set(blob).entries}
    contents = {**sets, **await context.blobs.get(entries | set(_blobs(snapshot)))}
    fleet = context.fleet
    data = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "toolVersion": __version__,
        "fleet": {
            "name": fleet.name,
            "url": fleet.url,
            "branch": fleet.branch,
            "path": fleet.path,
            "validation": fleet.validation,
        },
        "logId": context.log.log_id,
        "position": snapshot.position,
        "at": snapshot.at.isoformat() if snapshot.at else None,
        "versions": dict(sorted(snapshot.versions.items())),
        "tables": {table.name: [_plain(row) for _, row in sorted(snapshot.table(table).items())] for table in TABLES},
        "blobs": [base64.b64encode(contents[name]).decode() for name in sorted(contents)],
    }
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _plain(row: Row) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else plain(value) for name, value in row.items()}


def _file_sets(snapshot: Snapshot) -> Iterator[str]:
    """Every file set that the stages may look into."""
    for state in snapshot.table(NODE_STATES).values():
        yield from (name for name in (state["files"], *(state["unproven"] or ())) if name)
    yield from (row["files"] for row in snapshot.table(RENDERS).values())
    for row in snapshot.table(CLUSTERS).values():
        yield from filter(None, (row["files"] or {}).values())
    for row in snapshot.table(MACHINE_POOLS).values():
        yield from filter(None, (row["files"], row["before"]))
    yield from (files["files"] for hold in snapshot.table(HOLDS).values() for files in hold["files"])


def _blobs(snapshot: Snapshot) -> Iterator[str]:
    """Every other blob: base files, what drifted, and the contents of resources."""
    for state in snapshot.table(NODE_STATES).values():
        yield from (name for name in (state["base_files"] or {}).values() if name)
        yield from (item["observed"] for item in state["drift"] or () if len(item["observed"]) == 64)
    for row in snapshot.table(CLUSTERS).values():
        yield from filter(None, (*(row["baseline"] or {}).values(), *(row["beside"] or {}).values()))
        yield from filter(None, (item["content"] for item in row["unadopted"] or ()))
    for row in snapshot.table(CLUSTER_OBJECTS).values():
        yield from filter(None, (row["sent"], row["answer"], row["drift_observed"]))
    restored = [entry["restored"] for hold in snapshot.table(HOLDS).values() for entry in hold["entries"]]
    for row in (*snapshot.table(RESOURCES).values(), *restored):
        if row:
            yield from (row["content"], row["text"], row["lines"])


def read_export(text: str, where: str) -> Export:
    """What `export_fleet` wrote. Raises UsageError for anything else."""
    try:
        data = json.loads(text)
        if (data["apiVersion"], data["kind"]) != (API_VERSION, KIND):
            raise UsageError(f"is {data['kind']} of {data['apiVersion']}", where=where, remedy=_REMEDY)
        if data["toolVersion"] != __version__:
            what = f"was written by version {data['toolVersion']}; this is {__version__}"
            raise UsageError(what, where=where, remedy="export and plan with the same version")
        tables = {table.name: dict(_rows(table, data["tables"][table.name])) for table in TABLES}
        settings = FleetSettings(**data["fleet"])
        at = datetime.fromisoformat(data["at"]) if data["at"] else None
        snapshot = Snapshot(settings.name, int(data["position"]), at, tables, data["versions"])
        blobs = tuple(base64.b64decode(blob, validate=True) for blob in data["blobs"])
        return Export(settings, str(data["logId"]), snapshot, blobs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"is no export of a fleet ({type(error).__name__}: {error})"
        raise UsageError(what, where=where, remedy=_REMEDY) from None


_REMEDY = "write one with `reconciler plan --export FILE`"


def _rows(table: Table, rows: list[Mapping[str, Any]]) -> Iterator[tuple[Key, Row]]:
    names = {*table.key, *table.columns}
    for row in rows:
        if set(row) != names:
            raise KeyError(f"table {table.name} has other columns")
        found = {name: _value(table, name, row[name]) for name in row}
        yield table.key_of(found), found


def _value(table: Table, name: str, value: Any) -> Any:
    is_time = value is not None and table.columns.get(name) == "timestamptz"
    return datetime.fromisoformat(value) if is_time else value
