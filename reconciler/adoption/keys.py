"""The host keys that hosts show now, beside those that somebody vouches for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reconciler.adoption.hosts import Host, Login, host_at, once, read_file
from reconciler.errors import NodeError
from reconciler.settings import Settings
from reconciler.transport.host_keys import KnownHosts, fetch, fingerprint


async def scan_keys(settings: Settings, addresses: Sequence[str], nodes: Path | None) -> list[dict[str, Any]]:
    """Each host with its keys, their fingerprints, and whether each is known. Raises UsageError, InputRejected."""
    hosts = [host_at(address, Login(), "hostkeys scan") for address in addresses]
    if nodes is not None:
        hosts += await asyncio.to_thread(read_file, nodes, Login())
    hosts = [host for host in once(hosts) if host.target.transport == "ssh"]
    known = await asyncio.to_thread(KnownHosts, settings.ssh.known_hosts)
    shown = await fetch(
        [host.place for host in hosts], settings.ssh.config_file, settings.ssh.connect_timeout.total_seconds()
    )
    return [_item(host, keys, known) for host, keys in zip(hosts, shown, strict=True)]


def _item(host: Host, shown: list[str] | NodeError, known: KnownHosts) -> dict[str, Any]:
    """`strange`: keys are known, and none of them is shown."""
    own = [" ".join(key.split()[:2]) for key in host.target.host_keys]
    trusted = own or known.keys(host.place)
    address, port = host.place
    name = address if port == 22 else f"[{address}]:{port}"
    keys = [] if isinstance(shown, NodeError) else shown
    met = any(key in trusted for key in keys)
    answer = {key: "yes" if key in trusted else "other" if trusted and not met else "no" for key in keys}
    return {
        "host": host.name,
        "knownAs": name,
        "keys": [{"key": key, "fingerprint": fingerprint(key), "known": answer[key]} for key in keys],
        "strange": bool(keys and trusted and not met),
        "error": shown.what if isinstance(shown, NodeError) else "",
    }
