"""Which host each file belongs to and which file of the host it is, told from its path alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from reconciler.registries.model import CERTS_D, POLICY_JSON, REGISTRIES_CONF
from reconciler.registries.runtime_config import NAMESPACE_POLICIES

Kind = Literal["registries", "drop-in", "policy", "signatures", "certificate", "crio"]

_DIRECTORIES = r"etc/containers|etc/docker/certs\.d|etc/crio|(?:root|home/[^/]+)/\.config/containers"
_ROOTED = re.compile(rf"(?P<root>|.*?/)(?P<path>(?:{_DIRECTORIES})/.+)", re.DOTALL)
_BARE = re.compile(
    r"(?P<root>|.*/)(?P<path>registries\.conf|policy\.json|registries\.conf\.d/.+|registries\.d/[^/]+"
    r"|certs\.d/[^/]+/[^/]+|policies/[^/]+\.json)",
    re.DOTALL,
)
_BY_ENDING = {
    ".conf": REGISTRIES_CONF,
    ".toml": REGISTRIES_CONF,
    ".json": POLICY_JSON,
    ".yaml": "/etc/containers/registries.d/default.yaml",
    ".crt": f"{CERTS_D}/any/ca.crt",
    ".pem": f"{CERTS_D}/any/ca.crt",
}
_HOME = re.compile(r"/(?:root|home/[^/]+)/\.config/containers")
_KINDS: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r".*/containers/registries\.conf"), "registries"),
    (re.compile(r".*/containers/registries\.conf\.d/.+"), "drop-in"),
    (re.compile(rf".*/containers/policy\.json|{NAMESPACE_POLICIES}/[^/]+\.json"), "policy"),
    (re.compile(r".*/containers/registries\.d/[^/]+"), "signatures"),
    (re.compile(r".*/certs\.d/[^/]+/[^/]+"), "certificate"),
    (re.compile(r"/etc/crio/crio\.conf|/etc/crio/crio\.conf\.d/[^/]+"), "crio"),
)


@dataclass(frozen=True, slots=True)
class Host:
    """The files given of one host by their paths there, and `given`: their paths as they were given."""

    files: dict[str, bytes] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)

    def of(self, *kinds: Kind) -> list[str]:
        """The paths of files of these kinds, sorted."""
        return sorted(path for path in self.files if kind_of(path) in kinds)

    def at(self, path: str, line: int) -> str:
        """A line of a file, for messages about another."""
        return f"{self.given.get(path, path)}:{line}"


def kind_of(path: str) -> Kind | None:
    """What the file at `path` of a host is; None: nothing that is linted."""
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(path)), None)


def home_of(path: str) -> str:
    """The configuration directory of the user whose file this is; empty for the host's own files."""
    found = _HOME.match(path)
    return found[0] if found else ""


def place_of(path: str) -> tuple[str, str] | None:
    """The host that a given path belongs to (what stands before), and the path there; None: not known.

    `X/etc/containers/…` is of the host X, `X/registries.conf` and the like of the host of the directory X; any
    other file with a known ending stands alone.
    """
    rooted = _ROOTED.fullmatch(path)
    if rooted:
        return rooted["root"], f"/{rooted['path']}"
    bare = _BARE.fullmatch(path)
    if bare:
        head = bare["path"].partition("/")[0]
        return bare["root"], f"{_PARENTS.get(head, '/etc/containers')}/{bare['path']}"
    ending = path[path.rfind(".") :] if "." in path else ""
    return (path, _BY_ENDING[ending]) if ending in _BY_ENDING else None


_PARENTS = {"certs.d": "/etc/docker", "policies": "/etc/crio"}


def hosts_of(files: Mapping[str, bytes]) -> Iterable[Host]:
    """The given files by host."""
    found: dict[str, Host] = {}
    for given in sorted(files):
        place = place_of(given)
        if place is not None:
            root, path = place
            host = found.setdefault(root, Host())
            host.files[path] = files[given]
            host.given[path] = given
    return found.values()


def is_drop_in_read(path: str) -> bool:
    """Whether the runtime reads a file below registries.conf.d: it ends in .conf and lies in no subdirectory."""
    rest = path.partition("/registries.conf.d/")[2]
    return path.endswith(".conf") and "/" not in rest
