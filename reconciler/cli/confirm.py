"""Asking before something that changes nodes."""

from __future__ import annotations

import sys

import click

from reconciler.cli.options import flag
from reconciler.errors import UsageError

yes = flag("-y", "--yes", help="Do not ask.")


def confirm(question: str, *, yes: bool) -> None:
    """Ask on standard error, unless told not to. Raises UsageError where nobody can answer, Exit(1) on a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"not confirmed: {question}", where="standard input is no terminal", remedy="say --yes")
    if not click.confirm(question, err=True):
        click.echo("nothing was changed", err=True)
        raise click.exceptions.Exit(1)
