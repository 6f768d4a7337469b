"""Which hosts to adopt: from addresses, a list, Node documents, an Ansible inventory in INI form."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.errors import InputRejected, UsageError
from reconciler.ports import Target
from reconciler.registries.parse import parse_file
from reconciler.rollout.pools import is_inventory, read_inventory
from reconciler.stages.observe import target_of
from reconciler.transport.host_keys import Place

_ADDRESS = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\s\[\]@]+))(?::(?P<port>\d+))?"
)
_RANGE = re.compile(r"\[(?P<first>\d+|[A-Za-z]):(?P<last>\d+|[A-Za-z])(?::(?P<step>\d+))?\]")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_TRUE = ("true", "yes", "1", "on")
MOST_OF_A_RANGE = 10_000


@dataclass(frozen=True)
class Login:
    """How to log in where the source of hosts does not say: user, `sudo` or nothing, CRI-O or Podman."""

    user: str = "root"
    become: str = ""
    runtime: str = "crio"


@dataclass(frozen=True)
class Host:
    """A host to adopt. `labels` are those of its Node document; `keys` tells where its host keys come from:
    `given`, `known_hosts`, `first contact`, or nowhere."""

    target: Target
    labels: Mapping[str, str] = field(default_factory=dict)
    keys: str = ""

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def place(self) -> Place:
        return Place(self.target.address, self.target.port)


def host_at(text: str, login: Login, where: str) -> Host:
    """The host of `[user@]host[:port]`. Raises UsageError."""
    found = _ADDRESS.fullmatch(text)
    if not found or (found["port"] and not 0 < int(found["port"]) < 65536):
        raise UsageError(f"{text!r} is no [user@]host[:port]", where=where)
    address = found["six"] or found["host"]
    return _host(address, address, login, where, found["port"], found["user"])


def _host(
    name: str, address: str, login: Login, where: str, port: str | None = None, user: str | None = None
) -> Host:  # fmt: skip
    """A host named as Node documents may be."""
    plain = name.lower().replace("_", "-").replace(":", "-").strip("-.")
    if not _NAME.fullmatch(plain):
        raise UsageError(f"{name!r} cannot be the name of a Node", where=where, remedy="use letters, digits, - and .")
    return Host(Target("import", plain, "ssh", address, int(port or 22), user or login.user, login.become))


def read_file(path: Path, login: Login, *, ansible: bool = False) -> list[Host]:
    """The hosts of a file, as `read_list` or `read_ansible` reads it. Raises UsageError, InputRejected."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8", where=str(path)) from None
    return read_ansible(text, login, str(path)) if ansible else read_list(text, login, str(path))


