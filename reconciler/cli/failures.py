"""What an error becomes at the command line: one message on standard error and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback

import click

from reconciler.errors import ReconcilerError, redacted

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def report(error: BaseException) -> int:
    """Say it on standard error; the exit code it ends with."""
    if isinstance(error, ReconcilerError):
        return _say(str(error), error.exit_code)
    if isinstance(error, click.ClickException):
        error.show(sys.stderr)
        return error.exit_code
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return _say("interrupted", INTERRUPTED)
    return _say(f"{type(error).__name__}: {error}".splitlines()[0] + f" — this is a bug; {_traceback(error)}", 1)


def _say(message: str, code: int) -> int:
    click.echo(f"error: {redacted(message)}", err=True)
    return code


def _traceback(error: BaseException) -> str:
    """Where the traceback was written, for the report."""
    text = redacted("".join(traceback.format_exception(error)))
    try:
        handle, name = tempfile.mkstemp(prefix="reconciler-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as problem:
        return f"its traceback could not be written: {problem.strerror}"
    return f"its traceback is in {name}"
