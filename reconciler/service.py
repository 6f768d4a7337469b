"""The service: a pass over each fleet at its interval, health and metrics over HTTP, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from reconciler import __version__, checkpoints, commands
from reconciler.checkpoints import Signing
from reconciler.cycle import Pass
from reconciler.errors import ReconcilerError, StoreError, UsageError
from reconciler.events.catalogue import Event, NodeConverged, NodeDeferred, NodeFailed, StepAbandoned
from reconciler.logs import Log, bind
from reconciler.metrics import CONTENT_TYPE, Metrics, PoolCounts
from reconciler.ports import EventFilter
from reconciler.projections.status import FleetStatus
from reconciler.settings import Settings
from reconciler.stages.context import Context, Progress
from reconciler.wiring import Application, open_application, signing

log = Log(__name__)

CHECKPOINT_LOOK = 10.0
"""Seconds between two looks whether a checkpoint is due."""

LOG_ANSWER_SECONDS = 5.0
"""Within this time the log answers, or the service is not ready."""


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises UsageError (no fleet, address or key unusable) or StoreError at first."""
    if not settings.fleets:
        raise UsageError("no fleet is configured", where="fleets", remedy="name the settings file with --config")
    # A pass that takes longer than its interval is no news: the next one begins when it is due again.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    async with open_application(settings, actor_kind="service") as application:
        service = Service(application)
        notary = Notary(signing(application), settings) if settings.checkpoints.key else None
        await service.begin()
        async with _listening(settings, service):
            scheduler = _schedule(settings, service, notary)
            await _signalled()
            scheduler.pause()
            await service.finish(settings.service.shutdown_grace.total_seconds())
            scheduler.shutdown(wait=False)


