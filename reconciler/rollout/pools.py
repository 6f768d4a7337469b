"""NodePool, and the inventory (group reconciler.dev/v1alpha1): which pools and nodes there are, and who is where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.errors import InputRejected
from reconciler.registries.disruption import REBOOT, FilePolicy, file_policies
from reconciler.registries.model import Document, Location, Problem, RenderOptions, place
from reconciler.rollout.drains import DRAIN_SCHEMA, check_drain
from reconciler.rollout.drift import drift_setting
from reconciler.rollout.fields import (
    BadValue,
    Field,
    Schema,
    base,
    command,
    complete,
    directories,
    duration,
    images,
    integer,
    integer_or_percent,
    labels,
    list_of,
    one_of,
    optional,
    optional_text,
    problem,
    read_fields,
    registries,
    text,
    texts,
)
from reconciler.rollout.nodes import NODE_NAME, Node, read_node
from reconciler.rollout.placement import place_nodes, with_known
from reconciler.rollout.strays import stray_setting
from reconciler.rollout.windows import windows

API_VERSION = "reconciler.dev/v1alpha1"
INVENTORY_KINDS = ("NodePool", "Node")
MOST_PARALLEL = 50
CONFIRM_KUBERNETES = 120
"""Seconds of `confirm: 0s` on nodes that are reached by pods."""

HEALTH_CHECK: Mapping[str, Field] = {
    "name": Field(text, required=True),
    "command": Field(optional(command), None),
    "image": Field(optional_text, None),
}


_CHECK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _check_health_check(check: Mapping[str, Any]) -> None:
    if not _CHECK_NAME.fullmatch(check["name"]):
        raise BadValue("wants a name of letters, digits, '.', '_' and '-', at most 64")
    if (check["command"] is None) == (check["image"] is None):
        raise BadValue("wants either a command or an image")


def _disruption_files(value: Any) -> Any:
    """MCO's form; a Reboot is refused, as nothing here carries one out."""
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise BadValue("wants a list of {path, actions}")
    try:
        policies = file_policies(value)
    except InputRejected as error:
        raise BadValue(f"{error.where} {error.what}") from error
    if any(REBOOT in policy.actions for policy in policies):
        raise BadValue("has a Reboot, which is not carried out here: write Drain and Restart")
    return value


POOL_SCHEMA: Schema = {
    "mode": Field(one_of("observe", "enforce"), "observe"),
    "nodeSelector": {"matchLabels": Field(labels, {})},
    "priority": Field(integer(-1_000_000), 0),
    "paths": Field(directories, ["."]),
    "after": Field(texts, []),
    "runtime": Field(one_of("crio", "podman"), "crio"),
    "base": Field(base, "host"),
    "mirrorSyntax": Field(one_of("pull-from-mirror", "mirror-by-digest-only"), "pull-from-mirror"),
    "maxUnavailable": Field(integer_or_percent, 1),
    "maxUnavailableTotal": Field(optional(integer_or_percent), None),
    "maxParallel": Field(integer_or_percent, "10%"),
    "canary": {"nodes": Field(integer(0, 1000), 1), "soak": Field(duration, 300)},
    "failureThreshold": Field(integer(1), 1),
    "onFailure": Field(one_of("halt", "revert"), "halt"),
    "approval": Field(one_of("none", "afterCanary", "always"), "none"),
    "confirm": Field(duration, 0),
    "windows": Field(windows, []),
    "drain": DRAIN_SCHEMA,
    "healthChecks": Field(list_of(HEALTH_CHECK, _check_health_check), []),
    "drift": Field(drift_setting, "heal"),
    "strays": Field(stray_setting, "report"),
    "requiredImages": Field(images, []),
    "reachableRegistries": Field(registries, None),
    "releaseImage": Field(optional_text, None),
    "disruption": {
        "profile": Field(one_of("default", "minimal", "openshift"), "default"),
        "files": Field(_disruption_files, []),
    },
}


