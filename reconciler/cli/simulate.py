"""`reconciler simulate`: a rollout tried out on nodes in memory, before it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import Duration, flag, fleet, option, output
from reconciler.cli.output import Column, count, print_object, span, table
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.simulation.simulate import Script

DIRECTORY = click.Path(path_type=Path)
SHOWN = 10
"""Nodes of a kind that the table names."""

POOLS = (
    Column("POOL", lambda item: item["name"]),
    Column("NODES", lambda item: item["nodes"]),
    Column("CONVERGED", lambda item: item["converged"]),
    Column("DEFERRED", lambda item: item["deferred"]),
    Column("FAILED", lambda item: item["failed"]),
    Column("WAITING", lambda item: item["waiting"]),
    Column("DOWN", lambda item: item["mostDown"]),
    Column("UNAVAILABLE", lambda item: item["mostUnavailable"]),
    Column("CLASS", lambda item: item["disruption"]),
    Column("ACTION", lambda item: item["effective"]),
    Column("ROLLOUT", lambda item: item["rollout"]),
)
WAVES = (
    Column("POOL", lambda item: item["pool"]),
    Column("WAVE", lambda item: item["wave"]),
    Column("KIND", lambda item: item["kind"]),
    Column("NODES", lambda item: item["nodes"]),
    Column("BEGAN", lambda item: span(item["began"])),
    Column("ENDED", lambda item: None if item["ended"] is None else span(item["ended"])),
    Column("CONVERGED", lambda item: item["converged"]),
    Column("DEFERRED", lambda item: item["deferred"]),
    Column("FAILED", lambda item: item["failed"]),
)


WORDS = {
    "completed": "Completes",
    "failed": "Ends with failed nodes",
    "halted": "Halts",
    "waiting": "Does not end: nodes wait",
}


class Percent(click.ParamType[int]):
    """`5%`."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).removesuffix("%")
        if not text.isdecimal() or int(text) > 100:
            self.fail(f"{value!r} is no share of the nodes; write 5%", param, ctx)
        return int(text)


@click.command()
@option("--from", "after", type=DIRECTORY, metavar="DIR", show_default="none",
        help="Simulate the manifests below DIR, with their nodes and pools: no log, no Git.")  # fmt: skip
@option("--before", type=DIRECTORY, metavar="DIR", show_default="none: untouched hosts",
        help="With --from: the manifests that the nodes have converged on when it begins.")  # fmt: skip
@option("--ref", metavar="BRANCH", show_default="the fleet's branch",
        help="Without --from: a branch of the fleet's repository.")  # fmt: skip
@option("--fail", multiple=True, metavar="NODE:FAULT", show_default="none",
        help="Lasting trouble: reload, health, disk-full, drain, uncordon, unreachable.")  # fmt: skip
@option("--faults", type=DIRECTORY, metavar="FILE", show_default="none",
        help="A YAML list of {nodes, fault, after, for}: trouble that comes and goes.")  # fmt: skip
@option("--unreachable", type=Percent(), default="0%", help="Share of the nodes that do not answer.")
@option("--seed", type=int, default=0, help="Draws the nodes of --unreachable.")
@option("--write", type=Duration(), default="1s", help="How long a node writes its files.")
@option("--reload", type=Duration(), default="2s", help="How long the runtime takes to reload.")
@option("--restart", type=Duration(), default="20s", help="How long the runtime takes to restart.")
@option("--drain", type=Duration(), default="5m", help="How long a node takes to get empty.")
@option("--interval", type=Duration(), default="1m", help="Time between two passes.")
@option("--longest", type=Duration(), default="24h", help="Virtual time after which it is over.")
@flag("--approve", help="Grant at once what people are asked to approve.")
@flag("--strict", help="With --from: refuse what today's OpenShift API refuses.")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def simulate(session: Session, /, after: Path | None, before: Path | None, ref: str | None, strict: bool,
             output: str, **script: Any) -> int:  # fmt: skip
    """Try a rollout out: the real planner on nodes in memory, in virtual time, with the faults that you name.

    Without --from it goes on from where the fleet stands in its log, with the newest commit of the branch. Nothing is
    written and no node is asked. Ends with 0 when it completes (nodes in trouble may be deferred), 1 when a pool halts
    or a node fails, 3 when it waits for a person, a window or longer than --longest.
    """
    from reconciler.simulation.report import EXIT_CODES  # not before it is needed: rendering's libraries take a while
    from reconciler.simulation.simulate import simulate_directory

    if after is not None and ref is not None:
        raise UsageError("--from and --ref exclude each other", remedy="give one of them")
    if after is None and (before is not None or strict):
        raise UsageError("--before and --strict go with --from", remedy="name the new manifests with --from DIR")
    chosen = _script(**script)
    if after is not None:
        data = simulate_directory(after, before, "strict" if strict else "default", datetime.now(UTC), chosen)
    else:
        data = _simulate_fleet(session, ref, chosen)
    if output == "table":
        _print(data)
    else:
        print_object(output, {"kind": "Simulation", **data})
    return EXIT_CODES[data["ends"]]


def _script(
    fail: Sequence[str], faults: Path | None, unreachable: int, seed: int, interval: float, longest: float,
    approve: bool, **pace: float,
) -> Script:  # fmt: skip
    from reconciler.simulation.faults import parse_fault, read_faults
    from reconciler.simulation.run import Terms
    from reconciler.simulation.simulate import Script, pace_of

    if interval <= 0:
        raise UsageError("wants at least a second", where="--interval")
    found = [*(read_faults(faults) if faults else ()), *map(parse_fault, fail)]
    return Script(pace_of(**pace), found, unreachable, seed, Terms(interval, longest, approve))


def _simulate_fleet(session: Session, ref: str | None, script: Script) -> dict[str, Any]:
    from reconciler.simulation.simulate import simulate_fleet
    from reconciler.simulation.world import Standing, standing

    async def read() -> Standing:
        name = session.fleet_name
        async with session.application() as application:
            return await standing(application.context(name), application.source(name, ref))

    return simulate_fleet(run(read()), datetime.now(UTC), script)


def _print(data: Mapping[str, Any]) -> None:
    click.echo(f"{_verdict(data)} after {span(data['seconds'])} of virtual time")
    nodes = count(data["nodes"], "node")
    most = f"at most {data['mostDown']} taken down at once, {data['mostUnavailable']} unavailable in all"
    click.echo(f"{data['converged']} of {nodes} converged; {most}")
    for halt in data["halts"]:
        click.echo(f"pool {halt['pool']} halted after {span(halt['seconds'])}: {halt['reason']}")
    for items, columns in ((data["pools"], POOLS), (data["waves"], WAVES)):
        if items:
            click.echo()
            click.echo("\n".join(table(items, columns)))
    for kind in ("failed", "deferred", "waiting"):
        _print_left(kind, data[kind])


def _verdict(data: Mapping[str, Any]) -> str:
    deferred = f", {len(data['deferred'])} deferred," if data["ends"] == "completed" and data["deferred"] else ""
    return WORDS[data["ends"]] + deferred


def _print_left(kind: str, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Who did not get there, some of each reason."""
    if nodes:
        columns = (Column(kind.upper(), lambda item: item["name"]), Column("POOL", lambda item: item["pool"]),
                   Column("REASON", lambda item: item["reason"]))  # fmt: skip
        click.echo()
        click.echo("\n".join(table(nodes[:SHOWN], columns)))
        if len(nodes) > SHOWN:
            click.echo(f"… and {len(nodes) - SHOWN} more: see -o json")
