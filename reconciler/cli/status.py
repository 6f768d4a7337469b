"""`reconciler status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import fleet, output
from reconciler.cli.output import Column, moment, print_object, problem_text, short, table
from reconciler.cli.past import asked, at_option
from reconciler.cli.session import Session, run

if TYPE_CHECKING:
    from reconciler.projections.status import FleetStatus

POOLS = (
    Column("POOL", lambda item: item["name"]),
    Column("MODE", lambda item: item["mode"]),
    Column("CONFIG", lambda item: item["config"]),
    Column("COMMIT", lambda item: short(item["commit"])),
    Column("NODES", lambda item: item["machineCount"]),
    Column("UPDATED", lambda item: item["updatedMachineCount"]),
    Column("DEGRADED", lambda item: item["degradedMachineCount"]),
    Column("ROLLOUT", lambda item: item["rollout"]),
    Column("GUARD", lambda item: item["guard"]),
)
ATTENTION = (
    Column("NODE", lambda item: item["name"]),
    Column("POOL", lambda item: item["pool"]),
    Column("FILES", lambda item: item["files"]),
    Column("READY", lambda item: item["ready"]),
    Column("DRIFT", lambda item: item["drift"]),
    Column("STRAYS", lambda item: item["strays"]),
    Column("REASON", lambda item: item["reason"]),
)


@click.command()
@at_option
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def status(session: Session, at: str | None, output: str) -> int:
    """Show how the fleet stands, or stood, from the log: no node and no repository is asked.

    Ends with 0 converged, 1 a node failed or Git was never read and cannot be, 3 not converged, 4 the newest commit was
    rejected.
    """
    found, data = run(_status(session, at))
    print_status(output, data)
    return found.exit_code


async def _status(session: Session, at: str | None) -> tuple[FleetStatus, dict[str, Any]]:
    from reconciler import queries  # not before it is needed: rendering's libraries take a while to load

    async with asked(session, at) as question:
        found, data = await queries.status(question.context)
        return found, {**data, **(question.metadata or {})}


def print_status(form: str, data: Mapping[str, Any]) -> None:
    """The answer of `queries.status`."""
    if form != "table":
        print_object(form, {"kind": "FleetStatus", **data})
        return
    for name, text in _facts(data):
        click.echo(f"{name + ':' if name else '':<10} {text}")
    for items, columns in ((data["pools"], POOLS), (data["nodes"]["attention"], ATTENTION)):
        if items:
            click.echo()
            for line in table(items, columns):
                click.echo(line)


def _facts(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    source, nodes = data["source"], data["nodes"]
    then = f", as of {moment(data['asOf']['at'])}" if "asOf" in data else ""
    yield "Fleet", f"{data['fleet']} at #{data['position']}{then}"
    where = f"{source['url']} branch {source['branch']}" if source["url"] else "not read yet"
    yield "Source", f"{where}, head {short(source['head']) or 'none'}, signatures {data['signatures']}"
    if source["unreachable"]:
        yield "", f"unreachable since {source['unreachableSince'][:19]}Z: {source['unreachable']}"
    if source["rewritten"]:
        yield "", f"the branch was rewritten to {short(source['rewritten'])}: `reconciler accept --reason TEXT`"
    yield from _cluster_facts(data["cluster"])
    if data["restored"]:
        yield "Restored", f"{data['restored']}; no node is written: `reconciler accept --restore --reason TEXT`"
    yield "Guard", data["guard"]
    yield "Nodes", f"{nodes['converged']} of {nodes['total']} converged"
    if data["holds"]:
        yield "Holds", f"{', '.join(data['holds'])}: `reconciler hold show {data['holds'][0]}`"
    if data["overdue"]:
        yield "Overdue", f"{', '.join(data['overdue'])}: it was to end by now; `reconciler hold lift` ends it"
    if data["waiting"] and data["waiting"].get("reason"):
        held = f"commit {short(data['waiting']['commit'])} of pool {', '.join(data['waiting']['pools'])}"
        yield "Held back", f"{held}, for beside what holds keep: {data['waiting']['reason']}"
    elif data["waiting"]:
        commit = short(data["waiting"]["commit"])
        removes = "; ".join(data["waiting"]["removes"])
        yield "Waiting", f"commit {commit} removes {removes}: `reconciler approve {commit} --reason TEXT`"
    if data["rejected"]:
        yield "Rejected", f"commit {short(data['rejected'])}; the last good state stays"
    for pool in data["pools"]:
        yield from _pool_facts(pool, data["rejected"])
    for problem in data["problems"]:
        yield "", problem_text(problem)
    for certificate in data["expiring"]:
        yield "Expires", f"pool {', '.join(certificate['pools'])}: {problem_text(certificate)}"


def _cluster_facts(cluster: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Why it cannot be asked, and who has to do what."""
    if cluster:
        said = {"": "unreachable", "refused": "refuses us", "other": "not believed"}[cluster["cause"]]
        yield "Cluster", f"{said} since {cluster['since'][:19]}Z: {cluster['unreachable']}"
        if cluster["cause"] == "other":
            yield "", "if it is the fleet's: `reconciler accept --cluster --reason TEXT`"


def _pool_facts(pool: Mapping[str, Any], rejected: str | None) -> Iterator[tuple[str, str]]:
    """What holds a pool back. `rejected` is the commit that the whole fleet rejects."""
    if pool["rejected"] and pool["rejected"] != rejected:
        yield "Rejected", f"commit {short(pool['rejected'])} by pool {pool['name']}"
    if pool["blocked"]:
        yield "Blocked", f"pool {pool['name']}: {pool['blocked']}"
    for lock in pool["locks"]:
        yield "Paused", f"pool {pool['name']}: {lock}"
    for why in pool["waits"]:
        yield "Waiting", f"pool {pool['name']}: {why}"
