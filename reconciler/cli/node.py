"""`reconciler node log` and `reconciler verify-node`."""

from __future__ import annotations

from typing import Any

import click

from reconciler.cli.diff import print_difference
from reconciler.cli.events import event_filter
from reconciler.cli.options import flag, fleet, option, output
from reconciler.cli.output import FORMS, Column, Item, moment, print_list, print_object, short, table
from reconciler.cli.session import Session, run

LOG_COLUMNS = (
    Column("POSITION", lambda item: f"#{item['position']}"),
    Column("STARTED", lambda item: moment(item["startedAt"])),
    Column("PURPOSE", lambda item: item["purpose"]),
    Column("ACTION", lambda item: item["effective"]),
    Column("OUTCOME", lambda item: item["outcome"]),
    Column("TOOK", lambda item: "" if item["seconds"] is None else f"{item['seconds']:.1f}s"),
    Column("COMMIT", lambda item: short(item["cause"]["commit"])),
    Column("PR", lambda item: f"#{item['cause']['pullRequest']}" if item["cause"]["pullRequest"] else ""),
    Column("BY", lambda item: item["cause"]["author"] or item["cause"]["actor"]),
    Column("CAUSE", lambda item: f"{item['cause']['type']}: {item['cause']['summary']}"),
    Column("SUMMARY", lambda item: item["summary"], wide=True),
    Column("CLASS", lambda item: item["disruption"], wide=True),
    Column("ROLLOUT", lambda item: (item["rollout"] or "")[:8], wide=True),
)
CHECK_COLUMNS = (
    Column("CHECK", lambda item: item["check"]),
    Column("STATE", lambda item: item["state"]),
    Column("DETAIL", lambda item: item["detail"]),
)
VERDICTS = {"as proved": 0, "differs": 3, "unreachable": 1}
"""Verdict → exit code."""


@click.group()
@fleet
def node() -> None:
    """What was done on a node."""


@node.command()
@click.argument("name", metavar="NODE")
@option("--since", metavar="POINT", show_default="the beginning", help="Only what was begun after this point in time.")
@option("--limit", type=click.IntRange(1), default=20, help="At most this many, the newest.")
@flag("--diff", help="With what each action changed in the files.")
@output(*FORMS)
@fleet
@click.pass_obj
def log(session: Session, name: str, since: str | None, limit: int, diff: bool, output: str) -> None:
    """Show each action on a node, newest first: when, what, how it ended, how long it took, and what it goes back to.

    The cause is a commit with its author and pull request, a rollback, drift, or a person's word.
    """
    items = run(_log(session, name, since, limit, diff=diff))
    if not diff or output in ("json", "yaml", "name"):
        print_list(output, items, LOG_COLUMNS, lambda item: f"event/{item['position']}")
        return
    for item in items:
        for line in table([item], LOG_COLUMNS, wide=output == "wide", header=item is items[0]):
            click.echo(line)
        for difference in item["diff"]:
            print_difference({"node": name, **difference}, "before", "after")


async def _log(session: Session, name: str, since: str | None, limit: int, *, diff: bool) -> list[dict[str, Any]]:
    from reconciler import node_log  # not before it is needed: rendering's libraries take a while to load

    async with session.context() as context:
        wanted = await event_filter(context, type=(), since=since, until=None, limit=limit)
        return await node_log.node_log(context, name, wanted, diff=diff)


@click.command("verify-node")
@click.argument("name", metavar="NODE")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def verify_node(session: Session, name: str, output: str) -> int:
    """Ask a node now, and hold what it shows against what its receipts proved. Nothing is written or recorded.

    Ends with 0 when all is as proved and wanted, 3 when something differs, 1 when the node does not answer.
    """
    data = run(_verify(session, name))
    if output == "table":
        _print(data)
    else:
        print_object(output, {"kind": "NodeVerification", **data})
    return VERDICTS[data["verdict"]]


def _print(data: Item) -> None:
    if data["verdict"] == "unreachable":
        click.echo(f"{data['node']}: {data['reason']}", err=True)
        return
    for line in table(data["checks"], CHECK_COLUMNS):
        click.echo(line)
    if data["effective"]:
        click.echo(f"the runtime also reads: {', '.join(data['effective'])}")


async def _verify(session: Session, name: str) -> dict[str, Any]:
    from reconciler import node_log  # as above

    async with session.context() as context:
        return await node_log.verify_node(context, name)
