"""`reconciler version`."""

from __future__ import annotations

import platform

import click

from reconciler import __version__
from reconciler.cli.options import output, shared
from reconciler.cli.output import print_object


@click.command()
@output("table", "json", "yaml")
@shared
def version(output: str) -> None:
    """Show the version of the program, of the renderer, and of the protocol it speaks with nodes."""
    from reconciler.ports import PROTOCOL  # not before it is needed: the renderer takes a while to load
    from reconciler.registries.render import RENDERER_VERSION

    if output == "table":
        click.echo(f"reconciler {__version__} (renderer {RENDERER_VERSION}, node protocol {PROTOCOL})")
        return
    python = platform.python_version()
    fields = {"version": __version__, "renderer": RENDERER_VERSION, "nodeProtocol": PROTOCOL, "python": python}
    print_object(output, {"kind": "Version", **fields})
