"""`reconciler why`: whether an image can be pulled, what decides it, and what would have to change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.explained import change_lines, columns, explanation_lines
from reconciler.cli.images import checked, read_from
from reconciler.cli.options import flag, fleet, option, output
from reconciler.cli.output import Item, print_list, print_object
from reconciler.cli.past import asked, at_option, place_of, the_past
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.examine import Mode
    from reconciler.stages.explained import Question

DIRECTORY = click.Path(path_type=Path)
CODES = {"not pullable": 1, "not pushable": 1, "forbidden": 1, "cannot tell": 3}
"""Exit codes, the worst first."""


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@option("--node", metavar="NAME", show_default="none", help="A node of the fleet: what it should have, and has.")
@option(
    "--pool", metavar="NAME", show_default="all, or the only one of the manifests",
    help="The nodes of a pool of the fleet; with --from, a pool of the manifests.",
)  # fmt: skip
@flag("--all-nodes", help="All nodes of the fleet: the default where a fleet is configured.")
@at_option
@option(
    "--since", metavar="POINT", show_default="none",
    help="What changed of the verdict since this point in time (up to --at), and through which events.",
)  # fmt: skip
@flag("--live", help="Ask the nodes what they have now; also reads files there that are not ours.")
@option(
    "--from", "source", type=DIRECTORY, metavar="DIR", show_default=". where no fleet is configured",
    help="A directory of manifests, instead of the fleet.",
)  # fmt: skip
@option(
    "--files", "root", type=DIRECTORY, metavar="DIR", show_default="none",
    help="Files copied from a host, instead of the fleet; DIR stands for its /.",
)  # fmt: skip
@option(
    "--image-list", type=click.File(encoding="utf-8", lazy=False), metavar="FILE", show_default="none",
    help="More images, one a line; # begins a comment, - is standard input.",
)  # fmt: skip
@option("--namespace", metavar="NAME", show_default="none", help="The namespace of the pod, where it has a policy.")
@flag("--import", "imports", help="Say also whether the OpenShift API server would import it into an image stream.")
@flag("--push", "pushes", help="Say also what a push of it from such a host would do.")
@flag("--strict", help="Refuse manifests that today's OpenShift API refuses.")
@output("table", "wide", "json", "yaml")
@fleet
@click.pass_obj
def why(
    session: Session, images: tuple[str, ...], node: str | None, pool: str | None, all_nodes: bool, at: str | None,
    since: str | None, live: bool, source: Path | None, root: Path | None, image_list: Any, namespace: str | None,
    imports: bool, pushes: bool, strict: bool, output: str,
) -> int:  # fmt: skip
    """Say whether nodes can pull an IMAGE, from where, which line and field decides it, and what would change it.

    Asked are the nodes of the fleet, as the log knows them, each answer with the nodes it is true for; or, needing
    nothing else, a directory of manifests or of files copied from a host. No registry is asked whether the image is
    there. Exit code 0 when every image can be pulled everywhere, by what nodes should have and by what they have; 1
    when one cannot, somewhere; else 3 when for one it cannot be told. --import and --push count too.
    """
    from reconciler.stages.explained import Question  # as in `validate`

    wanted = [*checked(images, "IMAGE"), *read_from(image_list, "--image-list")]
    if not wanted:
        raise UsageError("no image is named", remedy="name one, or give --image-list FILE")
    question = Question(wanted, namespace, imports, pushes)
    about_nodes = {"--node": node, "--all-nodes": all_nodes, "--live": live, "--at": at, "--since": since}
    offline = _offline(session, source, root, [name for name, given in about_nodes.items() if given])
    if not offline:
        if strict:
            raise UsageError("--strict is about manifests", remedy="leave it out, or name them with --from DIR")
        if sum(map(bool, (node, pool, all_nodes))) > 1:
            raise UsageError("--node, --pool and --all-nodes exclude each other", remedy="give one of them")
        if live and (at or since):
            what = "--at" if at else "--since"
            raise UsageError(f"--live and {what} exclude each other", remedy="nobody can ask a node what it had")
        if since is not None:
            if namespace or imports or pushes:
                raise UsageError("--since is about pulls", remedy="leave out --namespace, --import and --push")
            return _since(session, wanted, pool, node, since, at, output)
        found = run(_of_the_fleet(session, question, pool, node, live, at))
    elif root is not None:
        if source is not None or pool is not None or strict or imports:
            remedy = "leave out --from, --pool, --strict and --import"
            raise UsageError("--files takes the place of manifests", remedy=remedy)
        found = _of_a_host(root, question)
    else:
        found = _of_manifests(source, pool, question, strict=strict)
    one = image_list is None and len(images) == 1
    _print(output, found, whole=one, single=one and (offline or node is not None))
    return max((_code(item) for item in found), key=(0, 3, 1).index)


def _offline(session: Session, source: Path | None, root: Path | None, about_nodes: Sequence[str]) -> bool:
    """Whether files are asked, not the log. Without a word on it, the fleet is, where one is configured."""
    if source is None and root is None:
        return not about_nodes and not session.settings.fleets
    if about_nodes:
        raise UsageError(f"{about_nodes[0]} is about a fleet", remedy="leave it out, or --from and --files")
    return True


async def _of_the_fleet(
    session: Session, question: Question, pool: str | None, node: str | None, live: bool, at: str | None
) -> list[dict[str, Any]]:
    from reconciler import explanations  # not before it is needed: rendering's libraries take a while to load

    async with asked(session, at, settled=True) as then:
        then.say()
        return await explanations.why(then.context, question, pool=pool, node=node, live=live)


def _since(
    session: Session, images: Sequence[str], pool: str | None, node: str | None, since: str, at: str | None, output: str
) -> int:
    found, metadata = run(_what_changed(session, images, pool, node, since, at))
    if output in ("table", "wide"):
        for number, item in enumerate(found):
            for line in ["", *change_lines(item, found)][0 if number else 1 :]:
                click.echo(line)
    else:
        print_object(output, {"kind": "List", "metadata": metadata, "items": found})
    return max((CODES.get(item["after"]["verdict"], 0) for item in found), key=(0, 3, 1).index, default=0)


async def _what_changed(
    session: Session, images: Sequence[str], pool: str | None, node: str | None, since: str, at: str | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from reconciler.history.since import why_since  # as above
    from reconciler.stages.past import past_at  # as above

    async with session.context() as context:
        before = await the_past(context, since, settled=True)
        newest = (await context.snapshot()).position
        after = await the_past(context, at, settled=True) if at else await past_at(context, newest, settled=True)
        click.echo(f"from {place_of(before)} to {place_of(after)}", err=True)
        found = await why_since(before.context, after.context, images, pool=pool, node=node)
        return found, {"from": before.as_data(), "to": after.as_data()}


def _of_a_host(root: Path, question: Question) -> list[dict[str, Any]]:
    from reconciler.examine import explain_host  # as above

    return explain_host(root, question)


def _of_manifests(source: Path | None, pool: str | None, question: Question, *, strict: bool) -> list[dict[str, Any]]:
    from reconciler.examine import explain_manifests  # as above

    if source is None:
        click.echo("asked: the manifests in this directory, as no fleet is configured", err=True)
    mode: Mode = "strict" if strict else "default"
    found, assumed = explain_manifests(source or Path(), pool, question, mode, datetime.now(UTC))
    for text in assumed:
        click.echo(f"assumed: {text}", err=True)
    return found


def _code(item: Item) -> int:
    """The exit code of one item."""
    answers = [item, item.get("observed") or item.get("applied"), item.get("import"), item.get("push")]
    verdicts = {answer["verdict"] for answer in answers if answer}
    return next((code for verdict, code in CODES.items() if verdict in verdicts), 0)


def _print(output: str, found: Sequence[Item], *, whole: bool, single: bool) -> None:
    """`whole`: each answer at length, in the tables' form; `single`: there is one answer, which is no list."""
    if whole and output in ("table", "wide"):
        for number, item in enumerate(found):
            for line in ["", *explanation_lines(item, found)][0 if number else 1 :]:
                click.echo(line)
    elif single:
        print_object(output, {"kind": "Explanation", **found[0]})
    else:
        print_list(output, found, columns(found), lambda item: item["image"])
