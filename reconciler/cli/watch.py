"""`--watch`: after each change of the log, the items that are new or differ."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import click

from reconciler.cli.output import Column, Item, print_object, table

if TYPE_CHECKING:
    from reconciler.stages.context import Context


async def watch(
    context: Context,
    wanted: Callable[[], Awaitable[Sequence[Item]]],
    before: Sequence[Item],
    form: str,
    columns: Sequence[Column],
    kind: str,
    key: str,
) -> None:
    """Follow the log for ever; ended by Ctrl-C. Rows have no header, objects stand one after the other."""
    from reconciler.ports import EventFilter  # not before it is needed: it takes a while to load

    known = list(before)
    newest = await context.log.read(EventFilter(newest_first=True, limit=1))
    async for event in context.log.follow(newest[0].position if newest else 0):
        if event.fleet != context.name:
            continue
        items = await wanted()
        changed = [item for item in items if item not in known]
        known = list(items)
        _print(form, changed, columns, kind, key)


def _print(form: str, items: Sequence[Item], columns: Sequence[Column], kind: str, key: str) -> None:
    if form in ("json", "yaml"):
        for item in items:
            print_object(form, item)
    elif form == "name":
        for item in items:
            click.echo(f"{kind}/{item[key]}")
    else:
        for line in table(items, columns, wide=form == "wide", header=False):
            click.echo(line)
