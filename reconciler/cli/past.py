"""--at: a question asked of the past."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from reconciler.cli.events import POINT, absolute
from reconciler.cli.options import Command, option
from reconciler.cli.output import Age, Column, Item, moment
from reconciler.cli.session import Session

if TYPE_CHECKING:
    from reconciler.stages.context import Context
    from reconciler.stages.past import Past

NOT_RECORDED = ("VERSION", "LAST-SEEN")
"""Columns of what is no part of the log."""


def at_option(command: Command) -> Command:
    """--at."""
    return option("--at", metavar="POINT", show_default="now", help=f"As it was then. {POINT}")(command)


@dataclass(frozen=True)
class Asked:
    """The context to ask, and the point in time where one is asked about."""

    context: Context
    past: Past | None = None

    @property
    def metadata(self) -> Item | None:
        """As lists in JSON have it."""
        return {"asOf": self.past.as_data()} if self.past else None

    def columns(self, columns: Sequence[Column]) -> Sequence[Column]:
        """The columns with ages as of then, and without those of what is not recorded."""
        if self.past is None:
            return columns
        kept = [column for column in columns if column.header not in NOT_RECORDED]
        return [replace(c, cell=replace(c.cell, now=self.past.at)) if isinstance(c.cell, Age) else c for c in kept]

    def say(self, columns: Sequence[Column] = ()) -> None:
        """On standard error, as of when the answer is; and what of `columns` is not told, since it is not recorded."""
        if self.past is None:
            return
        left_out = [column.header for column in columns if column.header in NOT_RECORDED]
        unsaid = f"; not told, as no event records it: {', '.join(left_out)}" if left_out else ""
        click.echo(f"as of {place_of(self.past)}{unsaid}", err=True)
        for note in self.past.notes:
            click.echo(note, err=True)


def place_of(past: Past) -> str:
    """`#57, 2026-01-31T09:00:00Z`."""
    return f"#{past.position}, {moment(past.as_data()['at'])}"


@asynccontextmanager
async def asked(session: Session, at: str | None, *, settled: bool = False) -> AsyncIterator[Asked]:
    """The chosen fleet, at a point in time where one is given; `settled` as `stages.past` says."""
    async with session.context() as context:
        found = await the_past(context, at, settled=settled) if at else None
        yield Asked(found.context if found else context, found)


async def the_past(context: Context, at: str, *, settled: bool = False) -> Past:
    """The fleet at a point in time, which may also be `90m` (ago). Raises UsageError."""
    from reconciler.stages.past import past  # not before it is needed: rendering's libraries take a while to load

    return await past(context, absolute(at, context.clock.now()), settled=settled)
