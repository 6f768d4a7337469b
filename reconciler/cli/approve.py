"""`reconciler approve` and `reconciler accept`: a person's word for what waits for one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import dry_run, fleet, output, reason, waiting
from reconciler.cli.output import print_object
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import bring_to_nodes

if TYPE_CHECKING:
    from reconciler.stages.context import Context


@click.command()
@click.argument("commit", required=False, metavar="[COMMIT]")
@reason("Why; it is recorded.")
@yes
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def approve(
    session: Session,
    commit: str | None,
    reason: str,
    yes: bool,
    dry_run: bool,
    wait: bool,
    timeout: float,
    output: str,
) -> int:
    """Approve the commit that waits, because it takes away an Image, all mirrors, all CAs or many nodes."""
    from reconciler import commands  # not before it is needed: rendering's libraries take a while to load

    async def say(context: Context) -> Mapping[str, Any]:
        done = await commands.approve(context, commit, reason=reason, dry_run=dry_run)
        _print(output, "Approval", done, f"approved {done['approved'][:12]}: removes {'; '.join(done['removes'])}")
        return done

    if dry_run:
        return run(_preview(session, say))
    confirm(f"approve {commit or 'the commit that waits'}, with all that it removes", yes=yes)
    return run(_then_wait(session, say, timeout if wait else None))


@click.command()
@reason("Why; it is recorded.")
@yes
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def accept(session: Session, reason: str, yes: bool, dry_run: bool, wait: bool, timeout: float, output: str) -> int:
    """Accept a rewritten branch: its head is recorded as one commit over what was before."""
    from reconciler import commands  # as above

    async def say(context: Context) -> Mapping[str, Any]:
        done = await commands.accept(context, reason=reason, dry_run=dry_run)
        _print(output, "Acceptance", done, f"accepted {done['accepted'][:12]} over {done['oldHead'][:12]}")
        return done

    if dry_run:
        return run(_preview(session, say))
    confirm("accept the rewritten branch", yes=yes)
    return run(_then_wait(session, say, timeout if wait else None))


async def _preview(session: Session, say: Callable[[Context], Awaitable[Mapping[str, Any]]]) -> int:
    async with session.context() as context:
        await say(context)
        return 0


async def _then_wait(
    session: Session, say: Callable[[Context], Awaitable[Mapping[str, Any]]], within: float | None
) -> int:
    with progress() as report:
        async with session.context(report) as context:
            await say(context)
            return await bring_to_nodes(context, within)


def _print(form: str, kind: str, data: Mapping[str, Any], line: str) -> None:
    if form == "table":
        click.echo(f"{line} (dry run)" if data["dryRun"] else line)
    else:
        print_object(form, {"kind": kind, **data})
