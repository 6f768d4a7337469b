"""`reconciler approve` and `reconciler accept`: a person's word for what waits for one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import dry_run, flag, fleet, option, output, reason, waiting
from reconciler.cli.output import print_object
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import bring_to_nodes
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.stages.context import Context


@click.command()
@click.argument("commit", required=False, metavar="[COMMIT]")
@option("--pool", metavar="NAME", show_default="none", help="Approve what waits in this pool.")
@option("--plan", metavar="DIGEST", show_default="whatever waits", help="With --pool: approve this plan and no other.")
@flag("--now", help="With --pool: begin nodes outside of its windows, too, for an hour; it is recorded.")
@reason("Why; it is recorded.")
@yes
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def approve(
    session: Session, commit: str | None, pool: str | None, plan: str | None, now: bool, reason: str, yes: bool,
    dry_run: bool, wait: bool, timeout: float, output: str,
) -> int:  # fmt: skip
    """Approve what waits for a person.

    Without --pool: the commit that takes away an Image, all mirrors, all CAs or many nodes. With --pool: its rollout,
    before it begins or after its canaries (`approval`), and a change that may lock images out where the guard knows
    none.
    """
    if commit and (pool or plan):
        raise UsageError("COMMIT and --pool exclude each other", remedy="approve one after the other")
    if (plan or now) and not pool:
        raise UsageError("--plan and --now are for a pool", where="--pool", remedy="name the pool")

    async def say(context: Context) -> Mapping[str, Any]:
        if pool:
            return await _approve_pool(context, pool, plan, output, reason=reason, dry_run=dry_run, now=now)
        from reconciler import commands  # not before it is needed: rendering's libraries take a while to load

        done = await commands.approve(context, commit, reason=reason, dry_run=dry_run)
        _print(output, "Approval", done, f"approved {done['approved'][:12]}: removes {'; '.join(done['removes'])}")
        return done

    if dry_run:
        return run(_preview(session, say))
    what = f"{commit or 'the commit that waits'}, with all that it removes"
    confirm(f"approve {f'what waits in pool {pool}' if pool else what}", yes=yes)
    return run(_then_wait(session, say, timeout if wait else None))


async def _approve_pool(
    context: Context, pool: str, plan: str | None, form: str, *, reason: str, dry_run: bool, now: bool
) -> Mapping[str, Any]:
    from reconciler import control  # as above

    done = await control.approve_pool(context, pool, reason=reason, plan=plan, dry_run=dry_run)
    if now and not dry_run:
        await control.override_windows(context, pool, reason=reason)
    stages = {"start": "the rollout may begin", "canary": "the rollout goes on after its canaries", "": ""}
    said = [*done["weakens"], *filter(None, [stages[done["stage"]]])]
    _print(form, "Approval", done, f"approved in pool {pool}: {'; '.join(said)}")
    return done


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
