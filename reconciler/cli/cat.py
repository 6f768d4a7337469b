"""`reconciler cat NODE:PATH`."""

from __future__ import annotations

import click

from reconciler.cli.options import Command, fleet
from reconciler.cli.past import asked, at_option
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError

_WHICH = {
    "live": "What the node has now; asks the node.",
    "observed": "What it was last seen to have.",
    "applied": "What its last receipt proved.",
    "wanted": "What it should have.",
}


def _which(command: Command) -> Command:
    """One of four flags; the last one given wins."""
    for name, text in reversed(_WHICH.items()):
        command = click.option(
            f"--{name}", "which", flag_value=name, envvar="RECONCILER_CAT", show_envvar=True,
            default=None, show_default="on, with --at observed" if name == "live" else "off", help=text,
        )(command)  # fmt: skip
    return command


@click.command()
@click.argument("file", metavar="NODE:PATH")
@_which
@at_option
@fleet
@click.pass_obj
def cat(session: Session, file: str, which: str | None, at: str | None) -> None:
    """Print a node's file, byte for byte; with --at as it was, or was wanted, at that point in time."""
    node, path = node_and_path(file)
    if at and which == "live":
        raise UsageError(
            "nobody can ask a node what it had", where="--live", remedy="give --observed, or leave out --at"
        )
    click.echo(run(_cat(session, node, path, which or ("observed" if at else "live"), at)), nl=False)


def node_and_path(file: str) -> tuple[str, str]:
    """The two parts of NODE:PATH. Raises UsageError."""
    node, colon, path = file.partition(":")
    if not node or not colon or not path.startswith("/"):
        raise UsageError(f"{file!r} is not NODE:PATH", remedy="such as worker-1:/etc/containers/registries.conf")
    return node, path


async def _cat(session: Session, node: str, path: str, which: str, at: str | None) -> bytes:
    from reconciler import queries  # not before it is needed: rendering's libraries take a while to load

    async with asked(session, at, settled=True) as question:
        question.say()
        return await queries.cat(question.context, node, path, which)
