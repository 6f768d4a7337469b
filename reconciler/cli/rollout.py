"""`reconciler pause`, `resume`, `abort` and `retry`: a person's hand on the rollouts of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.options import Duration, dry_run, flag, fleet, option, output, reason, waiting
from reconciler.cli.output import print_done
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import say_and_bring, say_once
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.cli.waiting import Say
    from reconciler.stages.context import Context

now = flag("--now", help="Begin nodes outside of the pool's windows, too, for an hour; it is recorded.")


class Until(click.ParamType[datetime]):
    """A time with its zone, or a duration from now."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return datetime.now(UTC) + timedelta(seconds=Duration().convert(value, param, ctx))
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no time zone; write 2026-01-31T09:00:00Z", param, ctx)
        return moment.astimezone(UTC)


@click.command()
@click.argument("pool", metavar="POOL")
@reason("Why; it is recorded.")
@option("--until", type=Until(), metavar="TIME", show_default="none", help="When the lock runs out; also 2h or 30m.")
@dry_run
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def pause(session: Session, pool: str, reason: str, until: datetime | None, dry_run: bool, output: str) -> int:
    """Stop a pool under a lock of your own: nodes in hand are finished, no other is begun, drift is not repaired.

    Several people may each have a lock; the pool goes on when the last one is lifted or has run out.
    """

    async def say(context: Context) -> None:
        from reconciler import control  # not before it is needed: rendering's libraries take a while to load

        done = await control.pause(context, pool, reason=reason, until=until, dry_run=dry_run)
        end = f" until {done['until']}" if done["until"] else ""
        print_done(output, "Pause", done, f"pool {pool} paused under lock {done['lock']}{end}")

    return run(say_once(session, say))


@click.command()
@click.argument("pool", metavar="POOL")
@option("--lock", metavar="ID", show_default="your own", help="The lock to lift, where it is not yours.")
@reason("Why; it is recorded.")
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def resume(
    session: Session, pool: str, lock: str | None, reason: str, dry_run: bool, wait: bool, timeout: float, output: str
) -> int:
    """Lift a lock of a pool: your own, or with --lock another person's."""

    async def say(context: Context) -> None:
        from reconciler import control  # as above

        done = await control.resume(context, pool, lock=lock, reason=reason, dry_run=dry_run)
        left = f"; still paused under {', '.join(done['left'])}" if done["left"] else ""
        print_done(output, "Resumption", done, f"lock {done['lock']} of pool {pool} lifted{left}")

    return run(_ask(session, say, timeout if wait and not dry_run else None))


@click.command()
@click.argument("pool", metavar="POOL")
@reason("Why; it is recorded.")
@yes
@dry_run
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def abort(session: Session, pool: str, reason: str, yes: bool, dry_run: bool, output: str) -> int:
    """End a pool's rollout where it is: nodes in hand are finished, the others keep what they have.

    They stay so until the content changes, or `reconciler retry`. To take back what is done: `reconciler rollback`.
    """

    async def say(context: Context) -> None:
        from reconciler import control  # as above

        done = await control.abort(context, pool, reason=reason, dry_run=dry_run)
        print_done(output, "Abortion", done, f"rollout {done['rollout'][:8]} of pool {pool} aborted")

    if not dry_run:
        confirm(f"abort the rollout of pool {pool}", yes=yes)
    return run(say_once(session, say))


@click.command()
@click.argument("pool", metavar="POOL")
@option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NODE",
    show_default="none",
    help="Repair the drift of this node, whatever the pool's policy says, and do nothing else.",
)
@option(
    "--resource",
    "resources",
    multiple=True,
    metavar="KIND/NAME",
    show_default="none",
    help="Of a pool of manage: cluster: apply Git's content of this resource over what others made of it.",
)
@reason("Why; it is recorded.")
@now
@dry_run
@waiting
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def retry(
    session: Session,
    pool: str,
    nodes: Sequence[str],
    resources: Sequence[str],
    reason: str,
    now: bool,
    dry_run: bool,
    wait: bool,
    timeout: float,
    output: str,
) -> int:
    """Let a halted or aborted rollout go on, or try nodes again that failed: failures and refusals are forgotten.

    Also decides drift: what too many nodes have in common, and what is contested, is repaired. Of a pool of manage:
    cluster: what the API refused, since others manage its fields, and what drifted, is applied over theirs.
    """

    async def say(context: Context) -> None:
        from reconciler import control  # as above

        if await control.is_in_cluster(context, pool):
            await _retry_cluster(context, pool, resources, output, reason=reason, dry_run=dry_run, now=now)
            return
        if resources:
            raise UsageError(f"pool {pool} has its resources on nodes", where="--resource", remedy="use --node")
        done = await control.retry(context, pool, reason=reason, nodes=nodes, dry_run=dry_run)
        if now and not dry_run:
            done["window"] = (await control.override_windows(context, pool, reason=reason))["until"]
        parts = [f"rollout {done['rollout'][:8]} goes on"] if done["rollout"] else []
        parts += ["refusals lifted"] if done["files"] and not done["rollout"] else []
        parts += [f"{len(done['nodes'])} failed nodes forgiven"] if done["nodes"] else []
        parts += [f"drift of {', '.join(done['repairs'])} is repaired"] if done["repairs"] else []
        print_done(output, "Retry", done, f"pool {pool}: {', '.join(parts)}")

    return run(_ask(session, say, timeout if wait and not dry_run else None))


async def _retry_cluster(
    context: Context, pool: str, keys: Sequence[str], form: str, *, reason: str, dry_run: bool, now: bool
) -> None:
    from reconciler import cluster, control  # as above

    if not keys and not await cluster.differs(context):
        again = await control.retry(context, pool, reason=reason, dry_run=dry_run)
        print_done(form, "Retry", again, f"pool {pool}: the rollout goes on", dry="dry run")
        return
    done = await cluster.repair(context, pool, keys=keys, reason=reason, dry_run=dry_run)
    if now and not dry_run:
        done["window"] = (await control.override_windows(context, pool, reason=reason))["until"]
    print_done(form, "Retry", done, f"pool {pool}: {cluster.objects_text(done['objects'])} is put right", dry="dry run")


async def _ask(session: Session, say: Say, within: float | None) -> int:
    """Append; then wait `within` seconds for the nodes (None: do not)."""
    return await (say_once(session, say) if within is None else say_and_bring(session, say, within))