@dataclass(frozen=True)
class Pool:
    """A NodePool. `spec` has every field, defaults included, durations in seconds (as recorded in the log).

    Fields that the spec was recorded without, by an older version, are filled in.
    """

    name: str
    spec: Mapping[str, Any]
    location: Location | None = None
    lines: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", complete(POOL_SCHEMA, self.spec))

    @classmethod
    def with_defaults(cls) -> Pool:
        """What a NodePool that says nothing means; stands in where a directory has no pool."""
        spec, _ = read_fields(Document({}, Location("", 0)), {}, POOL_SCHEMA, "spec")
        return cls("", spec)

    @property
    def enforces(self) -> bool:
        return bool(self.spec["mode"] == "enforce")

    @property
    def paths(self) -> Sequence[str]:
        paths: Sequence[str] = self.spec["paths"]
        return paths

    def at(self, path: str) -> Location | None:
        """Where the field `path` stands; None when the pool was not read from a file."""
        return place(self.location, self.lines, path) if self.location else None

    @property
    def base_directory(self) -> str:
        """The directory of the repository with the templates that this pool's files are laid over; or none."""
        base = str(self.spec["base"])
        return "" if base in ("host", "openshift") else base

    @property
    def runtime(self) -> str:
        return str(self.spec["runtime"])

    @property
    def profile(self) -> Literal["default", "minimal", "openshift"]:
        profile: Literal["default", "minimal", "openshift"] = self.spec["disruption"]["profile"]
        return profile

    def max_parallel(self, nodes: int) -> int:
        """Nodes touched at once: at least 1, at most 50; a percentage is rounded down."""
        return min(MOST_PARALLEL, _count(self.spec["maxParallel"], nodes))

    def max_unavailable(self, nodes: int) -> int:
        """Nodes taken down at once: at least 1; a percentage is rounded down."""
        return _count(self.spec["maxUnavailable"], nodes)

    def max_unavailable_total(self, nodes: int) -> int | None:
        """As max_unavailable, nodes counted that are down anyway; None: no such limit."""
        value = self.spec["maxUnavailableTotal"]
        return None if value is None else _count(value, nodes)

    def confirm_within(self, transport: str) -> int:
        """Seconds after which a node that is reached so undoes an unconfirmed change; 0: never. Over the Kubernetes API
        always some: what a change there may lose is the very image by which the next one comes."""
        return int(self.spec["confirm"]) or (CONFIRM_KUBERNETES if transport == "kubernetes" else 0)

    @property
    def drains(self) -> bool:
        """Whether a node can be emptied before it is taken down."""
        return bool(self.spec["drain"]["via"] != "none")

    @property
    def check_names(self) -> tuple[str, ...]:
        """The pool's own health checks."""
        return tuple(check["name"] for check in self.spec["healthChecks"])

    @property
    def file_policies(self) -> tuple[FilePolicy, ...]:
        """The pool's own disruption policies per path."""
        return file_policies(self.spec["disruption"]["files"])

    def selects(self, node_labels: Mapping[str, str]) -> bool:
        wanted = self.spec["nodeSelector"]["matchLabels"]
        return all(node_labels.get(key) == value for key, value in wanted.items())

    def render_options(self, base_files: Mapping[str, bytes | None]) -> RenderOptions:
        """How the pool's files are rendered over its base: captured files of a node, or templates."""
        return RenderOptions(
            base="directory" if self.base_directory else self.spec["base"],
            base_files=base_files if self.spec["base"] != "openshift" else {},
            mirror_syntax=self.spec["mirrorSyntax"],
            release_image=self.spec["releaseImage"],
        )


