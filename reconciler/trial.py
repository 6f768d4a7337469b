"""A fleet to try things on, for `reconciler demo`: nodes on this machine, a cluster of them, and a data directory to
throw away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from reconciler.errors import UsageError
from reconciler.ports import Target
from reconciler.store.embedded import EmbeddedPostgres
from reconciler.transport import sandbox

SSHD = "sshd nodes need sshd"
"""What `sshd_obstacle` says where installing OpenSSH's server is all that is missing."""


class TrialNode(Protocol):
    """A node of this machine, seen from outside."""

    name: str

    @property
    def root(self) -> Path:
        """The directory that is the node's /."""
        ...

    def target(self) -> Target: ...

    def actions(self) -> Sequence[str]:
        """What its (fake) systemctl was asked to do, oldest first."""
        ...


def sshd_obstacle() -> str:
    """Why there can be no real sshd nodes on this machine; `` when there can."""
    return sandbox.available()


@contextmanager
def trial_nodes(directory: Path, count: int, *, ssh: bool, prefix: str = "worker") -> Iterator[Sequence[TrialNode]]:
    """Nodes PREFIX-1 …, each with an sshd and an /etc and /var of its own, or each a directory below `directory`.

    sshd nodes end with the block, and with this process however it ends. Raises NodeFault.
    """
    if not ssh:
        yield [sandbox.local_node(directory, f"{prefix}-{number}") for number in range(1, count + 1)]
        return
    nodes = sandbox.start_nodes(directory, count, prefix=prefix)
    try:
        yield nodes
    finally:
        for node in nodes:
            node.close()


class TrialCluster(Protocol):
    """A Kubernetes cluster of the trial's nodes, seen from outside."""

    kubeconfig: Path

    def api(self, method: str, path: str, body: object = None) -> Any:
        """One request as an administrator; the decoded answer."""
        ...


@contextmanager
def trial_cluster(directory: Path, names: Sequence[str]) -> Iterator[TrialCluster | None]:
    """A real API server that knows nodes of these names, each with a pod; None where its programs are not at hand.

    It ends with the block, and with this process however it ends. Nothing runs the pods: one that is deleted is gone.
    """
    from reconciler.kubernetes.trial import ControlPlane, find_programs  # its libraries take a while

    programs = find_programs()
    if programs is None:
        yield None
        return
    directory.mkdir()
    with ControlPlane(directory, programs) as cluster:
        for name in names:
            cluster.add_node(name, {"node-role.kubernetes.io/worker": ""})
            container = {"name": "app", "image": "registry.example.com/app:1"}
            spec = {"nodeName": name, "terminationGracePeriodSeconds": 0, "containers": [container]}
            pod = {"metadata": {"name": f"app-on-{name}"}, "spec": spec}
            cluster.create("/api/v1/namespaces/default/pods", pod)
        yield cluster


@contextmanager
def trial_database(data_dir: Path) -> Iterator[None]:
    """An embedded PostgreSQL in a new data directory, up while the block lasts, so that verbs need not start it.

    What was in the directory is removed, with the server that a killed process left. Raises UsageError while another
    process uses it, StoreError.
    """
    embedded = EmbeddedPostgres(data_dir)
    if data_dir.exists() and not embedded.discard():
        raise UsageError("another process uses it", where=str(data_dir), remedy="stop that process first")
    with embedded:
        yield
