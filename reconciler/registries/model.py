"""The values that registry semantics work on: documents, resources, problems, rendered files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")

REGISTRIES_CONF = "/etc/containers/registries.conf"
POLICY_JSON = "/etc/containers/policy.json"
REGISTRIES_CONF_D = "/etc/containers/registries.conf.d"
SEARCH_REGISTRIES = f"{REGISTRIES_CONF_D}/01-image-searchRegistries.conf"
CERTS_D = "/etc/docker/certs.d"

BASE_PATHS = (REGISTRIES_CONF, POLICY_JSON, SEARCH_REGISTRIES)
"""The files that a base may have: captured on the host, or templates."""

DisruptionClass = Literal["none", "reload", "restart", "drain", "reboot"]
DISRUPTION_ORDER: tuple[DisruptionClass, ...] = ("none", "reload", "restart", "drain", "reboot")


def canonical_json(value: Any) -> str:
    """Sorted, compact JSON: equal values give equal text (RFC 8785 for the strings and integers we use)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """SHA-256, in hex, of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a file of the config repository; `line` counts from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong (or doubtful) in the input, and what to do about it.

    `name` is the stable kind of the problem (`unknown-field`, `allowed-and-blocked`, `not-pem`, …), by which
    a warning can be silenced. `object` is the resource identity, `field` a path such as
    `spec.registrySources.allowedRegistries[4]`.
    """

    name: str
    message: str
    location: Location | None = None
    object: str = ""
    field: str = ""
    remedy: str = ""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = str(self.location) if self.location else ""
        subject = " ".join(part for part in (self.object, self.field) if part)
        text = ": ".join(part for part in (place, subject, self.message) if part)
        text = f"{text} [{self.name}]"
        return f"{text}\n    → {self.remedy}" if self.remedy else text


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML or JSON document of any kind, before any schema is applied.

    `lines` maps each field path (`spec.registrySources.allowedRegistries[4]`) to its line. `text` is the
    source text of this document. `directory` is the repository directory of `location.file` (`.` for the top).
    """

    value: Mapping[str, Any]
    location: Location
    lines: Mapping[str, int] = field(default_factory=dict)
    text: str = ""

    @property
    def api_version(self) -> str:
        return str(self.value.get("apiVersion") or "")

    @property
    def kind(self) -> str:
        return str(self.value.get("kind") or "")

    @property
    def name(self) -> str:
        metadata = self.value.get("metadata")
        return str(metadata.get("name") or "") if isinstance(metadata, Mapping) else ""

    @property
    def directory(self) -> str:
        head, _, _ = self.location.file.rpartition("/")
        return head or "."

    @property
    def identity(self) -> str:
        """`PATH:KIND/NAME`, PATH `.` left out (DESIGN §4)."""
        return identity(self.directory, self.kind, self.name)

    def at(self, path: str) -> Location:
        """Where `path` stands; the nearest parent's place when the field itself is absent."""
        return place(self.location, self.lines, path)


def place(location: Location, lines: Mapping[str, int], path: str) -> Location:
    """Where the field `path` of the document at `location` stands, or the nearest parent that has a line."""
    while path:
        if path in lines:
            return Location(location.file, lines[path])
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return location


def identity(directory: str, kind: str, name: str) -> str:
    """How a resource is named everywhere: in streams, events, blame and `--resource`."""
    return f"{kind}/{name}" if directory in ("", ".") else f"{directory}:{kind}/{name}"


@dataclass(frozen=True, slots=True)
class Resource:
    """A validated registry resource: Image, mirror set, image policy or CA ConfigMap.

    `document` is what the user wrote less `status` and server-set metadata; labels and annotations stay.
    """

    directory: str
    kind: str
    name: str
    document: Mapping[str, Any]
    location: Location
    lines: Mapping[str, int] = field(default_factory=dict)
    text: str = ""
    _known: dict[Callable[[Resource], Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, question: Callable[[Resource], T]) -> T:
        """`question(self)`, worked out the first time only: a resource never changes, and outlives a commit."""
        if question not in self._known:
            self._known[question] = question(self)
        answer: T = self._known[question]
        return answer

    @property
    def identity(self) -> str:
        return identity(self.directory, self.kind, self.name)

    def at(self, path: str) -> Location:
        """Where `path` stands; the nearest parent's place when the field itself is absent."""
        return place(self.location, self.lines, path)

    @property
    def content(self) -> str:
        """Digest of the document as recorded in the log (a blob's address)."""
        return digest(self.document)

    @property
    def body(self) -> Mapping[str, Any]:
        """What the resource says, without apiVersion, kind and metadata."""
        return {k: v for k, v in self.document.items() if k not in ("apiVersion", "kind", "metadata")}


@dataclass(frozen=True, slots=True)
class Origin:
    """Which field of which resource a rendered line comes from (`blame` and `why` read it)."""

    resource: str
    field: str


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A file as it must stand on a node. `origins` maps a table, key or scope of the file to its sources."""

    path: str
    content: bytes
    mode: int = 0o644
    origins: Mapping[str, Sequence[Origin]] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """Everything besides the resources that decides the bytes.

    `base_files` holds the content of `BASE_PATHS` (None: the file is absent): with `base` `host` what was captured
    on the host, with `directory` the templates of the config repository; `openshift` has its own.
    `release_image` is the OpenShift payload.
    """

    base: Literal["host", "openshift", "directory"] = "host"
    base_files: Mapping[str, bytes | None] = field(default_factory=dict)
    mirror_syntax: Literal["pull-from-mirror", "mirror-by-digest-only"] = "pull-from-mirror"
    release_image: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """The node files of one pool (sorted by path), and what is doubtful about them.

    Where `problems` has an error, `files` is empty: nothing may be rolled out.
    """

    files: tuple[NodeFile, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change of files does to a node: class, actions to run, and a reason per entry in words.

    `actions` are `reload:crio.service`, `restart:crio.service`, `drain`, `reboot` (MCO's names, lower case).
    """

    disruption: DisruptionClass
    actions: tuple[str, ...]
    reasons: tuple[str, ...]
