"""`reconciler validate` and `reconciler render`: a directory of manifests, before it is committed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from reconciler.cli.events import POINT
from reconciler.cli.options import flag, fleet, option, output, shared
from reconciler.cli.output import count, print_list, print_object, problem_text
from reconciler.cli.past import asked
from reconciler.cli.session import Session, run
from reconciler.errors import InputRejected, UsageError

if TYPE_CHECKING:
    from reconciler.registries.model import NodeFile

DIRECTORY = click.Path(path_type=Path)


@click.command()
@click.argument("directory", type=DIRECTORY, default=Path(), metavar="[DIR]")
@flag("--strict", help="Refuse what today's OpenShift API refuses, such as tags and digests in registry lists.")
@output("table", "json", "yaml")
@shared
def validate(directory: Path, strict: bool, output: str) -> int:
    """Judge the manifests below DIR as a commit with exactly them would be.

    Needs no database, no Git and no node. Exit code 4 when the commit, or a pool's part of it, would be rejected.
    """
    from reconciler.preview import judge_directory  # not before it is needed: rendering's libraries take a while

    data = judge_directory(directory, "strict" if strict else "default", datetime.now(UTC))
    if output == "table":
        for problem in (*data["problems"], *data["warnings"]):
            click.echo(f"{problem['severity']}: {problem_text(problem)}")
        click.echo(_verdict(data))
        click.echo(f"signatures: {data['signatures']}")
        for pool, known in data["guard"].items():
            click.echo(f"guard of pool {pool}: {known}; what its nodes run is not known here")
    else:
        print_object(output, {"kind": "Validation", "valid": not data["problems"], **data})
    return InputRejected.exit_code if data["problems"] else 0


@click.command()
@click.argument("directory", type=DIRECTORY, required=False, metavar="[DIR]")
@option("--pool", metavar="NAME", show_default="the only one", help="The pool whose nodes' files to render.")
@option(
    "--at", metavar="POINT", show_default="none: DIR, or the current directory",
    help=f"Instead of DIR: what the fleet's log recorded as wanted then, byte for byte. {POINT}",
)  # fmt: skip
@option("--node", metavar="NAME", show_default="all of the pool", help="With --at: this node's files.")
@option(
    "--base-dir",
    type=DIRECTORY,
    metavar="DIR",
    show_default="none: the host has no such files",
    help="A directory that stands for / and holds the host's own files, over which ours are laid.",
)
@option("--out", type=DIRECTORY, metavar="DIR", show_default="standard output", help="Write the files below DIR.")
@flag("--strict", help="Refuse what today's OpenShift API refuses.")
@output("table", "json", "yaml", "name")
@fleet
@click.pass_obj
def render(
    session: Session, directory: Path | None, pool: str | None, at: str | None, node: str | None,
    base_dir: Path | None, out: Path | None, strict: bool, output: str,
) -> None:  # fmt: skip
    """Render the files that the nodes of a pool would get from the manifests below DIR; with --at, those that the
    fleet's nodes were to have then.

    Without --at it needs no database, no Git and no node. Exit code 4 when the manifests are not acceptable.
    """
    if at is not None:
        if directory or base_dir or strict:
            raise UsageError("--at is about the fleet's log", remedy="leave out DIR, --base-dir and --strict")
        files = run(_recorded(session, at, pool, node))
    elif node is not None:
        raise UsageError("--node is about a fleet", remedy="leave it out, or give --at")
    else:
        from reconciler.preview import render_directory  # as above

        mode: Literal["default", "strict"] = "strict" if strict else "default"
        files = render_directory(directory or Path(), pool, base_dir, mode, datetime.now(UTC))
    _print_files(files, out, output)


async def _recorded(session: Session, at: str, pool: str | None, node: str | None) -> tuple[NodeFile, ...]:
    from reconciler.history.files import rendered_files  # as above

    async with asked(session, at, settled=True) as question:
        question.say()
        files, notes = await rendered_files(question.context, pool, node)
        for note in notes:
            click.echo(note, err=True)
        return files


def _print_files(files: Sequence[NodeFile], out: Path | None, output: str) -> None:
    if out is not None:
        for file in files:
            click.echo(str(_write(out, file)))
    elif output == "table":
        for file in files:
            click.echo(f"==> {file.path} <==")
            click.echo(file.content, nl=not file.content.endswith(b"\n"))
    else:
        print_list(output, [_item(file) for file in files], (), lambda item: item["path"])


def _verdict(data: Mapping[str, Any]) -> str:
    warnings = count(len(data["warnings"]), "warning")
    if not data["problems"]:
        what = ", ".join(count(len(data[f"{noun}s"]), noun) for noun in ("resource", "pool", "node"))
        return f"valid: {what}, {warnings}"
    whom = f"pools {', '.join(data['rejected'])}" if data["accepted"] else "all pools"
    return f"rejected for {whom}: {count(len(data['problems']), 'problem')}, {warnings}"


def _item(file: NodeFile) -> dict[str, Any]:
    content = file.content.decode(errors="replace")
    return {"path": file.path, "mode": f"{file.mode:04o}", "sha256": file.sha256, "content": content}


def _write(out: Path, file: NodeFile) -> Path:
    place = out / file.path.lstrip("/")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(place)) from None
    return place
