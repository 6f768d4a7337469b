"""Settings become real parts: the database, the transports, each fleet's repository and context."""

from __future__ import annotations

import asyncio
import os
import pwd
import secrets
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reconciler import __version__
from reconciler.checkpoints import Signing
from reconciler.errors import StoreError, UsageError, redacted
from reconciler.events.checkpoint import SignerKey, VerifierKey
from reconciler.events.envelope import Actor
from reconciler.logs import Log
from reconciler.ports import Blobs, CheckpointTarget, EventFilter, EventLog, Leases, ReadModel
from reconciler.projections.fold import LogFold
from reconciler.settings import Settings
from reconciler.source.branch import BranchFile
from reconciler.source.git_source import GitSource
from reconciler.source.keyring import ALLOWED, GPG, REVOKED, KeyFiles
from reconciler.stages.context import Context, FleetSettings
from reconciler.stages.restores import record_restore
from reconciler.store.backup import Form, backup, form_of, occupied, restore
from reconciler.store.blobs import PostgresBlobs
from reconciler.store.checkpoint_file import CheckpointFile, StandardOutput, read_key, write_key
from reconciler.store.database import engine_for
from reconciler.store.embedded import EmbeddedPostgres
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.export import LogExport
from reconciler.store.leases import PostgresLeases
from reconciler.store.read_model import PostgresReadModel
from reconciler.store.reader import Reader
from reconciler.store.rebuild import Rebuild, Report, rebuild_outdated, rebuilding, unheard
from reconciler.store.upgrade import REBUILD, check, clock, pending, upgrade
from reconciler.transport.drainers import CommandDrainer
from reconciler.transport.local import LocalTransport
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.router import TransportRouter
from reconciler.transport.ssh import SshTransport
from reconciler.verification import Proof, verify
from reconciler.work.inline import InlineRunner

if TYPE_CHECKING:
    from reconciler.kubernetes.parts import ClusterParts

log = Log(__name__)

ActorKind = Literal["login", "service"]

CHECKPOINT_TIMEOUT = 60.0
"""Longest time, in seconds, that publishing a checkpoint in a repository may take."""

POOL_SIZE = 10
"""Database connections of one process."""


class SystemClock:
    """ports.Clock: this machine's."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Application:
    """The parts of one process. Contexts are kept, so that their caches outlive a pass."""

    settings: Settings
    actor: Actor
    owner: str
    log: EventLog
    blobs: Blobs
    reads: ReadModel
    leases: Leases
    transport: TransportRouter
    embedded: EmbeddedPostgres | None
    _contexts: dict[str, Context] = field(default_factory=dict)
    _clusters: AsyncExitStack = field(default_factory=AsyncExitStack)
    """Closes what is open to the clusters."""

    def context(self, fleet: str) -> Context:
        """The context of a configured fleet. Raises UsageError for another."""
        if fleet not in self._contexts:
            self._contexts[fleet] = self._make_context(fleet)
        return self._contexts[fleet]

    def source(self, fleet: str, branch: str | None = None) -> GitSource:
        """A configured fleet's repository, at its branch or another."""
        chosen = self.settings.fleets[fleet]
        mirror = self.settings.data_dir / "mirrors" / f"{fleet}.git"
        return GitSource(
            chosen.url,
            branch or chosen.branch,
            chosen.path,
            mirror,
            chosen.timeout.total_seconds(),
            key_files(self.settings, fleet),
        )

    async def revive_database(self) -> None:
        """Start the embedded PostgreSQL again when it is gone; a given database is left alone. Raises StoreError."""
        if self.embedded is not None:
            await asyncio.to_thread(self.embedded.start)

    async def check_log(self) -> None:
        """Raises StoreError while the log cannot be read."""
        await self.log.read(EventFilter(limit=1, newest_first=True))

    def _make_context(self, fleet: str) -> Context:
        known = self.settings.fleets
        if fleet not in known:
            raise UsageError(f"there is no fleet {fleet}", where="--fleet", remedy=f"configured: {', '.join(known)}")
        chosen = known[fleet]
        parts = self._cluster(fleet)
        transport = self.transport.and_kubernetes(parts.transport) if parts else self.transport
        commands = CommandDrainer(transport, self.settings.hooks.controller)
        stores = (self.log, self.blobs, self.reads, self.leases)
        told = (redacted(chosen.url), chosen.branch, chosen.path, chosen.validation, chosen.verify)
        return Context(
            FleetSettings(fleet, *told, chosen.node_selector, chosen.helper_image),
            self.source(fleet),
            *stores,
            InlineRunner(transport),
            SystemClock(),
            self.actor,
            self.owner,
            __version__,
            drainers={"command": commands} if parts is None else {"command": commands, "kubernetes": parts.drainer},
            lacking={} if parts else {"kubernetes": f"the fleet has no cluster: set fleets.{fleet}.kubernetes"},
            cluster=parts.cluster if parts else None,
            cluster_resources=parts.resources if parts else None,
        )

    def _cluster(self, fleet: str) -> ClusterParts | None:
        """What the fleet has of its cluster, to which nothing is opened before it is asked."""
        chosen = self.settings.fleets[fleet]
        if chosen.kubernetes == "none":
            return None
        from reconciler.kubernetes.parts import cluster_parts  # only fleets with a cluster wait for its libraries

        async def living() -> Collection[str]:
            return (await self.leases.live("owner/")).values()

        parts = cluster_parts(fleet, chosen, self.log.log_id, self.owner, living, SystemClock())
        self._clusters.push_async_callback(parts.close)
        return parts

    async def close(self) -> None:
        """Close what contexts opened."""
        await self._clusters.aclose()


