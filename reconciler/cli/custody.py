"""`reconciler release` and `reconciler adopt`: whose a node is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import dry_run, flag, fleet, option, output, reason, waiting
from reconciler.cli.output import print_done
from reconciler.cli.progress import progress
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import say_and_bring, say_once
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.projections.status import NodeStatus
    from reconciler.stages.context import Context


@click.command()
@click.argument("node", metavar="NODE")
@flag("--keep", help="Leave the node's files as they are.")
@flag("--restore", help="Put back the files from before the first write.")
@reason("Why; it is recorded.")
@yes
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def release(
    session: Session,
    node: str,
    keep: bool,
    restore: bool,
    reason: str,
    yes: bool,
    dry_run: bool,
    wait: bool,
    timeout: float,
    output: str,
) -> int:
    """Give a node back: it is no longer acted on, until `reconciler adopt` or until its document is removed.

    Ends with 0 when it is released, else with how the fleet stands.
    """
    if keep == restore:
        raise UsageError("say what becomes of its files", where="--keep, --restore", remedy="give one of the two")
    if not dry_run:
        confirm(f"release node {node}, {'with its files from before' if restore else 'with the files it has'}", yes=yes)
    return run(_release(session, node, restore, reason, output, dry_run=dry_run, within=timeout if wait else None))


@click.command()
@click.argument("node", metavar="[NODE]", required=False)
@flag("--cluster", help="Instead of a node: resources of the fleet's cluster (manage: cluster).")
@option(
    "--resource", "resources", multiple=True, metavar="KIND/NAME", show_default="all", help="With --cluster: these."
)
@option(
    "--push-branch",
    "branch",
    metavar="NAME",
    show_default="none",
    help="With --cluster and one --resource: write what the cluster says into the config repository, as a new branch.",
)
@reason("Why; it is recorded.")
@yes
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def adopt(
    session: Session, node: str | None, cluster: bool, resources: Sequence[str], branch: str | None, reason: str,
    yes: bool, dry_run: bool, wait: bool, timeout: float, output: str,
) -> int:  # fmt: skip
    """Take a node that was released, or that another log owns; what stands there becomes its base.

    It also takes back a release that has not begun. Drift of a node is not adopted so: write what you want into the
    repository.

    With --cluster: take resources that were there before reconciler, and apply Git's content over theirs. With
    --push-branch it is the other way round: the cluster's content of one resource becomes a commit.
    """
    _check_adoption(node, resources, branch, cluster=cluster, dry_run=dry_run)
    within = timeout if wait and not dry_run else None
    if node:
        if not dry_run:
            confirm(f"adopt node {node} as it is", yes=yes)
        return run(_adopt(session, node, reason, output, dry_run=dry_run, within=within))
    if branch:
        return run(_keep_edit(session, resources[0], branch, reason, output))
    if not dry_run:
        confirm(f"apply Git's content over {', '.join(resources) or 'all that was in the cluster before'}", yes=yes)
    return run(_adopt_objects(session, resources, reason, output, dry_run=dry_run, within=within))


def _check_adoption(
    node: str | None, resources: Sequence[str], branch: str | None, *, cluster: bool, dry_run: bool
) -> None:
    if bool(node) == cluster:
        raise UsageError("say what is adopted", where="NODE, --cluster", remedy="give one of the two")
    if (resources or branch) and not cluster:
        raise UsageError("--resource and --push-branch are for a cluster", where="--cluster", remedy="give it, too")
    if branch and (len(resources) != 1 or dry_run):
        what = "a branch is pushed for one resource, and not with --dry-run"
        raise UsageError(what, where="--push-branch", remedy="name it with --resource")


async def _release(
    session: Session, node: str, restore: bool, reason: str, form: str, *, dry_run: bool, within: float | None
) -> int:
    from reconciler import custody  # not before it is needed: rendering's libraries take a while to load

    with progress() as report:
        async with session.context(report) as context:
            done = await custody.release(context, node, restore=restore, reason=reason, dry_run=dry_run)
            print_done(form, "Release", done, f"node {node} is to be released")
            if dry_run or within is None:
                return 0
            exit_code, found = await _bring(context, node, within)
            return 0 if found and found.files == "Released" else exit_code


async def _adopt(session: Session, node: str, reason: str, form: str, *, dry_run: bool, within: float | None) -> int:
    from reconciler import custody  # as above

    with progress() as report:
        async with session.context(report) as context:
            done = await custody.adopt(context, node, reason=reason, dry_run=dry_run)
            source = f" from log {done['from']}" if done["from"] else ""
            print_done(form, "Adoption", done, f"node {node} is taken{source}")
            return 0 if dry_run or within is None else (await _bring(context, node, within))[0]


async def _adopt_objects(
    session: Session, keys: Sequence[str], reason: str, form: str, *, dry_run: bool, within: float | None
) -> int:
    async def say(context: Context) -> None:
        from reconciler import cluster  # as above

        done = await cluster.adopt(context, keys=keys, reason=reason, dry_run=dry_run)
        print_done(form, "Adoption", done, f"{cluster.objects_text(done['objects'])} taken", dry="dry run")

    return await (say_once(session, say) if within is None else say_and_bring(session, say, within))


async def _keep_edit(session: Session, key: str, branch: str, reason: str, form: str) -> int:
    async def say(context: Context) -> None:
        from reconciler import cluster  # as above

        done = await cluster.keep_edit(context, key, branch, reason=reason)
        print_done(form, "Adoption", done, f"branch {branch} says what the cluster says, commit {done['commit'][:12]}")

    return await say_once(session, say)


async def _bring(context: Context, node: str, within: float) -> tuple[int, NodeStatus | None]:
    """Passes until nothing moves any more; how the fleet stands, and the node."""
    from reconciler import commands  # as above

    _, status = await commands.sync(context, wait=True, within=within)
    return status.exit_code, next((found for found in status.nodes if found.name == node), None)
