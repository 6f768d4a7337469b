"""`reconciler hostkeys scan`: which host keys hosts show, for people to compare before they are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from reconciler.cli.options import option, output, shared
from reconciler.cli.output import Column, Item, print_list, print_object
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError


@click.group()
def hostkeys() -> None:
    """Host keys of nodes."""


@hostkeys.command()
@click.argument("addresses", nargs=-1, metavar="[HOST[:PORT]]...")
@option(
    "--nodes", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", show_default="none",
    help="Hosts, one [USER@]HOST[:PORT] a line, or Node documents in YAML.",
)  # fmt: skip
@output("table", "hostkeys", "known_hosts", "json", "yaml")
@shared
@click.pass_obj
def scan(session: Session, addresses: tuple[str, ...], nodes: Path | None, output: str) -> int:
    """Show the host keys that hosts have now, with fingerprints. Nothing is trusted or written by this.

    Compare each fingerprint with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on the host itself.
    KNOWN says what is vouched for already, by the Node document or known_hosts: `yes`, `no`, or `other`, where only
    other keys are. Exit code 1 when a host does not answer or shows only `other` keys.
    """
    from reconciler.adoption.keys import scan_keys  # not before it is needed: SSH's library takes a while

    if not addresses and nodes is None:
        raise UsageError("no host is named", remedy="name one, or give --nodes FILE")
    found = run(scan_keys(session.settings, addresses, nodes))
    shown = [{**item, **key} for item in found for key in item["keys"]]
    if output == "hostkeys":
        for item in found:
            click.echo(f"# {item['host']}\nhostKeys:")
            for key in item["keys"]:
                click.echo(f"- {key['key']}  # {key['fingerprint']}")
    elif output == "known_hosts":
        for key in shown:
            click.echo(f"{key['knownAs']} {key['key']}")
    elif output == "table":
        print_list(output, shown, COLUMNS, lambda key: str(key["host"]))
    else:
        print_object(output, {"kind": "List", "items": found})
    _complain(found)
    return 1 if any(item["error"] or item["strange"] for item in found) else 0


COLUMNS = (
    Column("HOST", lambda key: key["host"]),
    Column("TYPE", lambda key: key["key"].partition(" ")[0]),
    Column("FINGERPRINT", lambda key: key["fingerprint"]),
    Column("KNOWN", lambda key: key["known"]),
)


def _complain(found: Sequence[Item]) -> None:
    for item in found:
        if item["error"]:
            click.echo(f"{item['host']}: {item['error']}", err=True)
        elif item["strange"]:
            click.echo(f"{item['host']}: shows none of its known keys: installed anew, or not the host", err=True)