@dataclass(frozen=True)
class Inventory:
    """The pools and nodes of a commit, each node with its pool, and what is wrong."""

    pools: Mapping[str, Pool] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def _count(value: int | str, nodes: int) -> int:
    """A number, or a percentage of `nodes` rounded down; at least 1."""
    return max(1, nodes * int(value[:-1]) // 100 if isinstance(value, str) else value)


def is_inventory(document: Document) -> bool:
    return document.kind in INVENTORY_KINDS or document.api_version.startswith("reconciler.dev/")


def read_inventory(documents: Iterable[Document], known: Mapping[str, Node] | None = None) -> Inventory:
    """Pools and nodes from their documents. Any error here rejects a commit for all pools (DESIGN §4).

    `known`: the nodes by then, of which those discovered stay while no document names them, and what the cluster said
    of the others still counts.
    """
    pools: dict[str, Pool] = {}
    nodes: dict[str, Node] = {}
    problems: list[Problem] = []
    for document in documents:
        problems.extend(_check_envelope(document, pools if document.kind == "NodePool" else nodes))
        spec = document.value.get("spec", {})
        if document.kind == "NodePool":
            values, found = read_fields(document, spec, POOL_SCHEMA, "spec")
            pools[document.name] = Pool(document.name, values, document.location, document.lines)
            problems.extend((*found, *check_drain(document, values["drain"])))
        elif document.kind == "Node":
            node, found = read_node(document, spec)
            nodes[document.name] = node
            problems.extend(found)
    placed, found = place_nodes(pools, with_known(nodes, known or {}))
    return Inventory(pools, placed, (*problems, *_check_order(pools), *found))


def _check_order(pools: Mapping[str, Pool]) -> list[Problem]:
    """`after` names pools that are there, and no pool comes after itself."""
    problems = []
    for name, pool in pools.items():
        identity, field = f"NodePool/{name}", "spec.after"
        for other in pool.spec["after"]:
            if other not in pools:
                message, remedy = f"there is no pool {other}", f"known: {', '.join(sorted(pools))}"
                problems.append(Problem("unknown-pool", message, pool.location, identity, field, remedy))
        if name in _before(name, pools):
            message = f"pool {name} comes after itself"
            problems.append(Problem("pool-order", message, pool.location, identity, field, "break the circle"))
    return problems


def _before(name: str, pools: Mapping[str, Pool]) -> set[str]:
    """Every pool that must have completed before this one, directly or not."""
    found: set[str] = set()
    ahead = list(pools[name].spec["after"])
    while ahead:
        other = ahead.pop()
        if other not in found and other in pools:
            found.add(other)
            ahead.extend(pools[other].spec["after"])
    return found


def _check_envelope(document: Document, known: Mapping[str, Pool | Node]) -> list[Problem]:
    if document.kind not in INVENTORY_KINDS or document.api_version != API_VERSION:
        message = f"{document.api_version} {document.kind} is not known; {API_VERSION} has NodePool and Node"
        return [problem(document, "kind", "unknown-kind", message)]
    problems: list[Problem] = []
    if not NODE_NAME.fullmatch(document.name):
        problems.append(problem(document, "metadata.name", "name", f"{document.name!r} is no DNS name"))
    problems.extend(
        problem(document, unknown, "unknown-field", f"unknown field {unknown!r}")
        for unknown in sorted(set(document.value) - {"apiVersion", "kind", "metadata", "spec", "status"})
    )
    if document.name in known:
        other = known[document.name].location
        message = f"{document.kind} {document.name} stands twice, the other at {other}"
        problems.append(problem(document, "metadata.name", "duplicate", message, "remove one of them"))
    return problems


def homes(pools: Iterable[Pool]) -> tuple[str, ...]:
    """Every directory that some pool names in `paths`, longest first."""
    named = {path for pool in pools for path in pool.paths}
    return tuple(sorted(named, key=lambda path: (path == ".", -len(path), path)))


def home_of(directory: str, named: Sequence[str]) -> str | None:
    """The named directory that `directory` belongs to: the deepest one at or above it (DESIGN §4 'Per site')."""
    for path in named:
        if path == "." or directory == path or directory.startswith(path + "/"):
            return path
    return None


def takers(home: str | None, pools: Iterable[Pool]) -> tuple[str, ...]:
    """The pools that take what belongs to `home`, sorted."""
    return tuple(sorted(pool.name for pool in pools if home in pool.paths))


def later_path_wins(identities: Iterable[str], pool: Pool) -> list[str]:
    """What a pool really uses, sorted: the same kind and name in a later path replaces the earlier whole."""
    chosen: dict[str, tuple[int, str]] = {}
    named = homes([pool])
    for identity in identities:
        directory, _, kind_and_name = identity.rpartition(":")
        home = home_of(directory or ".", named)
        rank = pool.paths.index(home) if home is not None else -1
        if kind_and_name not in chosen or chosen[kind_and_name][0] < rank:
            chosen[kind_and_name] = (rank, identity)
    return sorted(identity for _, identity in chosen.values())