def signer_key(settings: Settings) -> SignerKey:
    """The key that checkpoints are signed with. Raises UsageError where none is set, or others may use it."""
    if not settings.checkpoints.key:
        remedy = "make one with `reconciler log keygen FILE`, and set checkpoints.key to the file"
        raise UsageError("no key to sign checkpoints with is set", where="checkpoints.key", remedy=remedy)
    return read_key(Path(settings.checkpoints.key))


def make_key(file: Path, name: str) -> VerifierKey:
    """Write a new secret key into a new file; its public half. Raises UsageError."""
    key = SignerKey(name, secrets.token_bytes(32))
    write_key(file, key)
    return key.public


def signing(application: Application) -> Signing:
    """What signs checkpoints, and where they go. Raises UsageError."""
    settings = application.settings
    if not settings.fleets:
        raise UsageError("no fleet is configured", where="fleets", remedy="name the settings file with --config")
    return Signing(
        [application.context(fleet) for fleet in sorted(settings.fleets)], signer_key(settings), _targets(settings)
    )


def _targets(settings: Settings) -> list[CheckpointTarget]:
    chosen = settings.checkpoints
    targets: list[CheckpointTarget] = []
    if chosen.file:
        targets.append(CheckpointFile(Path(chosen.file)))
    if chosen.repository:
        directory = settings.data_dir / "checkpoints.git"
        targets.append(BranchFile(chosen.repository, chosen.branch, "checkpoint", directory, CHECKPOINT_TIMEOUT))
    return targets or [StandardOutput()]


def key_files(settings: Settings, fleet: str) -> KeyFiles:
    """The files of keys by which a fleet's commits are judged; where nothing is verified, none is opened."""
    chosen = settings.fleets[fleet]
    named = {ALLOWED: chosen.allowed_signers, REVOKED: chosen.revoked_signers, GPG: chosen.gpg_keys}
    files = {setting: Path(file) for setting, file in named.items() if file and chosen.verify != "none"}
    return KeyFiles(files, settings.data_dir / "keyrings")


@asynccontextmanager
async def open_application(
    settings: Settings, *, actor_kind: Literal["login", "service"]
) -> AsyncIterator[Application]:
    """Everything a process works with, closed at the end. While open, the process is alive to others: its lease
    `owner/OWNER` is renewed.

    Raises StoreError when the database cannot be used; a given one is never migrated here.
    """
    async with AsyncExitStack() as stack:
        embedded, url = await _database(settings, stack)
        engine = engine_for(url, pool_size=POOL_SIZE)
        stack.push_async_callback(engine.dispose)
        fold = LogFold()
        event_log = await PostgresEventLog.open(engine, fold, tool_version=__version__)
        transport = transports(settings)
        stack.push_async_callback(transport.close)
        host = socket.gethostname()
        application = Application(
            settings,
            Actor(actor_kind, f"{login()}@{host}", claimed=os.environ.get("SUDO_USER", "")),
            f"{host}:{os.getpid()}:{secrets.token_hex(4)}",
            event_log,
            PostgresBlobs(engine),
            PostgresReadModel(engine, fold),
            PostgresLeases(engine),
            transport,
            embedded,
        )
        stack.push_async_callback(application.close)
        await stack.enter_async_context(_alive(application))
        yield application


def login() -> str:
    """Who this process runs as, by the operating system; no variable can claim another name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[str]:
    """The URL of the database, running, its schema as it is. Raises StoreError."""
    async with AsyncExitStack() as stack:
        yield (await _running(settings, stack))[1]


@asynccontextmanager
async def reader(settings: Settings) -> AsyncIterator[Reader]:
    """Questions in SQL to the database, running, with today's schema. Raises StoreError."""
    async with AsyncExitStack() as stack:
        yield Reader((await _database(settings, stack))[1])


@asynccontextmanager
async def log_export(settings: Settings) -> AsyncIterator[LogExport]:
    """The log as it stands, for a copy outside. Raises StoreError."""
    async with AsyncExitStack() as stack:
        _, url = await _database(settings, stack)
        engine = engine_for(url)
        stack.push_async_callback(engine.dispose)
        yield LogExport(engine)


async def upgrade_database(settings: Settings, report: Report = unheard) -> list[str]:
    """Run the pending migrations, rebuild read tables of an older fold, and give the names of what was pending.
    `report` is told how many events of how many are folded. Raises StoreError."""
    async with database(settings) as url:
        return await _upgrade(url, await asyncio.to_thread(pending, url), report)


