"""`reconciler cat NODE:PATH`."""

from __future__ import annotations

import click

from reconciler.cli.options import Command, fleet
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
            default="live", show_default="on" if name == "live" else "off", help=text,
        )(command)  # fmt: skip
    return command


@click.command()
@click.argument("file", metavar="NODE:PATH")
@_which
@fleet
@click.pass_obj
def cat(session: Session, file: str, which: str) -> None:
    """Print a node's file, byte for byte."""
    node, colon, path = file.partition(":")
    if not node or not colon or not path.startswith("/"):
        raise UsageError(f"{file!r} is not NODE:PATH", remedy="such as worker-1:/etc/containers/registries.conf")
    click.echo(run(_cat(session, node, path, which)), nl=False)


async def _cat(session: Session, node: str, path: str, which: str) -> bytes:
    from reconciler import queries  # not before it is needed: rendering's libraries take a while to load

    async with session.context() as context:
        return await queries.cat(context, node, path, which)