def read_list(text: str, login: Login, where: str) -> list[Host]:
    """The hosts of Node documents (YAML), or of lines `[user@]host[:port]`, where # begins a comment.

    Raises UsageError, InputRejected.
    """
    if re.search(r"^\s*\"?kind\"?:", text, re.MULTILINE):
        return _of_documents(text, where)
    lines = ((number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [host_at(line, login, f"{where}:{number}") for number, line in lines if line]


def _of_documents(text: str, where: str) -> list[Host]:
    documents, problems = parse_file(where, text.encode())
    inventory = read_inventory(document for document in documents if is_inventory(document))
    wrong = [p for p in (*problems, *inventory.problems) if p.severity == "error"]
    if wrong:
        raise InputRejected("\n".join(str(problem) for problem in wrong))
    hosts = []
    for name, node in sorted(inventory.nodes.items()):
        target = target_of("import", name, node.spec)
        hosts.append(Host(target, node.labels, "given" if target.host_keys else ""))
    return hosts


def once(hosts: Iterable[Host]) -> list[Host]:
    """The hosts by name; one given twice in the same way counts once. Raises UsageError for two of one name."""
    found: dict[str, Host] = {}
    for host in hosts:
        if found.setdefault(host.name, host) != host:
            raise UsageError(f"two hosts are named {host.name}", remedy="name each host once")
    return [found[name] for name in sorted(found)]


# --- Ansible ---------------------------------------------------------------------------------------------------------


@dataclass
class _Inventory:
    """What sections of an inventory say: hosts with their variables, groups with members, children and variables."""

    hosts: dict[str, dict[str, str]] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    variables: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, host: str) -> dict[str, str]:
        """A host's variables: its own win over its groups', a child group's over its parents'."""
        found = dict(self.variables.get("all", {}))
        for group in reversed(self._groups(host)):
            found |= self.variables.get(group, {})
        return found | self.hosts[host]

    def _groups(self, host: str) -> list[str]:
        """The groups of a host, nearest first; a loop of children ends."""
        waiting = sorted(group for group, members in self.members.items() if host in members)
        seen: list[str] = []
        while waiting:
            group = waiting.pop(0)
            if group not in seen and group != "all":
                seen.append(group)
                waiting += sorted(parent for parent, below in self.children.items() if group in below)
        return seen


def read_ansible(text: str, login: Login, where: str) -> list[Host]:
    """The hosts of an Ansible inventory in INI form: groups, children, vars, ranges.

    Of the variables, ansible_host, ansible_port, ansible_user and ansible_become count. Raises UsageError for what
    is no inventory, and for a host whose ansible_connection is not ssh.
    """
    inventory = _Inventory()
    group, kind = "ungrouped", "hosts"
    for number, raw in enumerate(text.splitlines(), start=1):
        line, place = raw.strip(), f"{where}:{number}"
        if not line or line.startswith(("#", ";")):
            continue
        if heading := re.fullmatch(r"\[([^\[\]:]+)(?::(hosts|children|vars))?\]\s*(?:#.*)?", line):
            group, kind = heading[1], heading[2] or "hosts"
            continue
        _entry(inventory, group, kind, line, place)
    return [_of_ansible(name, inventory.of(name), login, where) for name in inventory.hosts]


def _entry(inventory: _Inventory, group: str, kind: str, line: str, place: str) -> None:
    if kind == "vars":
        key, equals, value = line.partition("=")
        if not equals:
            raise UsageError(f"{line!r} is no KEY=VALUE", where=place)
        inventory.variables.setdefault(group, {})[key.strip()] = value.strip().strip("'\"")
        return
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise UsageError(f"cannot be read: {error}", where=place) from None
    if kind == "children":
        inventory.children.setdefault(group, []).extend(words[:1])
        return
    if any("=" not in word for word in words[1:]):
        raise UsageError(f"{line!r} is no host with KEY=VALUE variables", where=place)
    variables = dict(word.split("=", 1) for word in words[1:])
    for name in _expanded(words[0], place):
        inventory.hosts.setdefault(name, {}).update(variables)
        inventory.members.setdefault(group, []).append(name)


def _expanded(pattern: str, place: str) -> Iterator[str]:
    """The hosts of `web[01:10].corp`; every range of the pattern counts."""
    found = _RANGE.search(pattern)
    if not found:
        yield pattern
        return
    names = _of_range(found["first"], found["last"], int(found["step"] or 1))
    if not names:
        raise UsageError(f"{found[0]} is no range, or one of more than {MOST_OF_A_RANGE}", where=place)
    for name in names:
        yield from _expanded(pattern[: found.start()] + name + pattern[found.end() :], place)


def _of_range(first: str, last: str, step: int) -> Sequence[str]:
    if first.isdecimal() != last.isdecimal() or step < 1:
        return []
    if not first.isdecimal():
        return [chr(code) for code in range(ord(first), ord(last) + 1, step)]
    numbers = range(int(first), int(last) + 1, step)
    return [str(number).zfill(len(first)) for number in numbers] if len(numbers) <= MOST_OF_A_RANGE else []


def _of_ansible(name: str, variables: Mapping[str, str], login: Login, where: str) -> Host:
    connection = variables.get("ansible_connection", "ssh")
    if connection not in ("ssh", "smart", "paramiko"):
        raise UsageError(f"{name} is reached by {connection}, not by SSH", where=where, remedy="leave the host out")
    spot = _ADDRESS.fullmatch(name)
    if not spot:
        raise UsageError(f"{name!r} is no host", where=where)
    plain = spot["six"] or spot["host"]
    port = variables.get("ansible_port") or spot["port"] or "22"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{name} has the port {port!r}", where=where)
    become = variables.get("ansible_become", "")
    user = variables.get("ansible_user")
    host = _host(plain, variables.get("ansible_host", plain), login, where, port, user)
    return replace(host, target=replace(host.target, become="sudo")) if become.lower() in _TRUE else host
