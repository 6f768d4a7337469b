"""`reconciler diff`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.explained import field_of
from reconciler.cli.failures import report
from reconciler.cli.images import read_from
from reconciler.cli.options import Command, flag, fleet, option, output
from reconciler.cli.output import Column, Item, count, print_object, short, table
from reconciler.cli.past import Asked, asked, at_option, place_of, the_past
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.history.compare import Between
    from reconciler.stages.context import Context

SAME, DIFFERS, FAILED = 0, 1, 2
"""Exit codes, as kubectl diff has them."""

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
IMAGE_COLUMNS = (
    Column("IMAGE", lambda item: item["image"]),
    Column("BEFORE", lambda item: item["before"]["verdict"]),
    Column("AFTER", lambda item: item["after"]["verdict"]),
    Column("NODES", lambda item: len(item["nodes"])),
    Column("DECIDED BY", lambda item: field_of(item["after"]["decidedBy"]) or field_of(item["before"]["decidedBy"])),
    Column("REASON", lambda item: item["after"]["reason"]),
    Column("NAMES", lambda item: item["nodes"], wide=True),
)


@dataclass(frozen=True)
class Wish:
    """What is to be compared: the nodes or the pool, one point in time or two, the two sides, and of what kind."""

    nodes: Sequence[str]
    pool: str | None
    at: str | None
    since: str | None
    until: str | None
    sides: Sequence[str]
    kind: str
    images: Sequence[str]


@dataclass(frozen=True)
class Found:
    """Differences, and how they are printed: `before` and `after` name the sides."""

    kind: str
    items: Sequence[Item]
    before: str
    after: str
    notes: Sequence[str] = ()
    metadata: Item | None = None


def _subjects(command: Command) -> Command:
    """What is compared, and at which points in time."""
    for add in (
        option("--images", type=click.File(encoding="utf-8", lazy=False), metavar="FILE", show_default="off",
               help="With --from: which of these images are judged otherwise; one a line, - is standard input."),
        flag("--resources", help="With --from: the resources in force."),
        flag("--files", help="With --from: the bytes of node files, the default."),
        option("--to", "until", metavar="POINT", show_default="now", help="With --from: the later point in time."),
        option("--from", "since", metavar="POINT", show_default="none",
               help="What differs between this point in time and --to, instead of between what is and is wanted."),
        at_option,
        flag("--wanted", help="Compare what is wanted, with what was last seen or another of these three."),
        flag("--observed", help="Compare what was last seen, with what is wanted or another of these three."),
        flag("--applied", help="Compare what the last receipt proved, with what is wanted or another of these three."),
        option("--pool", metavar="NAME", show_default="all", help="Only nodes of this pool."),
        option("--node", multiple=True, metavar="NAME", show_default="all", help="As NODE; repeatable."),
    ):  # fmt: skip
        command = add(command)
    return command


@click.command()
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@_subjects
@output("table", "wide", "json", "yaml")
@fleet
@click.pass_obj
def diff(session: Session, /, output: str, **given: Any) -> int:
    """Show what would change on nodes: each file as it is now against what is wanted (asks the nodes).

    With --observed, --applied or --at, the log is asked instead. With --from, what differs between two points in time:
    the files that nodes were to have, the resources in force, or which images are judged otherwise.
    Exit code 0: no difference; 1: differences; 2: an error, or a node that does not answer.
    """
    try:
        found = run(_found(session, _wish(given)))
    except Exception as error:  # noqa: BLE001 - 1 says "differs": no error may end with it
        report(error)
        return FAILED
    failed = [item for item in found.items if "error" in item]
    differs = [item for item in found.items if "error" not in item]
    for text in (*found.notes, *(f"{item['node']}: {item['error']}" for item in failed)):
        click.echo(text, err=True)
    if output in ("json", "yaml"):
        metadata = {"metadata": found.metadata} if found.metadata else {}
        print_object(output, {"kind": "List", **metadata, "items": list(found.items)})
    elif differs:
        print_found(found, differs, wide=output == "wide")
    return FAILED if failed else DIFFERS if differs else SAME


def _wish(given: Item) -> Wish:
    """Raises UsageError for options that exclude each other."""
    sides = [name for name in ("applied", "observed", "wanted") if given[name]]
    kinds = [name for name in ("files", "resources", "images") if given[name]]
    if given["since"] is None and (given["until"] or kinds):
        raise UsageError("is needed for --to, --files, --resources and --images", where="--from")
    if given["since"] is not None and (given["at"] or sides):
        raise UsageError("--from compares what is wanted", remedy="leave out --at, --applied, --observed and --wanted")
    if len(sides) > 2 or len(kinds) > 1:
        raise UsageError("these options exclude each other", remedy="give two sides at most, and one kind")
    if (given["at"] and not sides) or sides == ["wanted"]:
        sides = ["observed", "wanted"]
    elif len(sides) == 1:
        sides = [*sides, "wanted"]
    nodes = list(dict.fromkeys([*given["nodes"], *given["node"]]))
    images = read_from(given["images"], "--images")
    return Wish(
        nodes, given["pool"], given["at"], given["since"], given["until"], sides, (kinds or ["files"])[0], images
    )


async def _found(session: Session, wish: Wish) -> Found:
    if wish.since is not None:
        return await _between(session, wish)
    async with asked(session, wish.at, settled=True) as question:
        if wish.sides:
            return await _sides(question, wish)
        return await _live(question.context, wish)


async def _live(context: Context, wish: Wish) -> Found:
    """What nodes have now, and what is wanted."""
    from reconciler import queries  # not before it is needed: rendering's libraries take a while to load
    from reconciler.history.files import nodes_of  # as above

    names = await nodes_of(context, wish.nodes, wish.pool) if wish.pool else wish.nodes
    return Found("sides", await queries.diff(context, names or None), "now", "wanted")


async def _sides(question: Asked, wish: Wish) -> Found:
    from reconciler.history.files import compare_sides  # as above

    before, after = wish.sides
    question.say()
    items = await compare_sides(question.context, wish.nodes, wish.pool, before, after)
    then = f" at #{question.past.position}" if question.past else ""
    return Found("sides", items, f"{before}{then}", f"{after}{then}", metadata=question.metadata)


async def _between(session: Session, wish: Wish) -> Found:
    from reconciler.history import compare  # as above
    from reconciler.stages.past import past_at  # as above

    assert wish.since is not None  # noqa: S101  the caller asked
    async with session.context() as context:
        old = await the_past(context, wish.since, settled=True)
        new = (
            await the_past(context, wish.until, settled=True)
            if wish.until
            else await past_at(context, (await context.snapshot()).position, settled=True)
        )
        between = compare.Between(old.context, new.context, wish.nodes, wish.pool)
        items, notes = await _items(between, wish)
        click.echo(f"from {place_of(old)} to {place_of(new)}", err=True)
        metadata = {"from": old.as_data(), "to": new.as_data()}
        return Found(
            wish.kind, items, f"#{old.position}", f"#{new.position}", [*old.notes, *new.notes, *notes], metadata
        )


async def _items(between: Between, wish: Wish) -> tuple[list[dict[str, Any]], list[str]]:
    from reconciler.history import compare  # as above

    if wish.kind == "files":
        return await compare.files_between(between)
    if wish.kind == "resources":
        return await compare.resources_between(between), []
    return await compare.images_between(between, wish.images)


# --- Printing -------------------------------------------------------------------------------------------------------


def _print_sides(found: Found, items: Sequence[Item], *, wide: bool) -> None:  # noqa: ARG001 - one signature for all
    for item in items:
        print_difference(item, found.before, found.after)


def _print_files(found: Found, items: Sequence[Item], *, wide: bool) -> None:
    """Each distinct change once, under the nodes that it holds for."""
    named: Sequence[str] = ()
    for item in items:
        if item["nodes"] != named:
            named = item["nodes"]
            click.echo(_whom(item, wide=wide))
        _print_text(item, f"{item['path']} ({found.before})", f"{item['path']} ({found.after})")


def _print_resources(found: Found, items: Sequence[Item], *, wide: bool) -> None:
    for item in items:
        alike = ", which means the same" if item["alike"] else ""
        click.echo(f"{item['kind']}: {item['resource']}{alike}, {_whom(item, wide=wide)}")
        before, after = (
            f"{item['resource']} ({at}{_origin(item[side])})"
            for side, at in (("before", found.before), ("after", found.after))
        )
        _print_text(item, before, after)


def _print_images(found: Found, items: Sequence[Item], *, wide: bool) -> None:  # noqa: ARG001 - as above
    for line in table(items, IMAGE_COLUMNS, wide=wide):
        click.echo(line)


_PRINTED: dict[str, Callable[..., None]] = {
    "sides": _print_sides,
    "files": _print_files,
    "resources": _print_resources,
    "images": _print_images,
}


def print_found(found: Found, items: Sequence[Item], *, wide: bool) -> None:
    """The differences in the form of their kind."""
    _PRINTED[found.kind](found, items, wide=wide)


def _whom(item: Item, *, wide: bool, most: int = 8) -> str:
    """The nodes, or where there are none the pools, that a change holds for."""
    pools = f"pool {', '.join(item['pools'])}" if item["pools"] else ""
    if not item["nodes"]:
        return pools
    names = ", ".join(item["nodes"][: None if wide else most])
    more = "" if wide or len(item["nodes"]) <= most else ", …"
    return f"on {count(len(item['nodes']), 'node')}: {names}{more}{f' ({pools})' if pools else ''}"


def _origin(side: Item | None) -> str:
    if side is None:
        return ", absent"
    file = f", {side['file']}" if side["file"] else ""
    held = f", held by {side['hold']}" if side["hold"] else ""
    commit = f", commit {short(side['commit'])}" if side["commit"] else ""
    return f"{file}{commit}{held}"


def print_difference(item: Item, before: str, after: str) -> None:
    """A unified diff of a node's file, coloured on a terminal."""
    for line in difference_lines(item, before, after):
        click.echo(line)


def difference_lines(item: Item, before: str, after: str) -> Iterator[str]:
    """The same as lines; what prints them takes the colours away where they do not belong."""
    place = f"{item['node']}:{item['path']}"
    return _lines(item, f"{place} ({before})", f"{place} ({after})")


def _print_text(item: Item, before: str, after: str) -> None:
    for line in _lines(item, before, after):
        click.echo(line)


def _lines(item: Item, before: str, after: str) -> Iterator[str]:
    lines = difflib.unified_diff(item["from"].splitlines(), item["to"].splitlines(), before, after, lineterm="")
    return (click.style(line, fg=_COLOURS.get(line[:1])) for line in lines)
