"""`reconciler log verify`, `log keygen`, `log checkpoint` and `log export`: the event log as a whole, and its proof."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.export import export as export_log
from reconciler.cli.options import option, output, shared
from reconciler.cli.output import count, print_object
from reconciler.cli.session import Session, run
from reconciler.errors import UsageError
from reconciler.events.checkpoint import VerifierKey

if TYPE_CHECKING:
    from reconciler.verification import Proof, Signed


@click.group()
@shared
def log() -> None:
    """The event log as a whole."""


log.add_command(export_log)


@log.command()
@click.argument("export", required=False, metavar="[EXPORT]", type=click.Path(path_type=Path, dir_okay=False))
@option("--from", "after", metavar="#POSITION", show_default="the first event", help="Trust the log up to here.")
@option(
    "--checkpoint", "checkpoints", multiple=True, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
    show_default="none", help="A signed checkpoint that the log must agree with. May be repeated.",
)  # fmt: skip
@option(
    "--key", "keys", multiple=True, metavar="KEY", show_default="that of checkpoints.key",
    help="The public key of the checkpoints, or a file that holds it. May be repeated.",
)  # fmt: skip
@output("table", "json", "yaml")
@shared
@click.pass_obj
def verify(
    session: Session, export: Path | None, after: str | None, checkpoints: Sequence[Path], keys: Sequence[str],
    output: str,
) -> int:  # fmt: skip
    """Recompute the chain of hashes and every blob's address; exit code 1 when something does not match.

    With EXPORT, a file as `log export -o ndjson` writes it, no database is asked. With --from only what comes after the
    position is verified; its hash is taken as signed by a checkpoint of that position, else as recorded.
    """
    if export is not None and after is not None:
        raise UsageError("an export is verified whole", where="--from", remedy="export from that position")
    signed, unproven = _read_checkpoints(session, checkpoints, keys)
    if export is not None:
        proof = _verify_export(export, signed)
    else:
        proof = run(_verify(session, signed, _position(after) if after is not None else None))
    problems = [*unproven, *proof.problems]
    _print(output, proof, problems)
    return 1 if problems else 0


def _print(form: str, proof: Proof, problems: Sequence[str]) -> None:
    found = proof.found
    if form != "table":
        fields = {"events": found.events, "blobs": found.blobs, "head": found.head, "problems": list(problems)}
        told = {"checkpoints": list(proof.agreeing), "trusted": list(proof.trusted)}
        print_object(form, {"kind": "LogVerification", **fields, **told})
        return
    for problem in problems:
        click.echo(problem)
    for trusted in proof.trusted:
        click.echo(f"trusted, not verified: {trusted}")
    if proof.agreeing:
        click.echo(f"agrees with the checkpoints of {', '.join(f'#{place}' for place in proof.agreeing)}")
    verdict = count(len(problems), "problem") if problems else "verified"
    click.echo(f"{verdict}: {count(found.events, 'event')}, {count(found.blobs, 'blob')}, head {found.head}")


def _read_checkpoints(
    session: Session, files: Sequence[Path], keys: Sequence[str]
) -> tuple[Sequence[Signed], Sequence[str]]:
    if not files:
        return (), ()
    from reconciler.verification import read_checkpoints  # not before it is needed, as below

    return read_checkpoints({str(file): _text(file) for file in files}, _keys(session, keys))


def _keys(session: Session, given: Sequence[str]) -> list[VerifierKey]:
    """Those given, or the public half of ours."""
    if given:
        return [VerifierKey.parse(key) if "+" in key else VerifierKey.parse(_text(Path(key)), key) for key in given]
    from reconciler.wiring import signer_key  # not before it is needed: it loads the database's libraries

    if not session.settings.checkpoints.key:
        raise UsageError("checkpoints prove nothing without the key they are signed with", where="--key")
    return [signer_key(session.settings).public]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is no text"
        raise UsageError(f"cannot be read: {reason}", where=str(file)) from None


def _position(text: str) -> int:
    number = text.removeprefix("#")
    if not number.isdecimal() or number == "0":
        raise UsageError(f"{text!r} is no position", where="--from", remedy="write '#123'")
    return int(number)


async def _verify(session: Session, signed: Sequence[Signed], after: int | None) -> Proof:
    from reconciler.verification import verify  # as above

    async with session.application() as application:
        return await verify(application.log, signed, after)


def _verify_export(export: Path, signed: Sequence[Signed]) -> Proof:
    from reconciler.verification import verify_export  # as above

    try:
        with export.open(encoding="utf-8") as lines:
            return verify_export(lines, signed)
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is no text"
        raise UsageError(f"cannot be read: {reason}", where=str(export)) from None


@log.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@option("--name", metavar="NAME", show_default="this host's name", help="Names the key in what it signs.")
@shared
def keygen(file: Path, name: str | None) -> None:
    """Make a key to sign checkpoints with: the secret into FILE (mode 0600), the public one to standard output.

    Give the public key to whoever verifies, and set checkpoints.key to FILE.
    """
    from reconciler.wiring import make_key  # as above

    click.echo(str(make_key(file, name or socket.gethostname())))


@log.command()
@output("table", "json", "yaml")
@shared
@click.pass_obj
def checkpoint(session: Session, output: str) -> None:
    """Sign the head of the log now, and publish it where the settings say; without a place, on standard output."""
    done = run(_checkpoint(session))
    if done is None:
        click.echo("nothing to sign: the log is empty, or another process is just signing", err=True)
    elif output != "table":
        print_object(output, {"kind": "Checkpoint", **{name: done[name] for name in ("position", "hash", "key")}})
    else:
        click.echo(f"signed: #{done['position']} {done['hash']} with {done['key']}, at {done['targets']}", err=True)


async def _checkpoint(session: Session) -> dict[str, Any] | None:
    from reconciler import checkpoints  # as above
    from reconciler.wiring import signing  # as above

    async with session.application() as application:
        return await checkpoints.sign(signing(application))
