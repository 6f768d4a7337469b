"""Examines what reconciler needs around it, and says what to do where something is missing: for `doctor`."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reconciler.errors import NodeError, ReconcilerError
from reconciler.ports import Cluster, ObserveRequest
from reconciler.projections.tables import NODES
from reconciler.settings import Settings
from reconciler.source.keyring import KeyFiles, writable_by_others
from reconciler.stages.context import Context
from reconciler.stages.inventory import another_cluster
from reconciler.stages.observe import target_of
from reconciler.wiring import check_database, key_files, open_application

OLDEST_GIT = (2, 30)
CLOCK_TOLERANCE = 5.0
"""Seconds by which this machine and the database may differ before lease times and ages mislead."""


@dataclass(frozen=True)
class Finding:
    """One thing examined. `remedy` is empty where it is well."""

    subject: str
    ok: bool
    detail: str
    remedy: str = ""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Everything, one after the other; nothing is changed, and no error ends it."""
    yield _settings(settings)
    yield await asyncio.to_thread(_git)
    yield await asyncio.to_thread(_ssh, settings)
    async for finding in _database(settings):
        yield finding


def _settings(settings: Settings) -> Finding:
    if not settings.fleets:
        return Finding(
            "settings", False, "no fleet is configured", "write reconciler.toml: `reconciler init --url URL`"
        )
    return Finding("settings", True, f"fleets: {', '.join(sorted(settings.fleets))}; data in {settings.data_dir}")


def _git() -> Finding:
    program = shutil.which("git")
    if program is None:
        return Finding("git", False, "the git program is not there", "install git, or put it on PATH")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    numbers = tuple(int(part) for part in said.removeprefix("git version ").split(".")[:2] if part.isdecimal())
    if numbers < OLDEST_GIT:
        return Finding("git", False, said or "it does not say its version", "install git 2.30 or newer")
    return Finding("git", True, said)


def _ssh(settings: Settings) -> Finding:
    """Keys to log in with: the agent's, those named, or OpenSSH's defaults."""
    ssh = settings.ssh
    unreadable = [str(file) for file in ssh.identity_files if not os.access(file, os.R_OK)]
    if unreadable:
        what = f"cannot be read: {', '.join(unreadable)}"
        return Finding("ssh keys", False, what, "correct ssh.identity_files, or the files' permissions")
    found = [str(file) for file in ssh.identity_files] or [str(file) for file in _default_keys()]
    if os.environ.get("SSH_AUTH_SOCK"):
        found.insert(0, "the agent's")
    if not found:
        remedy = "only needed for nodes over SSH: ssh-keygen -t ed25519, or set ssh.identity_files"
        return Finding("ssh keys", True, f"none found ({remedy})")
    return Finding("ssh keys", True, f"{', '.join(found)}; known hosts: {ssh.known_hosts}")


def _default_keys() -> list[Path]:
    try:
        return sorted(file for file in (Path.home() / ".ssh").glob("id_*") if file.suffix != ".pub")
    except (OSError, RuntimeError):
        return []


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    """The database; with it the clock, and each fleet's repository and nodes."""
    async with AsyncExitStack() as stack:
        try:
            application = await stack.enter_async_context(open_application(settings, actor_kind="login"))
            problems, now = await check_database(settings)
        except ReconcilerError as error:
            yield _failed("database", error)
            return
        kind = "DATABASE_URL" if settings.database.url else "embedded PostgreSQL"
        remedy = "run `reconciler db check`" if problems else ""
        yield Finding("database", not problems, "; ".join(problems) or f"{kind}, log {application.log.log_id}", remedy)
        yield _clock((now - datetime.now(UTC)).total_seconds())
        for name in sorted(settings.fleets):
            try:
                context = application.context(name)
            except ReconcilerError as error:
                yield _failed(f"fleet {name}", error)
                continue
            yield await _keys(context, key_files(settings, name))
            yield await _repository(context)
            if context.cluster is not None:
                yield await _cluster(context.name, context.cluster)
            yield await _nodes(context)


def _clock(apart: float) -> Finding:
    """`apart`: seconds by which the database, whose clock dates events and leases, is ahead of this machine."""
    ok = abs(apart) <= CLOCK_TOLERANCE
    return Finding("clock", ok, f"{apart:+.1f} s from the database's", "" if ok else "synchronise both with NTP")


async def _keys(context: Context, key_files: KeyFiles) -> Finding:
    """Whether commits can be judged by their signatures, and only the keys' owner says which keys count."""
    subject = f"fleet {context.name}: signatures"
    if context.fleet.verify == "none":
        return Finding(subject, True, "not checked (verify is none)")
    try:
        await context.source.keys()
        loose = [str(file) for file in key_files.files.values() if writable_by_others(file)]
    except ReconcilerError as error:
        return _failed(subject, error)
    if loose:
        return Finding(subject, False, f"may be written by others: {', '.join(loose)}", "chmod go-w, on each")
    return Finding(subject, True, f"{context.fleet.verify}, by {', '.join(map(str, key_files.files.values()))}")


async def _repository(context: Context) -> Finding:
    subject = f"fleet {context.name}: repository"
    try:
        head = await context.source.head()
    except ReconcilerError as error:
        return _failed(subject, error)
    return Finding(subject, True, f"{context.fleet.url} branch {context.fleet.branch} at {head[:12]}")


async def _cluster(fleet: str, cluster: Cluster) -> Finding:
    """Whether the Kubernetes API answers, and lets us do what we have to."""
    subject = f"fleet {fleet}: cluster"
    try:
        found = await cluster.check()
    except ReconcilerError as error:
        return _failed(subject, error)
    if found.missing:
        what = f"Kubernetes {found.version}; missing rights: {', '.join(found.missing)}"
        return Finding(subject, False, what, "grant them to the user of the kubeconfig file, or the service account")
    return Finding(subject, True, f"Kubernetes {found.version}; all rights that are needed")


async def _nodes(context: Context) -> Finding:
    """Whether each node answers; what it has is not compared."""
    subject = f"fleet {context.name}: nodes"
    snapshot = await context.snapshot()
    rows = snapshot.table(NODES)
    if (other := another_cluster(snapshot)) and any(r["spec"]["transport"] == "kubernetes" for r in rows.values()):
        return Finding(subject, False, f"not asked: {other}", "see `reconciler status`")
    asked = [
        (target_of(context.name, key[1], row["spec"]), ObserveRequest(context.log.log_id, "crio", {}))
        for key, row in sorted(rows.items())
    ]
    if not asked:
        return Finding(subject, True, "none known yet: `reconciler sync` reads them from the repository")
    answers = await context.runner.observe(asked)
    silent = [f"{t.name}: {a.what}" for (t, _), a in zip(asked, answers, strict=True) if isinstance(a, NodeError)]
    if silent:
        remedy = next((a.remedy for a in answers if isinstance(a, NodeError) and a.remedy), "see `reconciler status`")
        return Finding(subject, False, "; ".join(silent), remedy)
    return Finding(subject, True, f"{len(asked)} of {len(asked)} answer")


def _failed(subject: str, error: ReconcilerError) -> Finding:
    what = f"{error.where}: {error.what}" if error.where else error.what
    return Finding(subject, False, what, error.remedy)
