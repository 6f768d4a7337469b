"""`reconciler why`: whether an image can be pulled, what decides it, and what would have to change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.options import flag, option, output, shared
from reconciler.cli.output import Column, Item, print_list, print_object, table
from reconciler.errors import UsageError

if TYPE_CHECKING:
    from reconciler.examine import Mode

DIRECTORY = click.Path(path_type=Path)
CODES = {"not pullable": 1, "cannot tell": 3, "pullable": 0}
"""Exit codes, the worst first."""


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@option("--from", "source", type=DIRECTORY, metavar="DIR", show_default=".", help="A directory of manifests.")
@option("--pool", metavar="NAME", show_default="the only one", help="The pool of the manifests that is asked about.")
@option(
    "--files", "root", type=DIRECTORY, metavar="DIR", show_default="none",
    help="Files copied from a host, instead of manifests; DIR stands for its /.",
)  # fmt: skip
@option(
    "--image-list", type=click.File(encoding="utf-8", lazy=False), metavar="FILE", show_default="none",
    help="More images, one a line; # begins a comment, - is standard input.",
)  # fmt: skip
@option("--namespace", metavar="NAME", show_default="none", help="The namespace of the pod, where it has a policy.")
@flag("--strict", help="Refuse manifests that today's OpenShift API refuses.")
@output("table", "json", "yaml")
@shared
def why(
    images: tuple[str, ...], source: Path | None, pool: str | None, root: Path | None, image_list: Any,
    namespace: str | None, strict: bool, output: str,
) -> int:  # fmt: skip
    """Say whether nodes could pull an IMAGE, from where, which line and field decides it, and what would change it.

    Told from files alone; no registry is asked whether the image is there. Exit code 0 when all images can be
    pulled, 1 when one cannot, else 3 when for one it cannot be told: it must be signed, or files do not load.
    """
    from reconciler.examine import explain_host, explain_manifests  # as in `validate`

    if root is not None and (source is not None or pool is not None or strict):
        raise UsageError("--files takes the place of manifests", remedy="leave out --from, --pool and --strict")
    asked = [*images, *_listed(image_list)]
    if not asked:
        raise UsageError("no image is named", remedy="name one, or give --image-list FILE")
    if root is not None:
        found = explain_host(root, asked, namespace)
    else:
        now = datetime.now(UTC)
        mode: Mode = "strict" if strict else "default"
        found, assumed = explain_manifests(source or Path(), pool, asked, namespace, mode, now)
        for text in assumed:
            click.echo(f"assumed: {text}", err=True)
    _print(output, found, one=image_list is None and len(images) == 1)
    return next(code for verdict, code in CODES.items() if any(item["verdict"] == verdict for item in found))


def _listed(file: Any) -> Iterator[str]:
    try:
        lines = file.read().splitlines() if file else []
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8", where="--image-list") from None
    for line in lines:
        image = line.partition("#")[0].strip()
        if image:
            yield image


def _print(output: str, found: Sequence[Item], *, one: bool) -> None:
    if one and output == "table":
        for line in _lines(found[0]):
            click.echo(line)
    elif one:
        print_object(output, {"kind": "Explanation", **found[0]})
    else:
        print_list(output, found, COLUMNS, lambda item: item["image"])


def _at(place: Item | None) -> str:
    return f"{place['file']}:{place['line']}" if place else ""


COLUMNS = (
    Column("IMAGE", lambda item: item["image"]),
    Column("VERDICT", lambda item: item["verdict"]),
    Column("DECIDED BY", lambda item: _at(item["decidedBy"])),
    Column("REASON", lambda item: item["reason"]),
)
ORDER = (
    Column("", lambda row: row["number"]),
    Column("", lambda row: row["reference"]),
    Column("", lambda row: "mirror" if row["mirror"] else "source"),
    Column("", lambda row: row["verdict"]),
    Column("", lambda row: _at(row["place"]) or "-"),
    Column("", lambda row: row["reason"] or "-"),
)


def _lines(item: Item) -> Iterator[str]:
    """One explanation: the verdict, what decides it, the pull order of each name, what would have to change."""
    yield f"{item['verdict']}: {item['image']}"
    yield f"  {item['reason']}"
    yield from _decided(item["decidedBy"])
    for attempt in item["attempts"]:
        yield f"pull order of {attempt['reference']}:"
        rows = [{"number": f"{number}.", **step} for number, step in enumerate(attempt["pullOrder"], start=1)]
        yield from (f"  {line.removesuffix('-').rstrip()}" for line in table(rows, ORDER, header=False))
        policy = attempt["policy"]
        yield f"  policy: {policy['what']} ({_at(policy)})"
    if item["changes"]:
        yield "what would have to change:"
        yield from (f"  - {change}" for change in item["changes"])


def _decided(place: Item | None) -> Iterator[str]:
    if place is not None:
        yield f"decided by {_at(place)}  {place['what']}"
        for origin in place["origins"]:
            where = f" ({origin['file']}:{origin['line']})" if origin["file"] else ""
            yield f"  from {origin['resource']} {origin['field']}{where}"
