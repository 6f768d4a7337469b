"""`reconciler serve`."""

from __future__ import annotations

import click

from reconciler import logs
from reconciler.cli.options import shared
from reconciler.cli.session import Session, run


@click.command()
@shared
@click.pass_obj
def serve(session: Session) -> None:
    """Run the service: look at Git and at the nodes of every fleet at its interval, and keep them equal.

    It answers /livez, /readyz and /metrics at `service.listen`, and ends by SIGTERM or Ctrl-C after the pass in hand,
    at most `service.shutdown_grace` later.
    """
    from reconciler.service import serve as run_service  # not before it is needed: it loads every library

    settings = session.settings
    logs.configure(settings.log.level, settings.log.format)
    run(run_service(settings))
