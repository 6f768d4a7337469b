"""`reconciler get KIND`: lists, as `oc get` prints them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.events import EVENT_COLUMNS, event_filter, event_filters
from reconciler.cli.hold import HOLD_COLUMNS
from reconciler.cli.options import flag, fleet, option, output
from reconciler.cli.output import FORMS, Age, Column, Item, print_list, short
from reconciler.cli.past import asked, at_option
from reconciler.cli.session import Session, run
from reconciler.cli.watch import watch
from reconciler.errors import UsageError
from reconciler.selector import matching

if TYPE_CHECKING:
    from reconciler.stages.context import Context

NODE_COLUMNS = (
    Column("NAME", lambda item: item["name"]),
    Column("STATUS", lambda item: item["status"]),
    Column("ROLES", lambda item: item["roles"]),
    Column("AGE", Age("createdAt")),
    Column("VERSION", lambda item: item["version"]),
    Column("POOL", lambda item: item["pool"]),
    Column("FILES", lambda item: item["files"]),
    Column("DRIFT", lambda item: len(item["drift"]) or ""),
    Column("LAST-SEEN", Age("lastSeen")),
    Column("TRANSPORT", lambda item: item["transport"], wide=True),
    Column("ADDRESS", lambda item: item["address"], wide=True),
    Column("ZONE", lambda item: item["zone"], wide=True),
    Column("KUBELET", lambda item: item["kubelet"], wide=True),
    Column("CONTAINER-RUNTIME", lambda item: item["containerRuntime"], wide=True),
    Column("WANTED", lambda item: short(item["wanted"]), wide=True),
    Column("APPLIED", lambda item: short(item["applied"]), wide=True),
    Column("STRAYS", lambda item: len(item["strays"]) or "", wide=True),
    Column("REASON", lambda item: item["reason"], wide=True),
)
POOL_COLUMNS = (
    Column("NAME", lambda item: item["name"]),
    Column("CONFIG", lambda item: item["config"]),
    Column("UPDATED", lambda item: item["updated"]),
    Column("UPDATING", lambda item: item["updating"]),
    Column("DEGRADED", lambda item: item["degraded"]),
    Column("MACHINECOUNT", lambda item: item["machineCount"]),
    Column("READYMACHINECOUNT", lambda item: item["readyMachineCount"]),
    Column("UPDATEDMACHINECOUNT", lambda item: item["updatedMachineCount"]),
    Column("DEGRADEDMACHINECOUNT", lambda item: item["degradedMachineCount"]),
    Column("AGE", Age("createdAt")),
    Column("PAUSED", lambda item: item["paused"], wide=True),
    Column("HELD", lambda item: item["held"], wide=True),
    Column("GUARD", lambda item: item["guard"], wide=True),
    Column("COMMIT", lambda item: short(item["commit"]), wide=True),
    Column("MODE", lambda item: item["mode"], wide=True),
    Column("ROLLOUT", lambda item: item["rollout"], wide=True),
)
RESOURCE_COLUMNS = (
    Column("NAME", lambda item: item["name"]),
    Column("POOLS", lambda item: item["pools"]),
    Column("FILE", lambda item: item["file"]),
    Column("COMMIT", lambda item: short(item["commit"])),
    Column("HOLD", lambda item: item["hold"]),
    Column("SHADOWED-IN", lambda item: item["shadowed"], wide=True),
    Column("CONTENT", lambda item: short(item["content"]), wide=True),
)

ROLLOUT_COLUMNS = (
    Column("POOL", lambda item: item["pool"]),
    Column("ROLLOUT", lambda item: item["name"][:8]),
    Column("STATE", lambda item: item["state"]),
    Column("KIND", lambda item: item["kind"]),
    Column("WAVE", lambda item: item["wave"]),
    Column("NODES", lambda item: item["nodes"]),
    Column("CONVERGED", lambda item: item["converged"]),
    Column("FAILED", lambda item: item["failed"]),
    Column("DEFERRED", lambda item: item["deferred"]),
    Column("CLASS", lambda item: item["disruption"]),
    Column("ACTION", lambda item: item["effective"]),
    Column("AGE", Age("startedAt")),
    Column("COMMIT", lambda item: short(item["commit"])),
    Column("PLAN", lambda item: short(item["plan"]), wide=True),
    Column("OUTCOME", lambda item: item["outcome"], wide=True),
)

watching = flag("-w", "--watch", help="Then print what changes, until Ctrl-C.")


@click.group()
@fleet
def get() -> None:
    """List nodes, pools, rollouts, resources, holds or events."""


@get.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@option("-l", "--selector", default="", metavar="LABELS", show_default="all", help="Only nodes with these labels.")
@at_option
@watching
@output(*FORMS)
@fleet
@click.pass_obj
def nodes(session: Session, names: Sequence[str], selector: str, at: str | None, watch: bool, output: str) -> None:
    """List nodes. FILES says how a node's files stand to what is wanted."""
    from reconciler import queries  # not before it is needed: rendering's libraries take a while to load

    matches = matching(selector)

    async def wanted(context: Context) -> Sequence[Item]:
        return [item for item in _named(await queries.list_nodes(context), names) if matches(item["labels"])]

    run(_list(session, wanted, output, NODE_COLUMNS, "node", watched=watch, at=at))


