"""`reconciler override`: a person gives up images that the lock-out guard protects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import flag, fleet, option, output, waiting
from reconciler.cli.output import count, print_object, short
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import bring_to_nodes
from reconciler.errors import UsageError


@click.command()
@option("--pool", required=True, metavar="NAME", show_default="required", help="The pool that the guard blocks.")
@option(
    "--image",
    required=True,
    metavar="GLOB",
    show_default="required",
    help="The images to give up; '*' takes in '/'.",
)
@option("--reason", metavar="TEXT", show_default="required, but for --dry-run", help="Why; it is recorded.")
@flag("--dry-run", help="Show which images would be given up, and record nothing.")
@yes
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def override(
    session: Session, pool: str, image: str, reason: str | None, dry_run: bool, yes: bool, wait: bool,
    timeout: float, output: str,
) -> int:  # fmt: skip
    """Let a pool's blocked content come although images can then no longer be pulled: those that GLOB matches.

    It holds for exactly the content that waits now; a newer commit is judged anew.
    """
    if not (reason or dry_run):
        raise UsageError("is required: it is recorded", where="--reason")
    if not dry_run:
        confirm(f"give up the images {image} in pool {pool}: its nodes may then not be able to pull them", yes=yes)
    return run(_override(session, pool, image, reason or "", output, dry_run, timeout if wait else None))


async def _override(
    session: Session, pool: str, image: str, reason: str, form: str, dry_run: bool, within: float | None
) -> int:  # fmt: skip
    from reconciler import control  # not before it is needed: rendering's libraries take a while to load

    with progress() as report:
        async with session.context(report) as context:
            done = await control.override(context, pool=pool, glob=image, reason=reason, dry_run=dry_run)
            if form == "table":
                for line in _lines(done, dry_run=dry_run):
                    click.echo(line)
            else:
                print_object(form, {"kind": "Override", **done})
            return 0 if dry_run else await bring_to_nodes(context, within)


def _lines(done: Mapping[str, Any], *, dry_run: bool) -> Iterator[str]:
    files = ", ".join(short(name) for name in done["files"])
    yield f"{'would give up' if dry_run else 'gave up'} in pool {done['pool']}, for files {files}:"
    yield from (f"  {image}" for image in done["givenUp"])
    if done["unlisted"]:
        yield f"  and what {done['image']} matches of {count(done['unlisted'], 'image')} that the log does not list"
    if done["stillBlocking"]:
        yield "still blocked for:"
        yield from (f"  {image}" for image in done["stillBlocking"])
