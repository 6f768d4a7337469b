"""What is wanted: resources, pools, rendered files, and what the lock-out guard says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reconciler.events.catalogue.base import Data, Event


@dataclass(frozen=True)
class ResourceAdded(Event):
    """A resource entered Git's state for these pools ("" stands for: no pool takes its directory).

    `content` is the blob of the canonical JSON document, `text` the blob of the source text, `lines` the blob of
    the field-to-line map; `meaning` is the digest of its body, by which contents are compared.
    """

    resource: str
    pools: tuple[str, ...]
    commit: str
    file: str
    line: int
    content: str
    text: str
    lines: str
    meaning: str


@dataclass(frozen=True)
class ResourceChanged(Event):
    """A resource's document changed in Git's state for these pools."""

    resource: str
    pools: tuple[str, ...]
    commit: str
    file: str
    line: int
    content: str
    text: str
    lines: str
    meaning: str
    previous: str


@dataclass(frozen=True)
class ResourceRemoved(Event):
    """A resource left Git's state for these pools."""

    resource: str
    pools: tuple[str, ...]
    commit: str
    previous: str


@dataclass(frozen=True)
class PoolConfigured(Event):
    """A NodePool document was accepted for the first time, or it changed, or the templates that it names as its base.

    `spec` has every field, defaults included. `base_files`: path on a node → blob of the template; empty where the
    base is no directory.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    commit: str
    file: str
    line: int
    spec: Data
    base_files: Data


@dataclass(frozen=True)
class PoolRemoved(Event):
    """A NodePool left the repository. Its nodes keep their files."""

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    commit: str


@dataclass(frozen=True)
class FilesRendered(Event):
    """A pool's resources in force were rendered over one base: once per distinct input.

    `node` is empty unless a hold of node scope makes that node differ. `inputs` is the digest of all that decides
    the bytes, `files` the blob of the file manifest, `disruption` the class against the set rendered before.
    """

    scope: ClassVar[Literal["fleet", "pool", "node"]] = "pool"
    pool: str
    node: str
    base: str
    inputs: str
    renderer: str
    files: str
    origins: str
    """Blob: path → table, key or scope → the resource fields it comes from."""
    disruption: str
