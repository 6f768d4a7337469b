"""Nodes over SSH: asyncssh, strict host keys, connections kept open, hundreds at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from reconciler.errors import HostKeyRefused, NodeError, NodeRefused, NodeUnreachable
from reconciler.ports import (
    ApplyRequest,
    ConfirmRequest,
    HookRequest,
    HookResult,
    ImagesRequest,
    NodeImages,
    Observation,
    ObserveRequest,
    Receipt,
    ReleaseRequest,
    RevertRequest,
    Target,
)
from reconciler.transport.call import LOOKS, Call
from reconciler.transport.protocol import (
    apply_call,
    check_answered,
    confirm_call,
    decode_hook,
    decode_images,
    decode_observation,
    decode_receipt,
    hook_call,
    images_call,
    observe_call,
    release_call,
    revert_call,
)
from reconciler.transport.resident import TEXT_LIMIT, Resident, resident_command

VERB_TIMEOUT = 300.0
"""Seconds after which a node that has not answered counts as lost; more than node.sh allows itself. Health checks,
restarts and hooks have their own time on top."""

HANDSHAKES = 64
"""Connections being opened at the same time; more would only make each of them time out."""

KEEPALIVE = 15.0
"""Seconds between signs of life on an idle connection; three missing ones end it."""

Process = asyncssh.SSHClientProcess[bytes]
Opened = TypeVar("Opened")

_LOST = (asyncssh.DisconnectError, asyncssh.ChannelOpenError, OSError, TimeoutError)


class SshTransport:
    """Runs node.sh over SSH; nothing is installed on the node. One that is kept running for as long as the connection
    answers what fits it; any other request, and a hook, has one of its own.

    `known_hosts` is the file that vouches for nodes whose documents name no host keys; without either, a node is
    refused. `identity_files` are private keys to log in with (none: the agent, and what `config_file` or OpenSSH's
    defaults name). `config_file` is an OpenSSH client configuration (HostName, User, Port, IdentityFile, ProxyJump …);
    a Node's own fields win, but for the default port. `connect_timeout` is in seconds. At most `max_connections`
    are kept open; the longest unused is closed first.
    """

    def __init__(
        self,
        known_hosts: str | None,
        identity_files: Sequence[str],
        config_file: str | None,
        connect_timeout: float,
        max_connections: int = 1000,
    ) -> None:
        self._trust = _Trust(Path(known_hosts).expanduser() if known_hosts else None)
        self._identity_files = tuple(str(Path(file).expanduser()) for file in identity_files)
        self._config_file = Path(config_file).expanduser() if config_file else None
        self._defaults = str(files("reconciler.transport").joinpath("ssh_defaults"))
        self._timeout = connect_timeout
        self._limit = max_connections
        self._kept: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()
        self._handshakes = asyncio.Semaphore(HANDSHAKES)
        self._keys: Sequence[asyncssh.SSHKeyPair] | None = None

    async def observe(self, target: Target, request: ObserveRequest) -> Observation:
        output, host_key = await self._ask(target, observe_call(request))
        return decode_observation(output, request, target, host_key)

    async def images(self, target: Target, request: ImagesRequest) -> NodeImages:
        output, _ = await self._ask(target, images_call(request))
        return decode_images(output, target)

    async def apply(self, target: Target, request: ApplyRequest) -> Receipt:
        output, _ = await self._ask(target, apply_call(request))
        return decode_receipt(output, request, target)

    async def revert(self, target: Target, request: RevertRequest) -> Receipt:
        output, _ = await self._ask(target, revert_call(request))
        return decode_receipt(output, request, target)

    async def confirm(self, target: Target, request: ConfirmRequest) -> Receipt:
        output, _ = await self._ask(target, confirm_call(request))
        return decode_receipt(output, request, target)

    async def release(self, target: Target, request: ReleaseRequest) -> Receipt:
        output, _ = await self._ask(target, release_call(request))
        return decode_receipt(output, request, target)

    async def hook(self, target: Target, request: HookRequest) -> HookResult:
        output, _ = await self._run(target, hook_call(request))
        return decode_hook(output, target)

    async def close(self) -> None:
        connections = [kept.connection for kept in self._kept.values() if kept.connection]
        self._kept.clear()
        for connection in connections:
            connection.close()
        await asyncio.gather(*(connection.wait_closed() for connection in connections))

    async def _run(self, target: Target, call: Call) -> tuple[bytes, str]:
        """The answer's line and the fingerprint of the host key."""
        kept = self._slot(target)
        kept.users += 1
        try:
            command = call.command(_become(target))
            process, connection = await self._start(
                kept, target, lambda connection: connection.create_process(command, encoding=None)
            )
            output = await _finish(process, target, call)
        finally:
            kept.users -= 1
        return output, _fingerprint(connection)

    async def _ask(self, target: Target, call: Call) -> tuple[bytes, str]:
        """The same by the resident program, unless that is busy, or the request long or no text."""
        kept = self._slot(target)
        if kept.asking.locked() or call.text is None or len(call.text) > TEXT_LIMIT:
            return await self._run(target, call)
        kept.users += 1
        try:
            async with kept.asking, asyncio.timeout(VERB_TIMEOUT + call.patience):
                return await self._ask_resident(kept, target, call.verb in LOOKS, call.text)
        except TimeoutError as error:
            raise _lost(target, error) from error
        finally:
            kept.users -= 1

    async def _ask_resident(self, kept: _Kept, target: Target, looks: bool, text: bytes) -> tuple[bytes, str]:
        """What a program from an earlier request does not answer is asked once more, of a new one: a step is done once.
        But a program that ended at a change, on a connection that lives, has failed."""
        command = resident_command(_become(target))
        known = kept.resident
        if known and known.command == command and not known.ended:
            output = await self._answer(known, text)
            if b"\n" in output:
                return output, known.fingerprint
            if not looks and known.status is not None:
                check_answered(target, known.status, output, known.complaint)
        resident, _ = await self._start(
            kept, target, lambda connection: Resident.start(connection, _fingerprint(connection), command)
        )
        kept.resident = resident
        output = await self._answer(resident, text)
        if b"\n" not in output:
            check_answered(target, resident.status, output, resident.complaint)
        return output, resident.fingerprint

    async def _answer(self, resident: Resident, text: bytes) -> bytes:
        answer = resident.ask(text)
        try:
            await asyncio.wait((answer,), timeout=self._timeout)
            if not answer.done():
                await self._probe(resident.connection)
            return await answer
        finally:
            resident.give_up(answer)

    async def _probe(self, connection: asyncssh.SSHClientConnection) -> None:
        """Ends a connection on which nothing comes back: opening a channel tells sooner than signs of life."""
        try:
            (await self._opened(connection.create_process("true"))).close()
        except asyncssh.ChannelOpenError:
            pass  # that is an answer too
        except _LOST:
            connection.abort()

    def _slot(self, target: Target) -> _Kept:
        key = (target.address or target.name, target.port, target.user, target.host_keys)
        kept = self._kept.setdefault(key, _Kept())
        self._kept.move_to_end(key)
        idle = [name for name, other in self._kept.items() if not other.users and other is not kept]
        for name in idle[: max(0, len(self._kept) - self._limit)]:
            if connection := self._kept.pop(name).connection:
                connection.close()
        return kept

    async def _start(
        self,
        kept: _Kept,
        target: Target,
        command: Callable[[asyncssh.SSHClientConnection], Awaitable[Opened]],
    ) -> tuple[Opened, asyncssh.SSHClientConnection]:
        """A running command. A kept connection may have died unnoticed: then a new one is opened, once."""
        connection, fresh = await self._connected(kept, target)
        try:
            return await self._opened(command(connection)), connection
        except _LOST as error:
            connection.abort()
            if fresh:
                raise _lost(target, error) from error
        if kept.connection is connection:  # asyncssh calls it closed only later
            kept.connection = None
        connection, _ = await self._connected(kept, target)
        try:
            return await self._opened(command(connection)), connection
        except _LOST as error:
            connection.abort()
            raise _lost(target, error) from error

    async def _opened(self, opening: Awaitable[Opened]) -> Opened:
        async with asyncio.timeout(self._timeout):
            return await opening

    async def _connected(self, kept: _Kept, target: Target) -> tuple[asyncssh.SSHClientConnection, bool]:
        async with kept.lock:
            if kept.connection and not kept.connection.is_closed():
                return kept.connection, False
            async with self._handshakes:
                kept.connection = await self._connect(target)
            return kept.connection, True

    async def _connect(self, target: Target) -> asyncssh.SSHClientConnection:
        witness = _Witness()
        options: dict[str, Any] = {
            "known_hosts": await asyncio.to_thread(self._trust.known_hosts, target),
            "client_factory": lambda: witness,
            "connect_timeout": self._timeout,
            "login_timeout": self._timeout,
            "keepalive_interval": KEEPALIVE,
            "config": [*self._own_config(), self._defaults],  # of two files, the first that names an option counts
        }
        if target.port != asyncssh.DEFAULT_PORT:
            options["port"] = target.port
        if target.user:
            options["username"] = target.user
        if self._identity_files:
            options["client_keys"] = await self._identities(target)
        try:
            # asyncssh bounds connecting and logging in each; a jump host on the way is bounded here
            async with asyncio.timeout(3 * self._timeout):
                return await asyncssh.connect(target.address or target.name, **options)
        except (asyncssh.Error, OSError, TimeoutError, ValueError) as error:
            seen = witness.seen or await self._key_of_another_kind(target, error, options)
            raise _no_connection(target, error, seen) from error

    def _own_config(self) -> list[str]:
        return [str(self._config_file)] if self._config_file and self._config_file.is_file() else []

    async def _key_of_another_kind(self, target: Target, error: Exception, options: dict[str, Any]) -> str:
        """The fingerprint of a host key of a kind that we know none of: then sshd just hangs up."""
        if not isinstance(error, (asyncssh.KeyExchangeFailed, asyncssh.ConnectionLost, ConnectionResetError)):
            return ""
        known, address = options["known_hosts"], target.address or target.name
        port = None if target.port == asyncssh.DEFAULT_PORT else target.port
        trusted = known.match(address, "", port)[0] if isinstance(known, asyncssh.SSHKnownHosts) else known[0]
        try:
            async with asyncio.timeout(self._timeout):
                shown = await asyncssh.get_server_host_key(address, options.get("port", ()), config=options["config"])
        except (asyncssh.Error, OSError, TimeoutError):
            return ""
        return shown.get_fingerprint() if shown and trusted and shown not in trusted else ""

    async def _identities(self, target: Target) -> Sequence[asyncssh.SSHKeyPair]:
        if self._keys is None:
            try:
                self._keys = await asyncio.to_thread(asyncssh.load_keypairs, list(self._identity_files))
            except (OSError, asyncssh.KeyImportError) as error:
                raise NodeRefused(
                    f"cannot use the identity files {', '.join(self._identity_files)}: {error}",
                    where=f"node {target.name}",
                    remedy="give readable, unencrypted keys in ssh.identity_files, or load them into an agent",
                ) from error
        return self._keys


