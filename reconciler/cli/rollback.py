"""`reconciler rollback`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.confirm import confirm, yes
from reconciler.cli.hold import push_revert
from reconciler.cli.options import flag, fleet, option, output, waiting
from reconciler.cli.output import FORMS, Column, count, print_done, print_list, print_object, problem_text, short
from reconciler.cli.plan_text import pool_lines
from reconciler.cli.progress import progress
from reconciler.cli.rollout import Until
from reconciler.cli.session import Session, run
from reconciler.cli.waiting import bring_to_nodes, say_and_bring, say_once
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.stages.context import Context

POINT_COLUMNS = (
    Column("POSITION", lambda item: f"#{item['position']}"),
    Column("TIME", lambda item: item["recordedAt"][:19] + "Z"),
    Column("TYPE", lambda item: item["type"]),
    Column("COMMIT", lambda item: short(item["commit"])),
    Column("SUBJECT", lambda item: item["subject"]),
    Column("ACTOR", lambda item: item["actor"], wide=True),
)


@click.command()
@option(
    "--to",
    metavar="POINT",
    show_default="list the last ten states and change nothing",
    help="'#POSITION', a commit, a time (2026-01-31T09:00:00Z), previous (the state before the present one) or "
    "last-good (the latest brought out without a failed node).",
)
@option(
    "--undo",
    metavar="HOLD",
    show_default="none",
    help="End this hold of an earlier rollback, and put those that it replaced in force again.",
)
@option("--pool", metavar="NAME", show_default="the whole fleet", help="Only this pool.")
@option("--node", metavar="NAME", show_default="all", help="Only this node.")
@option("--resource", metavar="ID", show_default="all", help="Only this resource: [PATH:]KIND/NAME.")
@option("--reason", metavar="TEXT", show_default="required", help="Why; it is recorded.")
@option("--until", type=Until(), metavar="TIME", show_default="none", help="When the hold is overdue; also 2h or 30m.")
@flag("--until-fixed", help="End by itself what Git has mended: none of the bad differences is left, the guard passes.")
@option(
    "--push-branch",
    metavar="NAME",
    show_default="none",
    help="Also write what is restored to the config repository, as a new branch to be reviewed and merged.",
)
@flag("--now", help="Begin nodes outside of their pools' windows, too, for an hour; it is recorded.")
@flag("--dry-run", help="Show files, nodes, classes, verdicts and expired certificates, and record nothing.")
@yes
@waiting
@output(*FORMS)
@fleet
@click.pass_obj
def rollback(
    session: Session, /, to: str | None, undo: str | None, now: bool, push_branch: str | None, dry_run: bool,
    yes: bool, wait: bool, timeout: float, output: str, **asked: Any,
) -> int:  # fmt: skip
    """Take the fleet, a pool, a node or a resource back to an earlier state, and hold it there against newer commits.

    Nodes get the files recorded for that state, byte for byte; Git is not needed. To a position before the first write
    they get their own files back, and the pool only observes. `hold lift` ends it, and Git when it says the same.
    """
    within = timeout if wait else None
    if undo is not None:
        return _undo(
            session,
            undo,
            {**asked, "to": to, "push_branch": push_branch, "now": now},
            output,
            yes=yes,
            dry_run=dry_run,
            within=within,
        )
    if to is None:
        print_list(output, run(_points(session, asked["pool"])), POINT_COLUMNS, lambda i: f"event/{i['position']}")
        return 0
    if not (asked["reason"] or dry_run):
        raise UsageError("is required: it is recorded", where="--reason")
    asked = {**asked, "to": to, "reason": asked["reason"] or ""}
    if dry_run:
        _print(output, run(_preview(session, asked)))
        return 0
    return run(_rollback(session, asked, output, yes=yes, now=now, branch=push_branch, within=within))


def _undo(
    session: Session, hold: str, others: Mapping[str, Any], form: str, *, yes: bool, dry_run: bool, within: float | None
) -> int:
    reason = others["reason"]
    if given := [name for name, value in others.items() if value and name != "reason"]:
        raise UsageError("goes with none of the others", where=f"--undo and --{given[0].replace('_', '-')}")
    if not (reason or dry_run):
        raise UsageError("is required: it is recorded", where="--reason")

    async def say(context: Context) -> None:
        if dry_run:
            from reconciler.planning import plan_undo  # as below

            done = await plan_undo(context, hold, reason=reason or "")
        else:
            from reconciler import commands  # as below

            done = await commands.undo_rollback(context, hold, reason=reason)
        again = (
            f"{', '.join(done['reinstated'])} in force again" if done["reinstated"] else "nothing was replaced by it"
        )
        print_done(form, "UndoneRollback", done, f"hold {hold} undone, {again}")
        for pool in done["plan"]["pools"] if "plan" in done and form == "table" else ():
            for line in ("", *pool_lines(pool)):
                click.echo(line)

    if dry_run:
        return run(say_once(session, say))
    confirm(f"undo the rollback of hold {hold}", yes=yes)
    return run(say_and_bring(session, say, within))


async def _points(session: Session, pool: str | None) -> list[dict[str, Any]]:
    from reconciler import commands  # not before it is needed: rendering's libraries take a while to load

    async with session.context() as context:
        return await commands.rollback_points(context, pool=pool)


async def _preview(session: Session, asked: Mapping[str, Any]) -> dict[str, Any]:
    from reconciler.planning import plan_rollback  # as above

    async with session.context() as context:
        return await plan_rollback(context, **asked)


async def _rollback(
    session: Session, asked: Mapping[str, Any], form: str, *, yes: bool, now: bool, branch: str | None,
    within: float | None,
) -> int:  # fmt: skip
    from reconciler import commands, control  # as above

    async with session.context() as context:
        planned = await commands.rollback(context, **asked, dry_run=True)
        if not yes:
            for line in _lines(planned):
                click.echo(line, err=True)
        confirm(f"roll back to #{planned['position']}", yes=yes)
        done = await commands.rollback(context, **asked)
        for pool in done["pools"] if now else ():
            await control.override_windows(context, pool, reason=asked["reason"])
        _print(form, done)
        with progress() as report:
            context.progress = report
            code = await bring_to_nodes(context, within)
        if branch and done["hold"]:
            await push_revert(context, done["hold"], branch)
        return code


def _print(form: str, data: Mapping[str, Any]) -> None:
    if form in ("json", "yaml"):
        print_object(form, {"kind": "Rollback", **data})
    elif form == "name":
        click.echo(f"hold/{data['hold']}" if data["hold"] else "")
    else:
        for line in _lines(data):
            click.echo(line)


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    scope = data["scope"]
    whom = f"{scope['kind']} {scope['name']}" if scope["name"] else "the fleet"
    whom = f"{scope['resource']} of {whom}" if scope["resource"] else whom
    hold = f", hold {data['hold']}" if data["hold"] else ""
    resources = sum(not entry.get("baseline") for entry in data["entries"])
    what = [count(resources, "resource")] if resources or not data["entries"] else []
    what += ["the baseline"] if resources < len(data["entries"]) else []
    reach = ", ".join([*what, count(len(data["nodes"]), "node")])
    yield f"{whom} to #{data['position']} (the end of its append group){hold}: {reach}"
    for entry in data["entries"]:
        restored = entry["restored"]
        if entry.get("baseline"):
            yield "  nodes get the files from before the first write back, and nothing is written there any more"
            continue
        to = f"commit {short(restored['commit'])}" if restored else "absent"
        yield f"  {entry['resource']} → {to}, refusing {count(len(entry['refused']), 'newer content')}"
    if data["replaces"]:
        yield f"  replaces {', '.join(data['replaces'])}"
    if data["renderedAnew"]:
        yield f"  rendered anew, since its inputs differ: {', '.join(data['renderedAnew'])}"
    if data["untouched"]:
        yield f"  not there at #{data['position']}, and left as it is: pool {', '.join(data['untouched'])}"
    for certificate in data["expired"]:
        yield f"  warning: pool {', '.join(certificate['pools'])}: {problem_text(certificate)}"
    if data["nodes"]:
        yield f"  nodes: {', '.join(data['nodes'])}"
    for pool in data["plan"]["pools"] if "plan" in data else ():
        yield from ("", *pool_lines(pool))
