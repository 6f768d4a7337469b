"""What an event did to the files wanted on a node, through which resources, and what would undo it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from typing import Any

from reconciler.bisection.states import Past, State, Wish
from reconciler.events.catalogue import RolledBack
from reconciler.projections.desired import Desired
from reconciler.projections.tables import HOLDS
from reconciler.registries.lint_hosts import Kind, kind_of
from reconciler.stages.context import Context
from reconciler.stages.differences import difference
from reconciler.stages.traces import Scope


async def file_differences(
    past: Past, before: Wish, after: Wish, kinds: Collection[Kind] | None = None
) -> list[dict[str, Any]]:
    """Each path (of these kinds) that differs, both sides as text."""
    old, new = await past.contents(before), await past.contents(after)
    return [
        difference(path, old.get(path), new.get(path))
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path) and (kinds is None or kind_of(path) in kinds)
    ]


async def changed_resources(context: Context, state: State, before: Wish, after: Wish) -> set[str]:
    """The resources of which another content (or none) is in force since the state began."""
    old = await _contents(context, state.before, before.scope)
    new = await _contents(context, state.position, after.scope)
    return {resource for resource in {*old, *new} if old.get(resource) != new.get(resource)}


async def _contents(context: Context, position: int, scope: Scope) -> dict[str, str]:
    desired = Desired(context.name, (await context.snapshot(position)).rows)
    return {name: version.content for name, version in desired.in_force(*scope).items()}


async def undo(
    context: Context, state: State, resources: Sequence[str], *, pool: str | None, node: str | None
) -> list[str]:
    """The commands that take back what the event did, and nothing else. None where it changed no resource but a pool's
    settings, the inventory or the host itself: no rollback takes that back."""
    body = state.event.body
    if isinstance(body, RolledBack) and (await context.snapshot()).one(HOLDS, context.name, body.hold):
        return [f"reconciler hold lift {body.hold} --reason TEXT"]
    narrower = f" --node {node}" if node else f" --pool {pool}" if pool else ""
    back = f"reconciler rollback --to '#{state.before}'{narrower}"
    return [f"{back} --resource {shlex.quote(name)} --reason TEXT" for name in resources]