@dataclass(slots=True)
class _Kept:
    """A connection kept for a node, the program that answers requests over it, and how many verbs use it now."""

    connection: asyncssh.SSHClientConnection | None = None
    resident: Resident | None = None
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class _Witness(asyncssh.SSHClient):
    """Remembers the host key that was shown and not trusted, for the error message."""

    seen = ""

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002  # asyncssh's signature
        addr: str,  # noqa: ARG002  # asyncssh's signature
        port: int,  # noqa: ARG002  # asyncssh's signature
        key: asyncssh.SSHKey,
    ) -> bool:
        self.seen = key.get_fingerprint()
        return False


class _Trust:
    """Host keys: those of the Node document, else those of known_hosts, read again when the file changes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._parsed = asyncssh.import_known_hosts("")

    def known_hosts(self, target: Target) -> Any:
        if not target.host_keys:
            return self._file(target)
        try:
            return [asyncssh.import_public_key(key) for key in target.host_keys], [], []
        except asyncssh.KeyImportError as error:
            raise NodeRefused(f"spec.hostKeys: {error}", where=f"node {target.name}") from error

    def _file(self, target: Target) -> asyncssh.SSHKnownHosts:
        if not self._path or not self._path.is_file():
            return self._parsed
        status = self._path.stat()
        if self._stamp != (stamp := (status.st_mtime_ns, status.st_size)):
            try:
                self._parsed = asyncssh.import_known_hosts(self._path.read_text())
            except (OSError, ValueError) as error:
                raise NodeRefused(f"cannot read {self._path}: {error}", where=f"node {target.name}") from error
            self._stamp = stamp
        return self._parsed


def _become(target: Target) -> str:
    if target.become not in ("", "sudo"):
        raise NodeRefused(f"cannot become root by {target.become!r}", where=f"node {target.name}")
    return "sudo -n " if target.become and target.user != "root" else ""


def _fingerprint(connection: asyncssh.SSHClientConnection) -> str:
    host_key = connection.get_server_host_key()
    return host_key.get_fingerprint() if host_key else ""


async def _finish(process: Process, target: Target, call: Call) -> bytes:
    try:
        async with asyncio.timeout(VERB_TIMEOUT + call.patience):
            output, complaint = await process.communicate(call.stdin)
    except _LOST as error:
        raise _lost(target, error) from error
    finally:
        process.close()
    check_answered(target, process.returncode, output, complaint)
    return output


def _lost(target: Target, error: Exception) -> NodeUnreachable:
    return NodeUnreachable(f"the connection was lost: {_said(error)}", where=f"node {target.name}")


def _no_connection(target: Target, error: Exception, seen: str) -> NodeError:
    where = f"node {target.name}"
    place = f"{target.address or target.name}:{target.port}"
    if seen or isinstance(error, asyncssh.HostKeyNotVerifiable):
        what = f"{place} shows the host key {seen or 'of an unknown kind'}, which is not one of its known keys"
        refused = HostKeyRefused(
            what, where=where, remedy="if the host was installed anew, put its key into spec.hostKeys or known_hosts"
        )
        refused.shown = seen
        return refused
    if isinstance(error, asyncssh.PermissionDenied):
        return NodeRefused(
            f"{place} refused the login of {target.user or 'the local user'}: {error.reason}",
            where=where,
            remedy="check spec.user, ssh.identity_files and the node's authorized_keys",
        )
    if isinstance(error, ValueError):
        return NodeRefused(f"the SSH settings cannot be used: {error}", where=where, remedy="check ssh.config_file")
    return NodeUnreachable(f"no connection to {place}: {_said(error)}", where=where)


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(error) or type(error).__name__
