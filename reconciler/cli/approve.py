"""`reconciler approve` and `reconciler accept`: a person's word for what waits for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import dry_run, flag, fleet, option, output, reason, waiting
from reconciler.cli.output import print_done
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import say_and_bring, say_once
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

    async def say(context: Context) -> None:
        if pool:
            await _approve_pool(context, pool, plan, output, reason=reason, dry_run=dry_run, now=now)
            return
        from reconciler import commands  # not before it is needed: rendering's libraries take a while to load

        done = await commands.approve(context, commit, reason=reason, dry_run=dry_run)
        line = f"approved {done['approved'][:12]}: removes {'; '.join(done['removes'])}"
        print_done(output, "Approval", done, line, dry="dry run")

    if dry_run:
        return run(say_once(session, say))
    what = f"{commit or 'the commit that waits'}, with all that it removes"
    confirm(f"approve {f'what waits in pool {pool}' if pool else what}", yes=yes)
    return run(say_and_bring(session, say, timeout if wait else None))


async def _approve_pool(
    context: Context, pool: str, plan: str | None, form: str, *, reason: str, dry_run: bool, now: bool
) -> None:
    from reconciler import control  # as above

    done = await control.approve_pool(context, pool, reason=reason, plan=plan, dry_run=dry_run)
    if now and not dry_run:
        await control.override_windows(context, pool, reason=reason)
    stages = {"start": "the rollout may begin", "canary": "the rollout goes on after its canaries", "": ""}
    said = [*done["weakens"], *filter(None, [stages[done["stage"]]])]
    print_done(form, "Approval", done, f"approved in pool {pool}: {'; '.join(said)}", dry="dry run")


@click.command()
@flag("--restore", help="Accept this copy of the log, which nodes, a checkpoint or a restored backup contradict.")
@flag("--cluster", help="Accept that the fleet's cluster has none of the nodes known of it, but others.")
@reason("Why; it is recorded.")
@yes
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def accept(
    session: Session, restore: bool, cluster: bool, reason: str, yes: bool, dry_run: bool, wait: bool, timeout: float,
    output: str,
) -> int:  # fmt: skip
    """Accept a rewritten branch: its head is recorded as one commit over what was before.

    With --restore: accept the log as it is, after a restored backup. The fleet goes on under a new fence epoch, and the
    nodes refuse every other copy of the log from then on.

    With --cluster: take the word of a cluster that has none of the nodes known. Those that were discovered there leave
    the fleet and keep their files, and its own come.
    """
    if restore and cluster:
        raise UsageError("--restore and --cluster exclude each other", remedy="accept one after the other")

    async def say(context: Context) -> None:
        if restore:
            await _accept_restore(context, output, reason=reason, dry_run=dry_run)
            return
        if cluster:
            await _accept_cluster(context, output, reason=reason, dry_run=dry_run)
            return
        from reconciler import commands  # as above

        done = await commands.accept(context, reason=reason, dry_run=dry_run)
        line = f"accepted {done['accepted'][:12]} over {done['oldHead'][:12]}"
        print_done(output, "Acceptance", done, line, dry="dry run")

    if dry_run:
        return run(say_once(session, say))
    what = "accept the rewritten branch"
    what = "go on from this copy of the log" if restore else "take this cluster for the fleet's" if cluster else what
    confirm(what, yes=yes)
    return run(say_and_bring(session, say, timeout if wait else None))


async def _accept_cluster(context: Context, form: str, *, reason: str, dry_run: bool) -> None:
    from reconciler import commands  # as above

    done = await commands.accept_cluster(context, reason=reason, dry_run=dry_run)
    print_done(form, "ClusterAcceptance", done, f"the cluster counts, although {done['accepted']}", dry="dry run")


async def _accept_restore(context: Context, form: str, *, reason: str, dry_run: bool) -> None:
    from reconciler import restores  # as above

    done = await restores.accept(context, reason=reason, dry_run=dry_run)
    line = f"this log goes on with epoch {done['epoch']}, although {done['accepted']}"
    print_done(form, "RestoreAcceptance", done, line, dry="dry run")
