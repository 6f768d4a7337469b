"""`reconciler bisect`: the first event that broke it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.bisected import CANDIDATE_COLUMNS, image_lines, print_probed
from reconciler.cli.confirm import confirm, yes
from reconciler.cli.images import checked
from reconciler.cli.options import Duration, dry_run, flag, fleet, option, output
from reconciler.cli.output import count, print_list, print_object
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.bisection import Candidate

FOUND, UNSURE = 0, 3
"""Exit codes: one event is named; one of several, or the node is not back."""


@click.command()
@option("--good", required=True, metavar="POINT", show_default="required", help="A point in time when all was well.")
@option("--bad", metavar="POINT", show_default="now", help="A later one when it was not.")
@option("--image", metavar="REF", show_default="none", help="Find what turned the verdict on this image; asks no node.")
@option(
    "--probe", metavar="COMMAND", show_default="none", help="Find since when this fails, with --node; run by sh here."
)
@option("--node", metavar="NAME", show_default="all", help="Only this node.")
@option("--pool", metavar="NAME", show_default="all", help="Only the nodes of this pool; with --image.")
@flag("--now", help="Begin the node outside of its pool's windows, too; it is recorded.")
@dry_run
@yes
@option("--timeout", type=Duration(), default="30m", help="Longest time for the node to come to a state.")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def bisect(
    session: Session, good: str, bad: str | None, image: str | None, probe: str | None, node: str | None,
    pool: str | None, now: bool, dry_run: bool, yes: bool, timeout: float, output: str,
) -> int:  # fmt: skip
    """Find the first event between two points in time that broke it: what it changed, and what would undo it.

    With --image the log tells it all: every state that nodes should have been in is judged as `why` does, no node is
    asked, and every event that turned the verdict is listed. With --probe the node is taken through earlier states by
    rollbacks of that node alone, with its windows, guard and drains, and COMMAND is run here at each: exit status 0 is
    good, 125 skips the state, any other up to 127 is bad, as for `git bisect run`. At the end, also after Ctrl-C or
    SIGTERM, the node gets back what it had. Exit code 0 when one event is named, 3 when one of several may be it or the
    node is not back yet.
    """
    if (image is None) == (probe is None):
        raise UsageError("give one of --image and --probe", remedy="--image REF, or --probe COMMAND --node NAME")
    if image is not None:
        checked([image], "--image")
        if now or dry_run:
            raise UsageError("--now and --dry-run are about a probe", remedy="leave them out: no node is touched")
        if node and pool:
            raise UsageError("--node and --pool exclude each other", remedy="name the narrower one only")
        return run(_of_image(session, output, good=good, bad=bad, image=image, node=node, pool=pool))
    if node is None or pool is not None:
        raise UsageError("a probe is of one node", where="--probe", remedy="name it with --node, and no pool")
    ends = {"good": good, "bad": bad, "node": node}
    if dry_run:
        candidates = run(_candidates(session, ends))[1]
        click.echo(f"dry run: at most {_steps(candidates)} of these would be probed, unless some are skipped", err=True)
        print_list(
            output, [one.event for one in candidates], CANDIDATE_COLUMNS, lambda item: f"event/{item['position']}"
        )
        return FOUND
    return run(_of_probe(session, output, str(probe), ends, yes=yes, now=now, within=timeout))


async def _of_image(session: Session, form: str, **asked: Any) -> int:
    from reconciler import bisection  # not before it is needed: rendering's libraries take a while to load

    with progress() as report:
        async with session.context(report) as context:
            found = await bisection.bisect_image(context, **asked)
    if form == "table":
        for line in image_lines(found):
            click.echo(line)
    else:
        print_object(form, {"kind": "Bisection", **found})
    return FOUND


async def _candidates(session: Session, ends: dict[str, Any]) -> tuple[tuple[int, int], list[Candidate]]:
    from reconciler import bisection  # as above

    async with session.context() as context:
        return await bisection.probe_candidates(context, **ends)


def _steps(candidates: Sequence[Candidate]) -> int:
    """How many a search probes at most, where none is skipped: the last is taken to be bad."""
    return (len(candidates) - 1).bit_length()


async def _of_probe(
    session: Session, form: str, command: str, ends: dict[str, Any], *, yes: bool, now: bool, within: float
) -> int:
    from reconciler import bisection  # as above
    from reconciler.bisection.command import run_command

    def said(text: str) -> None:
        click.echo(text, err=True, nl=False)

    # SIGTERM as Ctrl-C: the node is given back, and a second one ends it at once
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
    async with session.context() as context:
        (first, last), candidates = await bisection.probe_candidates(context, **ends)
        steps = _steps(candidates)
        what = f"take {ends['node']} through {count(steps, 'state')} of {len(candidates)} between #{first} and #{last}"
        confirm(f"{what}, and back", yes=yes or not steps)
        with progress() as report:
            context.progress = report
            found = await bisection.bisect_probe(
                context, lambda one: run_command(command, context.name, one, said), **ends, now=now, within=within
            )
    print_probed(form, found)
    return UNSURE if found["first"] is None or found["returned"]["reason"] else FOUND
