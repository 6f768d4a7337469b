"""The registry files of hosts: read over their transports, many at once, or from copied trees."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from reconciler.adoption.grouping import HostFiles
from reconciler.adoption.hosts import Host
from reconciler.errors import NodeError, NodeRefused, UsageError
from reconciler.examine import host_files
from reconciler.ports import ABSENT, Observation, ObservedFile, ObserveRequest, Runner
from reconciler.registries.model import BASE_PATHS, CERTS_D, REGISTRIES_CONF_D

_LOG = "import"
"""Stands for a log's id: looking belongs to none."""
_MANAGED = re.compile(rf"(?:/etc/containers|{re.escape(CERTS_D)}|/etc/crio/policies)/[\]A-Za-z0-9/._:@%+,=~\[-]+")
"""Files that a node sends when it is asked for them."""
_HIDDEN = ("/etc/crio/crio.conf", "/etc/sysconfig/", "/etc/default/", "/etc/systemd/")
"""Files of CRI-O itself: not about registries."""
_COPY = "copy each host's files to HOST/etc/…"


async def read_hosts(hosts: Sequence[Host], runner: Runner, runtime: str) -> list[HostFiles | NodeError]:
    """Each host's files, or why they cannot be had; nothing is written anywhere. In the order of `hosts`.

    All at once, one round trip; hosts with drop-ins, certificates or namespace policies are asked once more.
    """
    first = await _observe(hosts, [dict.fromkeys(BASE_PATHS, "") for _ in hosts], runner, runtime)
    more = [_further(answer) if isinstance(answer, Observation) else [] for answer in first]
    again = [place for place, paths in enumerate(more) if paths]
    wanted = [{**dict.fromkeys(BASE_PATHS, ""), **dict.fromkeys(more[place], "")} for place in again]
    second = await _observe([hosts[place] for place in again], wanted, runner, runtime)
    answers = {**dict(enumerate(first)), **dict(zip(again, second, strict=True))}
    return _without_twins([_judged(host, answers[place]) for place, host in enumerate(hosts)])


def _without_twins(found: Sequence[HostFiles | NodeError]) -> list[HostFiles | NodeError]:
    """Of several names of one machine the first stays: two wishes for one host could not both be carried out."""
    machines: dict[str, str] = {}
    kept: list[HostFiles | NodeError] = []
    for item in found:
        if isinstance(item, HostFiles) and item.machine:
            first = machines.setdefault(item.machine, item.name)
            if first != item.name:
                item = NodeRefused(f"is the same machine as {first}", where=f"node {item.name}")
        kept.append(item)
    return kept


async def _observe(
    hosts: Sequence[Host], known: Sequence[dict[str, str]], runner: Runner, runtime: str
) -> Sequence[Observation | NodeError]:
    requests = [
        (host.target, ObserveRequest(_LOG, runtime, paths)) for host, paths in zip(hosts, known, strict=True)
    ]  # fmt: skip
    return await runner.observe(requests)


def _further(seen: Observation) -> list[str]:
    paths = {*seen.present, *seen.effective} - set(BASE_PATHS)
    return sorted(path for path in paths if _MANAGED.fullmatch(path) and not path.endswith((".key", ".reconciler")))


def _judged(host: Host, answer: Observation | NodeError) -> HostFiles | NodeError:
    if isinstance(answer, NodeError):
        return answer
    reason = _not_to_adopt(answer)
    if reason:
        return NodeRefused(reason, where=f"node {host.name}")
    read = {path: file.content for path, file in answer.files.items() if file.content is not None}
    unread = {path: file.state for path, file in answer.files.items() if file.kind != ABSENT and path not in read}
    further = {path: "" for path in answer.present if path not in read}
    unread |= further | {path: state for path, state in answer.effective.items() if not path.startswith(_HIDDEN)}
    modes = {path: file.mode for path, file in answer.files.items() if file.kind == "file"}
    return HostFiles(host.name, read, unread, modes, answer.machine_id)


def _not_to_adopt(seen: Observation) -> str:
    """Why the host is not for us, or nothing."""
    if seen.owner is not None:
        return f"is managed already, by the log {seen.owner.log_id}"
    if seen.mco:
        return "is managed by the Machine Config Operator"
    odd = next(
        (path for path in seen.present if path.startswith(f"{REGISTRIES_CONF_D}/") and path.endswith(".conf")), ""
    )
    if odd:
        return f"{odd} was not read: its name has characters that no managed path has"
    return next((reason for file in seen.files.values() if (reason := _unusable(file))), "")


def _unusable(file: ObservedFile) -> str:
    """Why nothing can be said of the host without this file's bytes, or nothing."""
    decides = file.path in BASE_PATHS or file.path.startswith(f"{REGISTRIES_CONF_D}/")
    if not decides or file.kind == ABSENT or file.content is not None:
        return ""
    if file.kind != "file":
        return f"{file.path} is a {file.kind}; put a plain file there"
    return f"{file.path} was not read: it is over 1 MiB or holds a private key"


def read_copies(directory: Path) -> tuple[list[HostFiles], dict[str, str]]:
    """The hosts whose / is copied to DIRECTORY/HOST, sorted by name; and of each directory that holds no registry
    files, why it was not read. Raises UsageError when no host is there."""
    if not directory.is_dir():
        raise UsageError("is no directory", where=str(directory))
    places = [place for place in sorted(directory.iterdir()) if place.is_dir() and not place.name.startswith(".")]
    copies = [_copy(place) for place in places]
    found = [copy for copy in copies if copy.files or copy.unread]
    if not found:
        raise UsageError("no host is there", where=str(directory), remedy=f"{_COPY} in it")
    empty = [copy.name for copy in copies if copy not in found]
    return found, {name: f"no registry files are in {directory / name}: {_COPY}" for name in empty}


def _copy(root: Path) -> HostFiles:
    files = {path: content for path, content in host_files(root).items() if not path.startswith(_HIDDEN)}
    keys = {path: "" for path in files if path.endswith(".key")}
    return HostFiles(root.name, {path: content for path, content in files.items() if path not in keys}, keys)
