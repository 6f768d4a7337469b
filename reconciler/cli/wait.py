"""`reconciler wait`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli.options import Duration, fleet, option
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.waits import Awaited

FORM = "write condition=TYPE, condition=TYPE=false or commit=SHA"


@click.command()
@option("--for", "awaited", required=True, metavar="condition=TYPE[=false]|commit=SHA", help="What to wait for.")
@option("--pool", metavar="NAME", show_default="all", help="Only this pool, or its nodes.")
@option("--node", metavar="NAME", show_default="all", help="Only this node.")
@option("--timeout", type=Duration(), default="30s", help="Longest time to wait.")
@fleet
@click.pass_obj
def wait(session: Session, awaited: str, pool: str | None, node: str | None, timeout: float) -> int:
    """Wait until a condition holds, or every pool that enforces has completed a commit or a newer one.

    It only watches: a service, or another `sync`, does the work. Conditions of pools: Converged, RolloutComplete,
    Updated, Updating, Degraded, Paused, Held; of nodes: Ready, Converged, Drifted, Degraded. Ends with 124 when the
    time ran out, 4 when the commit was rejected.
    """
    for name in run(_wait(session, awaited, pool, node, timeout)):
        click.echo(f"{name} condition met")
    return 0


async def _wait(session: Session, text: str, pool: str | None, node: str | None, within: float) -> list[str]:
    from reconciler import waits  # not before it is needed: rendering's libraries take a while to load

    awaited = _awaited(text, pool, node)
    with progress() as report:
        async with session.context(report) as context:
            return await waits.wait_for(context, awaited, within)


def _awaited(text: str, pool: str | None, node: str | None) -> Awaited:
    """Raises UsageError for what is neither a condition nor a commit."""
    from reconciler import waits  # as above
    from reconciler.projections.conditions import NODE_CONDITIONS, POOL_CONDITIONS

    kind, _, rest = text.partition("=")
    if kind == "commit" and rest and node is None:
        if len(rest) < 7:
            raise UsageError(f"{rest!r} is too short", where="--for", remedy="give at least 7 digits of the commit")
        return waits.Awaited(commit=rest, pool=pool)
    name, equals, value = rest.partition("=")
    if kind != "condition" or not name or (equals and value.lower() not in ("true", "false")):
        what = "a commit is completed by pools, not by a node" if kind == "commit" and rest else f"{text!r} is no such"
        raise UsageError(what, where="--for", remedy=FORM)
    known = {condition.lower(): condition for condition in (*POOL_CONDITIONS, *NODE_CONDITIONS)}
    return waits.Awaited(known.get(name.lower(), name), value.lower() != "false", pool=pool, node=node)