class Service:
    """Makes passes, and remembers for /readyz and /metrics how they went."""

    def __init__(self, application: Application) -> None:
        self.metrics = Metrics(__version__)
        self._application = application
        self._not_ready = dict.fromkeys(application.settings.fleets, "no pass yet")
        self._counted = 0
        self._running: set[asyncio.Task[None]] = set()
        self._contexts: dict[str, Context] = {}
        self._stopping = False

    async def begin(self) -> None:
        """Count events from here on."""
        newest = await self._application.log.read(EventFilter(limit=1, newest_first=True))
        self._counted = newest[0].position if newest else 0

    async def look(self, fleet: str) -> None:
        """One pass over a fleet. No error leaves it: the next tick tries again."""
        task = asyncio.ensure_future(self._pass(fleet))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await task

    async def finish(self, grace: float) -> None:
        """Begin no step any more; wait for the steps in hand, at most `grace` seconds."""
        self._stopping = True
        for context in self._contexts.values():
            context.stopping = True
        if self._running:
            log.info("stop", "waiting for the pass in hand", grace=f"{grace:g}s")
            _, late = await asyncio.wait(self._running, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        log.info("stop", "ended")

    async def reasons(self) -> dict[str, str]:
        """Why the service is not ready: fleet, or `log`, → reason."""
        found = {fleet: reason for fleet, reason in self._not_ready.items() if reason}
        try:
            await asyncio.wait_for(self._application.check_log(), LOG_ANSWER_SECONDS)
        except StoreError as error:
            found["log"] = error.what
        except TimeoutError:
            found["log"] = f"no answer within {LOG_ANSWER_SECONDS:g} s"
        return found

    async def _pass(self, fleet: str) -> None:
        began = time.monotonic()
        with bind(fleet=fleet, cycle=secrets.token_hex(4)):
            try:
                await self._application.revive_database()
                context = self._context(fleet)
                done, status = await commands.sync(context)
                await self._measure(context, done, status)
            except ReconcilerError as error:
                self._not_ready[fleet] = error.what
                log.error("pass", error.what, where=error.where, remedy=error.remedy)  # noqa: TRY400 - expected: no traceback
            except Exception as error:  # one fleet's bug must not end the others' service
                self._not_ready[fleet] = f"{type(error).__name__}: {error}"
                log.exception("pass", "failed unexpectedly; this is a bug")
            else:
                self._not_ready[fleet] = ""
                _summarise(done, status, time.monotonic() - began)
            finally:
                self.metrics.cycle(fleet, time.monotonic() - began)

    def _context(self, fleet: str) -> Context:
        context = self._contexts[fleet] = self._application.context(fleet)
        context.progress, context.stopping = _debug, self._stopping
        return context

    async def _measure(self, context: Context, done: Pass, status: FleetStatus) -> None:
        self.metrics.fetch(context.name, "failed" if done.head is None else "moved" if done.commits else "unchanged")
        pools = {
            pool.name: PoolCounts(pool.machines, pool.updated, pool.degraded, pool.machines - pool.ready)
            for pool in status.pools
        }
        self.metrics.fleet(context.name, pools, sum(node.files == "Drifted" for node in status.nodes))
        for event in await context.log.read(EventFilter(after=self._counted)):
            self._counted = event.position
            self.metrics.appended(event.fleet, 1, event.position)
            if result := _step_result(event.body):
                self.metrics.step(event.fleet, result)


class Notary:
    """Signs the head of the log when it is due. At its first look it holds the log against what is published."""

    def __init__(self, signing: Signing, settings: Settings) -> None:
        self._signing, self._settings = signing, settings.checkpoints
        self._checked = False

    async def look(self) -> None:
        """No error leaves it: the next tick tries again."""
        try:
            if not self._checked:
                await checkpoints.check(self._signing)
                self._checked = True
            if await checkpoints.is_due(self._signing, self._settings.interval, self._settings.events):
                done = await checkpoints.sign(self._signing)
                if done is not None:
                    log.info("checkpoint", "signed", position=done["position"], targets=done["targets"])
        except ReconcilerError as error:
            log.error("checkpoint", error.what, where=error.where, remedy=error.remedy)  # noqa: TRY400 - expected: no traceback
        except Exception:  # the passes go on
            log.exception("checkpoint", "failed unexpectedly; this is a bug")


def _step_result(body: Event) -> str:
    """How a step ended, where the event ends one."""
    if isinstance(body, NodeConverged):
        return str(body.receipt.get("result", "applied"))
    if isinstance(body, NodeFailed):
        return "reverted" if body.reverted else "failed"
    if isinstance(body, NodeDeferred):
        return "unreachable"
    return "refused" if isinstance(body, StepAbandoned) else ""


def _debug(progress: Progress) -> None:
    log.debug(progress.stage.partition(" ")[0], progress.message)


def _summarise(done: Pass, status: FleetStatus, seconds: float) -> None:
    """The one line of a pass."""
    converged = sum(node.files == "Converged" for node in status.nodes)
    write = log.warning if done.failed else log.info
    write(
        "pass",
        "converged" if status.exit_code == 0 else "not converged",
        head=(done.head or "unreachable")[:12],
        commits=done.commits,
        rendered=done.rendered,
        steps=sum(pool.acted for pool in done.pools),
        failed=len(done.failed),
        waiting=sum(len(pool.waits) for pool in done.pools),
        nodes=f"{converged}/{len(status.nodes)}",
        seconds=f"{seconds:.2f}",
    )


def _schedule(settings: Settings, service: Service, notary: Notary | None) -> AsyncIOScheduler:
    scheduler = AsyncIOScheduler(timezone=UTC)
    for name, fleet in settings.fleets.items():
        scheduler.add_job(
            service.look,
            "interval",
            args=[name],
            id=name,
            **_at_once(fleet.interval.total_seconds()),
        )
    if notary is not None:
        scheduler.add_job(notary.look, "interval", id="/checkpoints", **_at_once(CHECKPOINT_LOOK))
    scheduler.start()
    return scheduler


def _at_once(seconds: float) -> dict[str, Any]:
    """A job's trigger: now, and then at this interval, never twice at once."""
    begin = {"seconds": seconds, "next_run_time": datetime.now(UTC)}
    return {**begin, "misfire_grace_time": None, "coalesce": True, "max_instances": 1}


async def _signalled() -> None:
    """Return at the first SIGTERM or SIGINT. A second one then ends the process at once."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, asked.set)
    await asked.wait()
    for number in numbers:
        loop.remove_signal_handler(number)


# --- HTTP -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _listening(settings: Settings, service: Service) -> AsyncIterator[None]:
    runner = web.AppRunner(_web(service), access_log=None)
    await runner.setup()
    host, port = settings.service.address
    try:
        site = web.TCPSite(runner, host or None, port)
        try:
            await site.start()
        except OSError as error:
            raise UsageError(
                f"cannot listen there: {error.strerror}",
                where=f"service.listen {settings.service.listen}",
                remedy="free the address, or set service.listen to another",
            ) from None
        for address in runner.addresses:
            log.info("listen", "serving /livez /readyz /metrics", address=f"{address[0]}:{address[1]}")
        yield
    finally:
        await runner.cleanup()


def _web(service: Service) -> web.Application:
    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        reasons = await service.reasons()
        if reasons:
            return web.json_response({"status": "not ready", "reasons": reasons}, status=503)
        return web.json_response({"status": "ok"})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    application = web.Application(middlewares=[_json_errors])
    application.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return application


@web.middleware
async def _json_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return web.json_response({"error": {"code": error.status, "message": error.reason}}, status=error.status)
