"""The shipped fake: a cluster in memory, for tests, demos and `simulate`. Faults are scripted."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.errors import ClusterError, ClusterRefused
from reconciler.ports import ClusterCheck, ClusterNode


class MemoryCluster:
    """The nodes put here, by name. `failure`: why it cannot be asked now, or None."""

    def __init__(self, nodes: Sequence[ClusterNode] = (), *, version: str = "v0.0.0") -> None:
        self.failure: ClusterError | None = None
        self._denied: tuple[str, ...] = ()
        self._version = version
        self._nodes = {node.name: node for node in nodes}

    def put(self, node: ClusterNode) -> None:
        """A node comes, or is from now on as given."""
        self._nodes[node.name] = node

    def remove(self, name: str) -> None:
        """A node leaves."""
        del self._nodes[name]

    def node(self, name: str) -> ClusterNode:
        """A node as it is."""
        return self._nodes[name]

    def deny(self, *rights: str) -> None:
        """Deny these rights from now on (`list nodes`), and no others."""
        self._denied = rights

    async def nodes(self) -> Sequence[ClusterNode]:
        if self.failure is not None:
            raise self.failure
        for verb in ("list", "watch"):
            if f"{verb} nodes" in self._denied:
                what = f'nodes is forbidden: User "us" cannot {verb} resource "nodes" in API group ""'
                raise ClusterRefused(what, where="nodes of the cluster", remedy="grant the right")
        return [self._nodes[name] for name in sorted(self._nodes)]

    async def check(self) -> ClusterCheck:
        if self.failure is not None:
            raise self.failure
        return ClusterCheck(self._version, self._denied)

    async def close(self) -> None:
        """Nothing is held open."""
