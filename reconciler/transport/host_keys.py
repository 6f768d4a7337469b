"""Host keys and OpenSSH's own files: which keys a host shows, which are known, what a configuration calls hosts."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import asyncssh

from reconciler.errors import NodeUnreachable, UsageError

_KINDS = (
    ("ssh-ed25519",),
    ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    ("rsa-sha2-512", "rsa-sha2-256"),
)
"""Signature algorithms of the kinds of keys that hosts have today; a host is asked for one kind at a time."""
_AT_ONCE = 64
"""Hosts that are asked at the same time."""


class Place(NamedTuple):
    """Where a host is; `address` may be a name of the OpenSSH configuration."""

    address: str
    port: int = 22

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


async def fetch(places: Sequence[Place], config_file: Path, seconds: float) -> list[list[str] | NodeUnreachable]:
    """The public keys that each host shows now, as `TYPE BASE64`, best kind first. Nobody vouches for them.

    An answer may take `seconds`.
    """
    turns = asyncio.Semaphore(_AT_ONCE)
    config = [str(config_file)] if await asyncio.to_thread(config_file.is_file) else []

    async def one(place: Place) -> list[str] | NodeUnreachable:
        async with turns:
            answers = [await _shown(place, kinds, config, seconds) for kinds in _KINDS]
        keys = [answer for answer in answers if isinstance(answer, asyncssh.SSHKey)]
        if keys:
            return [_text(key) for key in keys]
        why = next((str(answer) or type(answer).__name__ for answer in answers if answer), "it shows no host key")
        return NodeUnreachable(f"no host key from {place}: {why}")

    return list(await asyncio.gather(*map(one, places)))


async def _shown(
    place: Place, kinds: Sequence[str], config: Sequence[str], seconds: float
) -> asyncssh.SSHKey | Exception | None:
    try:
        async with asyncio.timeout(seconds):
            port = () if place.port == asyncssh.DEFAULT_PORT else place.port
            return await asyncssh.get_server_host_key(place.address, port, server_host_key_algs=kinds, config=config)
    except TimeoutError:
        return TimeoutError("timed out")
    except (asyncssh.Error, OSError, ValueError) as error:
        return error


def _text(key: asyncssh.SSHKey) -> str:
    """The key as spec.hostKeys has it, without a comment."""
    return " ".join(key.export_public_key().decode().split()[:2])


def fingerprint(key: str) -> str:
    """SHA256:… of a public key. Raises UsageError for what is none."""
    try:
        return str(asyncssh.import_public_key(key).get_fingerprint())
    except asyncssh.KeyImportError as error:
        raise UsageError(f"is no host key: {error}") from None


class KnownHosts:
    """A known_hosts file; one that is not there knows nobody. Raises UsageError when it cannot be read."""

    def __init__(self, path: Path) -> None:
        try:
            text = path.read_text() if path.is_file() else ""
            self._known = asyncssh.import_known_hosts(text)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot be read: {error}", where=str(path), remedy="check ssh.known_hosts") from None

    def keys(self, place: Place) -> list[str]:
        """The keys that the file vouches for, as `TYPE BASE64`; hashed names count."""
        return [_text(key) for key in self._match(place)[0]]

    def has_authority(self, place: Place) -> bool:
        """Whether the file names an authority whose certificate the host may show."""
        return bool(self._match(place)[1])

    def _match(self, place: Place) -> Sequence[Any]:
        port = None if place.port == asyncssh.DEFAULT_PORT else place.port
        return self._known.match(place.address, "", port)


# --- OpenSSH's client configuration ----------------------------------------------------------------------------------


class Named(NamedTuple):
    """A host that an OpenSSH client configuration names, as it is reached."""

    name: str
    address: str
    port: int
    user: str


def named_hosts(config_file: Path) -> list[Named]:
    """The hosts of `Host` lines without patterns, included files too.

    A host behind a jump host or a proxy keeps its name as address, since only by it the way is found. Raises
    UsageError.
    """
    if not config_file.is_file():
        raise UsageError("there is no such file", where=str(config_file), remedy="check ssh.config_file")
    names = dict.fromkeys(_names(config_file, set()))
    try:
        return [_resolved(name, config_file) for name in names]
    except (asyncssh.Error, OSError, ValueError) as error:
        raise UsageError(f"cannot be used: {error}", where=str(config_file)) from None


def _resolved(name: str, config_file: Path) -> Named:
    options = asyncssh.SSHClientConnectionOptions(
        host=name, config=[str(config_file)], client_keys=None, agent_path=None
    )
    own = options.config
    by_name = any(own.get(key) not in (None, "", "none") for key in ("ProxyJump", "ProxyCommand"))
    address = name if by_name else str(own.get("Hostname") or name)
    return Named(name, address, int(str(own.get("Port") or asyncssh.DEFAULT_PORT)), str(own.get("User") or ""))


def _names(path: Path, seen: set[Path]) -> Iterator[str]:
    if path in seen:
        return
    seen.add(path)
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {error}", where=str(path)) from None
    for line in lines:
        found = re.fullmatch(r"\s*(host|include)(?:\s+|\s*=\s*)(.+?)\s*", line, re.IGNORECASE)
        if not found:
            continue
        words = [word.strip('"') for word in found[2].split()]
        if found[1].lower() == "host":
            yield from (word for word in words if not set(word) & set("*?!"))
            continue
        for word in words:
            pattern = Path(word).expanduser()
            base = Path("/") if pattern.is_absolute() else Path("~/.ssh").expanduser()
            with contextlib.suppress(ValueError):
                for inner in sorted(base.glob(str(pattern.relative_to("/") if pattern.is_absolute() else pattern))):
                    yield from _names(inner, seen)