@asynccontextmanager
async def rebuilding_database(settings: Settings, report: Report) -> AsyncIterator[Rebuild]:
    """A rebuild of the read tables, with nothing put in place yet; `report` as above. Raises StoreError."""
    async with AsyncExitStack() as stack:
        _, url = await _database(settings, stack)
        engine = engine_for(url)
        stack.push_async_callback(engine.dispose)
        yield await stack.enter_async_context(rebuilding(engine, LogFold(), report))


async def check_database(settings: Settings) -> tuple[list[str], datetime]:
    """What keeps the database from being used as intended, each with its remedy; and its time. Raises StoreError."""
    async with database(settings) as url:
        return await asyncio.to_thread(check, url), await asyncio.to_thread(clock, url)


async def backup_database(settings: Settings, file: Path, form: Form) -> int:
    """Dump the database into a new file; its size in bytes. Raises UsageError and StoreError."""
    async with database(settings) as url:
        return await asyncio.to_thread(backup, url, file, form)


async def events_to_replace(settings: Settings, file: Path) -> int:
    """How many events a restore of this file would replace. Raises UsageError where it is no backup, StoreError where
    the database is in use, or another's."""
    form_of(file)
    async with database(settings) as url:
        return await asyncio.to_thread(occupied, url)


async def restore_database(settings: Settings, file: Path) -> Proof:
    """Replace the database by a backup, bring it to this version's schema, verify the log, and record in each fleet
    that it was restored: no node is written before a person accepts it. Raises UsageError and StoreError."""
    async with database(settings) as url:
        await asyncio.to_thread(occupied, url)
        await asyncio.to_thread(restore, url, file)
        await _upgrade(url, (), unheard)
    async with open_application(settings, actor_kind="login") as application:
        proof = await verify(application.log, ())
        head = {"position": proof.found.events, "hash": proof.found.head, "found": proof.found.head}
        for fleet in sorted(settings.fleets) if proof.found.events else ():
            evidence = {"source": "backup", "name": file.name, "epoch": 0, **head}
            await record_restore(application.context(fleet), [evidence])
        return proof


async def _running(settings: Settings, stack: AsyncExitStack) -> tuple[EmbeddedPostgres | None, str]:
    if settings.database.url:
        return None, settings.database.url
    embedded = EmbeddedPostgres(settings.data_dir)
    stack.push_async_callback(asyncio.to_thread, embedded.stop)
    return embedded, await asyncio.to_thread(embedded.start)


async def _database(settings: Settings, stack: AsyncExitStack) -> tuple[EmbeddedPostgres | None, str]:
    """The database, with today's schema: the embedded one is ours to migrate, a given one is its owner's."""
    embedded, url = await _running(settings, stack)
    names = await asyncio.to_thread(pending, url)
    if names and embedded is None:
        raise StoreError(
            f"the database's schema is older than this version: {len(names)} migrations are pending",
            where="database",
            remedy="run `reconciler db upgrade`",
        )
    if names:
        await _upgrade(url, names, unheard)
    return embedded, url


async def _upgrade(url: str, names: Sequence[str], report: Report) -> list[str]:
    await asyncio.to_thread(upgrade, url)
    engine = engine_for(url)
    try:
        rebuilt = await rebuild_outdated(engine, LogFold(), report)
    finally:
        await engine.dispose()
    return list(dict.fromkeys([*names, REBUILD] if rebuilt else names))


def transports(settings: Settings) -> TransportRouter:
    """Every way to reach nodes, with these settings."""
    ssh = settings.ssh
    return TransportRouter(
        {
            "ssh": SshTransport(
                known_hosts=str(ssh.known_hosts),
                identity_files=[str(file) for file in ssh.identity_files],
                config_file=str(ssh.config_file),
                connect_timeout=ssh.connect_timeout.total_seconds(),
            ),
            "local": LocalTransport(),
            "memory": MemoryTransport(SystemClock()),
        }
    )


@asynccontextmanager
async def _alive(application: Application) -> AsyncIterator[None]:
    """Hold the lease `owner/OWNER`: while it lasts, nobody takes over the steps this process began."""
    name, seconds = f"owner/{application.owner}", int(application.settings.service.lease.total_seconds())
    await application.leases.acquire(name, application.owner, seconds)
    renewal = asyncio.create_task(_renew(application, name, seconds))
    try:
        yield
    finally:
        renewal.cancel()
        with suppress(asyncio.CancelledError):
            await renewal
        with suppress(StoreError):  # it runs out by itself
            await application.leases.release(name, application.owner)


async def _renew(application: Application, name: str, seconds: int) -> None:
    while True:
        await asyncio.sleep(seconds / 3)
        try:
            await application.leases.acquire(name, application.owner, seconds)
        except StoreError as error:
            log.warning("lease", "cannot be renewed now", reason=error.what)
