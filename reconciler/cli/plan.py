"""`reconciler plan`: what would change on which nodes, in which order, and who waits for what. It changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.failures import report
from reconciler.cli.images import listed
from reconciler.cli.options import flag, fleet, option, output
from reconciler.cli.output import print_list
from reconciler.cli.plan_text import UPGRADE_COLUMNS, print_plan, print_upgrade, unanswered
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.planning import Asked

NOTHING, FAILED, CHANGES = 0, 1, 2
"""Exit codes of --detailed-exitcode, as terraform plan has them."""


@click.command()
@option("--ref", metavar="BRANCH|COMMIT", show_default="the next pass", help="Plan this content as if it were merged.")
@option(
    "--from", "directory", type=click.Path(path_type=Path), metavar="DIR", show_default="the next pass",
    help="Plan the manifests below this directory as if they were merged.",
)  # fmt: skip
@option("--pool", "pools", metavar="NAME", multiple=True, show_default="all", help="Only this pool; repeatable.")
@flag("--offline", help="Ask no node, and without --ref no repository: what the log knows of them counts.")
@option(
    "--inventory-from", type=click.Path(path_type=Path), metavar="FILE", show_default="the database",
    help="Plan on a file written with --export: neither a database nor a node nor settings are needed.",
)  # fmt: skip
@option(
    "--export", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE", show_default="none",
    help="Write the fleet as the log knows it for --inventory-from, and plan nothing; - is standard output.",
)  # fmt: skip
@option(
    "--images", type=click.Path(path_type=Path), metavar="FILE", show_default="none",
    help="Image names, one a line (# begins a comment): say which can be pulled no longer, or from now on.",
)  # fmt: skip
@flag("--upgrade", help="List instead what only a newer renderer would change; it waits for the next real change.")
@flag(
    "--detailed-exitcode",
    help="End with 0 when nothing changes, 1 on any error, also when nodes did not answer, 2 when something changes.",
)
@output("table", "json", "yaml", "markdown")
@fleet
@click.pass_obj
def plan(session: Session, /, detailed_exitcode: bool, output: str, **asked: Any) -> int:
    """Show what the next pass would do, or what content would do that is not merged yet. Nothing is changed.

    Nodes are asked (read-only), as a pass would; a node that only the content names is not. Content that a
    pool rejects ends with 1.
    """
    try:
        if asked["export"]:
            return _export(session, asked)
        if asked["upgrade"]:
            return _upgrade(session, asked, output, detailed=detailed_exitcode)
        data = run(_plan(session, asked))
    except Exception as error:
        if not detailed_exitcode:
            raise
        report(error)  # 2 says "changes": no error may end with it
        return FAILED
    print_plan(output, data)
    if data["problems"]:
        return FAILED
    if not detailed_exitcode:
        return NOTHING
    return CHANGES if data["changes"] else FAILED if unanswered(data) else NOTHING


def _export(session: Session, asked: Mapping[str, Any]) -> int:
    _exclude(asked, "export", "ref", "directory", "inventory_from", "upgrade")
    text = run(_exported(session))
    if str(asked["export"]) == "-":
        click.echo(text, nl=False)
        return NOTHING
    try:
        asked["export"].write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(asked["export"])) from None
    return NOTHING


async def _exported(session: Session) -> str:
    from reconciler import planning  # not before it is needed: rendering's libraries take a while to load

    async with session.context() as context:
        return await planning.export_fleet(context)


def _upgrade(session: Session, asked: Mapping[str, Any], form: str, *, detailed: bool) -> int:
    _exclude(asked, "upgrade", "ref", "directory", "inventory_from")
    items = run(_renderer_changes(session))
    chosen = [item for item in items if not asked["pools"] or item["pool"] in asked["pools"]]
    if form in ("json", "yaml"):
        print_list(form, chosen, UPGRADE_COLUMNS, lambda item: f"pool/{item['pool']}")
    else:
        print_upgrade(form, chosen)
    return CHANGES if detailed and chosen else NOTHING


async def _renderer_changes(session: Session) -> list[dict[str, Any]]:
    from reconciler import planning  # as above

    async with session.context() as context:
        return await planning.renderer_changes(context)


def _exclude(asked: Mapping[str, Any], name: str, *others: str) -> None:
    """Raises UsageError where options are given together that say different things."""
    for other in others:
        if asked[other]:
            raise UsageError(f"cannot be used with {_flag(other)}", where=_flag(name))


def _flag(name: str) -> str:
    return "--from" if name == "directory" else f"--{name.replace('_', '-')}"


async def _plan(session: Session, given: Mapping[str, Any]) -> dict[str, Any]:
    from reconciler import planning, wiring  # as above

    if given["ref"]:
        _exclude(given, "ref", "directory", "inventory_from")
    asked = _asked(given)
    if given["inventory_from"]:
        export = planning.read_export(_text(given["inventory_from"]), str(given["inventory_from"]))
        return await planning.plan_export(export, asked, wiring.SystemClock())
    async with session.context() as context:
        return await planning.plan(context, asked)


def _asked(given: Mapping[str, Any]) -> Asked:
    from reconciler import planning  # as above

    return planning.Asked(
        given["ref"],
        given["directory"],
        not given["offline"],
        given["pools"] or None,
        listed(_text(given["images"]), str(given["images"])) if given["images"] else (),
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"cannot be read: {reason}", where=str(file)) from None
