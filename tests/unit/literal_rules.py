"""MCO's rules for registries.conf once more, word for word and without regard for speed: what `render` must agree with.

Source: runtime-utils pkg/registries/registries.go, `EditRegistriesConfig` and `mergedMirrorSets`, step by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

Row = tuple[str, Sequence[str], bool]
"""A source, its mirrors, and whether the source is never contacted."""


class BelowWildcard(Exception):
    """The mirrors of a wildcard source would have to be written for a table below it."""


def nested(inner: str, outer: str) -> bool:
    if inner == outer or inner.startswith(f"{outer}/"):
        return True
    if not outer.startswith("*."):
        return False
    if ":" in inner:
        host = inner.split(":", 1)[0]
        return host.endswith(outer[1:]) and "/" not in host
    return inner.split("/", 1)[0].endswith(outer[1:])


def merged(rows: Iterable[Row]) -> list[tuple[str, list[str], bool]]:
    """Per source, sorted: its mirrors in one order, and whether it is blocked. A row that mirrors nothing is no row."""
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        if set(row[1]) - {row[0]}:
            by_source.setdefault(row[0], []).append(row)
    return [
        (source, _order(source, [row[1] for row in found]), any(never for _, _, never in found))
        for source, found in sorted(by_source.items())
    ]


def _order(source: str, lists: Sequence[Sequence[str]]) -> list[str]:
    edges = {pair for mirrors in lists for pair in pairwise(mirrors)}
    edges |= {(mirrors[-1], source) for mirrors in lists if source not in mirrors}
    nodes = sorted({source, *(mirror for mirrors in lists for mirror in mirrors)})
    queue = [node for node in nodes if not any(to == node for _, to in edges)]
    order: list[str] = []
    while len(order) < len(nodes):
        node = queue.pop(0) if queue else next(node for node in nodes if node not in order)
        order.append(node)
        after = sorted({to for begin, to in edges if begin == node})
        edges = {edge for edge in edges if edge[0] != node}
        queue += [n for n in after if n not in (*order, *queue) and not any(to == n for _, to in edges)]
    return order[:-1] if order[-1] == source else order


def tables(
    insecure: Sequence[str], blocked: Sequence[str], by_digest: Iterable[Row], by_tag: Iterable[Row]
) -> dict[str, dict[str, Any]]:
    """Scope → `blocked`, `insecure`, and `mirrors` as (location, pull-from-mirror, insecure). Raises BelowWildcard."""
    found: dict[str, dict[str, Any]] = {}

    def table(scope: str) -> dict[str, Any]:
        return found.setdefault(scope, {"blocked": False, "insecure": False, "mirrors": []})

    sources = [*((row, "digest-only") for row in merged(by_digest)), *((row, "tag-only") for row in merged(by_tag))]
    for (source, mirrors, never), limit in sources:
        table(source)["mirrors"] += [[mirror, limit, False] for mirror in mirrors]
        table(source)["blocked"] |= never
    for entry in (*blocked, *insecure):
        table(entry)
    for scope, wanted in found.items():
        wanted["insecure"] = any(nested(scope, entry) for entry in insecure)
        wanted["blocked"] |= any(nested(scope, entry) for entry in blocked)
        for mirror in wanted["mirrors"]:
            mirror[2] = any(nested(mirror[0], entry) for entry in insecure)
    for (source, _, _), _ in sources:
        for scope, wanted in found.items():
            if scope != source and nested(scope, source) and not wanted["mirrors"]:
                if source.startswith("*."):
                    raise BelowWildcard
                rest = scope[len(source) :]
                wanted["mirrors"] = [[place + rest, *others] for place, *others in found[source]["mirrors"]]
    return found
