"""The program `reconciler`: its verbs, and what an error becomes: a message, an exit code, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from reconciler.cli.approve import accept, approve
from reconciler.cli.bisect import bisect
from reconciler.cli.blame import blame
from reconciler.cli.cat import cat
from reconciler.cli.completion import completion
from reconciler.cli.config import config
from reconciler.cli.custody import adopt, release
from reconciler.cli.db import db
from reconciler.cli.demo import demo
from reconciler.cli.describe import describe
from reconciler.cli.diff import diff
from reconciler.cli.doctor import doctor
from reconciler.cli.failures import report
from reconciler.cli.follow import events
from reconciler.cli.get import get
from reconciler.cli.history import history, show
from reconciler.cli.hold import hold
from reconciler.cli.hostkeys import hostkeys
from reconciler.cli.import_ import import_
from reconciler.cli.init import init
from reconciler.cli.lint import lint
from reconciler.cli.log import log
from reconciler.cli.node import node, verify_node
from reconciler.cli.options import fleet
from reconciler.cli.override import override
from reconciler.cli.plan import plan
from reconciler.cli.redact import redact
from reconciler.cli.rollback import rollback
from reconciler.cli.rollout import abort, pause, resume, retry
from reconciler.cli.serve import serve
from reconciler.cli.session import Session
from reconciler.cli.simulate import simulate
from reconciler.cli.sql import sql
from reconciler.cli.status import status
from reconciler.cli.sync import sync
from reconciler.cli.validate import render, validate
from reconciler.cli.version import version
from reconciler.cli.wait import wait
from reconciler.cli.why import why

VERBS: tuple[click.Command, ...] = (
    init,
    demo,
    serve,
    sync,
    status,
    get,
    describe,
    cat,
    history,
    show,
    events,
    sql,
    diff,
    plan,
    wait,
    node,
    verify_node,
    validate,
    render,
    lint,
    simulate,
    why,
    bisect,
    blame,
    import_,
    hostkeys,
    rollback,
    hold,
    approve,
    override,
    accept,
    pause,
    resume,
    abort,
    retry,
    release,
    adopt,
    redact,
    log,
    db,
    config,
    doctor,
    completion,
    version,
)


class Program(click.Group):
    """A group that ends as docs/reference/exit-codes.md says, and lists its verbs in the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs = {"prog_name": "reconciler", **{k: v for k, v in kwargs.items() if v is not None}}
        kwargs["standalone_mode"] = False
        sys.exit(exit_code(lambda: super(Program, self).main(*args, **kwargs)))


@click.group(
    cls=Program,
    name="reconciler",
    context_settings={
        "auto_envvar_prefix": "RECONCILER",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,
    },
)
@fleet
@click.pass_context
def main(ctx: click.Context) -> None:
    """Keep the container-registry configuration of a fleet equal to what a Git repository says.

    Data goes to standard output, progress and questions to standard error.
    """
    ctx.ensure_object(Session)


for verb in VERBS:
    main.add_command(verb)


def exit_code(invoke: Callable[[], Any]) -> int:
    """Run a verb; the exit code it gives, or that of its error."""
    try:
        result = invoke()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is, a person gets one line
        return report(error)
    return result if isinstance(result, int) else 0