@get.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@at_option
@watching
@output(*FORMS)
@fleet
@click.pass_obj
def pools(session: Session, names: Sequence[str], at: str | None, watch: bool, output: str) -> None:
    """List pools, with the columns of `oc get mcp`."""
    from reconciler import queries  # as above

    async def wanted(context: Context) -> Sequence[Item]:
        return _named(await queries.list_pools(context), names)

    run(_list(session, wanted, output, POOL_COLUMNS, "pool", watched=watch, at=at))


@get.command()
@option("--pool", metavar="NAME", show_default="all", help="Only of this pool.")
@at_option
@watching
@output(*FORMS)
@fleet
@click.pass_obj
def rollouts(session: Session, pool: str | None, at: str | None, watch: bool, output: str) -> None:
    """List rollouts, the newest first. CONVERGED, FAILED and DEFERRED count nodes of its waves as they are now."""
    from reconciler import describe  # as above

    async def wanted(context: Context) -> Sequence[Item]:
        return await describe.list_rollouts(context, pool)

    run(_list(session, wanted, output, ROLLOUT_COLUMNS, "rollout", watched=watch, at=at))


@get.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@option("--pool", metavar="NAME", show_default="all", help="Only what this pool takes.")
@at_option
@watching
@output(*FORMS)
@fleet
@click.pass_obj
def resources(
    session: Session, names: Sequence[str], pool: str | None, at: str | None, watch: bool, output: str
) -> None:
    """List the resources in force, with the place in Git each comes from and the hold that keeps it."""
    from reconciler import queries  # as above

    async def wanted(context: Context) -> Sequence[Item]:
        return _named(await queries.list_resources(context, pool), names)

    run(_list(session, wanted, output, RESOURCE_COLUMNS, "resource", watched=watch, at=at))


@get.command()
@click.argument("names", nargs=-1, metavar="[ID]...")
@at_option
@watching
@output(*FORMS)
@fleet
@click.pass_obj
def holds(session: Session, names: Sequence[str], at: str | None, watch: bool, output: str) -> None:
    """List holds: the rollbacks in force against newer commits."""
    from reconciler import queries  # as above

    async def wanted(context: Context) -> Sequence[Item]:
        return _named(await queries.list_holds(context), names)

    run(_list(session, wanted, output, HOLD_COLUMNS, "hold", watched=watch, at=at))


@get.command()
@event_filters
@watching
@output(*FORMS)
@fleet
@click.pass_obj
def events(session: Session, /, watch: bool, output: str, **filters: Any) -> None:
    """List events as they stand in the log, the newest last."""
    from reconciler import queries  # as above

    async def wanted(context: Context) -> Sequence[Item]:
        found = await queries.list_events(context, await event_filter(context, **filters))
        return found[::-1]

    run(_list(session, wanted, output, EVENT_COLUMNS, "event", watched=watch, key="position"))


async def _list(
    session: Session,
    wanted: Callable[[Context], Awaitable[Sequence[Item]]],
    form: str,
    columns: Sequence[Column],
    kind: str,
    *,
    watched: bool,
    key: str = "name",
    at: str | None = None,
) -> None:
    if at and watched:
        raise UsageError("the past does not change", where="--watch", remedy="leave out --watch or --at")
    async with asked(session, at) as question:
        context = question.context
        items = await wanted(context)
        question.say(columns)
        print_list(form, items, question.columns(columns), lambda item: f"{kind}/{item[key]}", question.metadata)
        if watched:
            await watch(context, lambda: wanted(context), items, form, columns, kind, key)


def _named(items: Sequence[Item], names: Sequence[str]) -> Sequence[Item]:
    """The items asked for by name, in that order, or all. Raises UsageError for a name that is not there."""
    if not names:
        return items
    by_name: dict[str, list[Item]] = {}
    for item in items:
        by_name.setdefault(item["name"], []).append(item)
    for name in names:
        if name not in by_name:
            raise UsageError(f"not found: {name}", remedy=f"there are: {', '.join(by_name) or 'none'}")
    return [item for name in names for item in by_name[name]]
