"""`reconciler diff`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import click

from reconciler.cli.failures import report
from reconciler.cli.options import fleet, output
from reconciler.cli.output import Item, print_object
from reconciler.cli.session import Session, run

SAME, DIFFERS, FAILED = 0, 1, 2
"""Exit codes, as kubectl diff has them."""

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command()
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def diff(session: Session, nodes: Sequence[str], output: str) -> int:
    """Show what would change on nodes: each file as it is now against what is wanted (asks the nodes).

    Exit code 0: no difference; 1: differences; 2: an error, or a node that does not answer.
    """
    try:
        items = run(_diff(session, nodes))
    except Exception as error:  # noqa: BLE001 - 1 says "differs": no error may end with it
        report(error)
        return FAILED
    if output != "table":
        print_object(output, {"kind": "List", "items": items})
    unanswered = [item for item in items if "error" in item]
    for item in unanswered:
        click.echo(f"{item['node']}: {item['error']}", err=True)
    for item in items if output == "table" else ():
        if "error" not in item:
            print_difference(item, "now", "wanted")
    return FAILED if unanswered else DIFFERS if items else SAME


async def _diff(session: Session, nodes: Sequence[str]) -> list[dict[str, Any]]:
    from reconciler import queries  # not before it is needed: rendering's libraries take a while to load

    async with session.context() as context:
        return await queries.diff(context, nodes or None)


def print_difference(item: Item, before: str, after: str) -> None:
    """A unified diff, coloured on a terminal."""
    for line in difference_lines(item, before, after):
        click.echo(line)


def difference_lines(item: Item, before: str, after: str) -> Iterator[str]:
    """The same as lines; what prints them takes the colours away where they do not belong."""
    place = f"{item['node']}:{item['path']}"
    lines = difflib.unified_diff(
        item["from"].splitlines(), item["to"].splitlines(), f"{place} ({before})", f"{place} ({after})", lineterm=""
    )
    for line in lines:
        yield click.style(line, fg=_COLOURS.get(line[:1]))
