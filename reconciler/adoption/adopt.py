"""One adoption from begin to end: host keys, reading, grouping, the repository, its proof, and then writing it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.adoption import reading, repository
from reconciler.adoption.grouping import Group, HostFiles, Layout, group_hosts
from reconciler.adoption.hosts import Host, Login, host_at, once, read_file
from reconciler.adoption.proof import FirstPlan, prove
from reconciler.errors import NodeError
from reconciler.registries.adopt import Keep
from reconciler.settings import Settings
from reconciler.starter import commit_all
from reconciler.transport.host_keys import KnownHosts, fetch, named_hosts
from reconciler.wiring import transports
from reconciler.work.inline import InlineRunner


@dataclass(frozen=True)
class Wish:
    """What to adopt and where to. `nodes`, `inventory` are files; `copies` a directory of copied hosts."""

    addresses: Sequence[str] = ()
    copies: Path | None = None
    nodes: Path | None = None
    inventory: Path | None = None
    ssh_config: bool = False
    login: Login = field(default_factory=Login)
    keep: Keep = "bytes"
    accept_new_host_keys: bool = False
    to: Path | None = None
    commit: bool = False


@dataclass(frozen=True)
class Outcome:
    """What was found and written. `unread` maps hosts to why they could not be read."""

    hosts: Mapping[str, Host]
    unread: Mapping[str, str]
    layout: Layout | None = None
    plans: Sequence[FirstPlan] = ()
    warnings: Sequence[str] = ()
    commit: str = ""

    @property
    def strangers(self) -> list[str]:
        """The files of the repository with Nodes that `sync` will not contact: nobody vouches for a key of theirs."""
        groups = self.layout.groups if self.layout else ()
        return [f"{group.directory}/nodes.yaml" for group in groups if any(self._is_strange(n) for n in group.hosts)]

    def _is_strange(self, name: str) -> bool:
        return self.hosts[name].target.transport == "ssh" and not self.hosts[name].keys

    @property
    def as_before(self) -> bool:
        """Every host was read, and none would behave otherwise."""
        return not self.unread and not any(plan.behaviour or plan.error for plan in self.plans)

    def data(self) -> dict[str, Any]:
        """For JSON and YAML."""
        groups = self.layout.groups if self.layout else ()
        return {
            "groups": [_group(group) for group in groups],
            "hosts": [_plan(plan, self.hosts[plan.host]) for plan in self.plans],
            "unread": [{"host": name, "reason": reason} for name, reason in sorted(self.unread.items())],
            "warnings": list(self.warnings),
            "commit": self.commit,
        }


def _group(group: Group) -> dict[str, Any]:
    facts = group.adoption.facts
    return {
        "name": group.name,
        "outlier": group.outlier,
        "hosts": list(group.hosts),
        "paths": group.paths,
        "whole": group.whole,
        "mirrored": len({row.source for row in facts.digest_rows | facts.tag_rows}),
        "entries": len(facts.allowed) + len(facts.blocked) + len(facts.insecure),
        "certificates": len(facts.certificates),
        "stays": [{"file": i.path, "what": i.what, "name": i.name, "why": i.why} for i in group.adoption.stays],
        "nearest": group.nearest,
        "differs": list(group.differs),
    }


def _plan(plan: FirstPlan, host: Host) -> dict[str, Any]:
    return {
        "host": plan.host,
        "empty": plan.empty,
        "changed": list(plan.changed),
        "class": plan.disruption,
        "reasons": list(plan.reasons),
        "behaviour": list(plan.behaviour),
        "error": plan.error,
        "hostKeys": host.keys or "none",
    }


async def adopt(settings: Settings, wish: Wish) -> Outcome:
    """Read all hosts of the wish, and write the repository that leaves them as they are. No node is written.

    A host whose key nobody vouches for is not contacted, unless new keys are to be accepted. Raises UsageError,
    InputRejected.
    """
    if wish.to is not None:
        await asyncio.to_thread(repository.check_place, wish.to)
    hosts = await asyncio.to_thread(_wanted, settings, wish)
    copies, empty = await asyncio.to_thread(reading.read_copies, wish.copies) if wish.copies else ([], {})
    known = await asyncio.to_thread(KnownHosts, settings.ssh.known_hosts)
    offline = [_vouched(host_at(copy.name, wish.login, str(wish.copies)), known) for copy in copies]
    copies = [replace(copy, name=host.name) for copy, host in zip(copies, offline, strict=True)]
    online, unread = await _with_keys(settings, wish, [_vouched(host, known) for host in hosts])
    everybody = {host.name: host for host in once([*offline, *online])}
    ready = [host for host in online if host.name not in unread]
    answers = await _read(settings, wish, ready)
    unread |= empty | {host.name: a.what for host, a in zip(ready, answers, strict=True) if isinstance(a, NodeError)}
    found = [*copies, *(answer for answer in answers if isinstance(answer, HostFiles))]
    if not found:
        return Outcome(everybody, unread)
    return await asyncio.to_thread(_write, wish, everybody, unread, found)


def _wanted(settings: Settings, wish: Wish) -> list[Host]:
    """The hosts to contact."""
    login = wish.login
    hosts = [host_at(address, login, "--from-node") for address in wish.addresses]
    hosts += read_file(wish.nodes, login) if wish.nodes else []
    hosts += read_file(wish.inventory, login, ansible=True) if wish.inventory else []
    for named in named_hosts(settings.ssh.config_file) if wish.ssh_config else ():
        host = host_at(named.name, login, str(settings.ssh.config_file))
        target = replace(host.target, address=named.address, port=named.port, user=named.user or login.user)
        hosts.append(replace(host, target=target))
    return once(hosts)


def _vouched(host: Host, known: KnownHosts) -> Host:
    """The host with the keys that known_hosts vouches for, where it has none."""
    if host.keys or host.target.transport != "ssh":
        return host
    keys = known.keys(host.place)
    return _keyed(host, keys, "known_hosts") if keys or known.has_authority(host.place) else host


def _keyed(host: Host, keys: Sequence[str], origin: str) -> Host:
    return replace(host, target=replace(host.target, host_keys=tuple(keys)), keys=origin)


async def _with_keys(settings: Settings, wish: Wish, hosts: Sequence[Host]) -> tuple[list[Host], dict[str, str]]:
    """The hosts, with the keys that they show now where that is allowed and nobody vouches for any; and for those
    that stay strangers, by name, why they are not contacted."""
    strange = [host for host in hosts if not host.keys and host.target.transport == "ssh"]
    if not wish.accept_new_host_keys:
        return list(hosts), {host.name: _stranger(host) for host in strange}
    seconds = settings.ssh.connect_timeout.total_seconds()
    shown = await fetch([host.place for host in strange], settings.ssh.config_file, seconds)
    keyed = {host.name: host for host in hosts}
    unread = {}
    for host, keys in zip(strange, shown, strict=True):
        if isinstance(keys, NodeError):
            unread[host.name] = keys.what
        else:
            keyed[host.name] = _keyed(host, keys, "first contact")
    return list(keyed.values()), unread


def _stranger(host: Host) -> str:
    scan = f"compare `reconciler hostkeys scan {host.place}` with the host"
    return f"its host key is not known, so it was not contacted: {scan}"


async def _read(settings: Settings, wish: Wish, hosts: Sequence[Host]) -> list[HostFiles | NodeError]:
    if not hosts:
        return []
    transport = transports(settings)
    try:
        return await reading.read_hosts(hosts, InlineRunner(transport), wish.login.runtime)
    finally:
        await transport.close()


def _write(wish: Wish, hosts: Mapping[str, Host], unread: Mapping[str, str], found: Sequence[HostFiles]) -> Outcome:
    layout = group_hosts(found, wish.keep)
    files = repository.repository(layout, hosts, wish.login.runtime)
    plans, warnings = prove(files, sorted(found, key=lambda host: host.name), datetime.now(UTC))
    commit = ""
    if wish.to is not None:
        repository.write(wish.to, files)
        commit = commit_all(wish.to, "main", repository.MESSAGE) if wish.commit else ""
    return Outcome(hosts, unread, layout, plans, warnings, commit)
