"""What every cluster keeps to: one class, run against the one in memory and a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import pytest

from reconciler.errors import ClusterError, ClusterRefused
from reconciler.ports import Cluster, ClusterNode

ROLE = "node-role.kubernetes.io/worker"
STEP = "0b9de5a2-6b3c-5b0e-9d5f-3f1f0a7a51c2"


class ClusterRig(Protocol):
    """A cluster without nodes, and hands on it that do not go through the port."""

    @property
    def cluster(self) -> Cluster: ...

    def add(self, name: str, labels: Mapping[str, str]) -> None: ...

    def label(self, name: str, labels: Mapping[str, str]) -> None: ...

    def ready(self, name: str, *, yes: bool) -> None: ...

    def cordon(self, name: str, *, yes: bool, by: str = "") -> None: ...

    def remove(self, name: str) -> None: ...

    def cut(self) -> None:
        """Nobody reaches the API server any more."""

    def mend(self) -> None: ...

    def forbid(self) -> None:
        """We may not list nodes any more, and what we have open is over."""

    def allow(self) -> None: ...


async def until(rig: ClusterRig, holds: Callable[[Mapping[str, ClusterNode]], bool]) -> Mapping[str, ClusterNode]:
    """The nodes by name, once they are as wanted: a watch needs its moment."""
    while True:
        try:
            found = {node.name: node for node in await rig.cluster.nodes()}
            if holds(found):
                return found
        except ClusterError:
            pass
        await asyncio.sleep(0.02)


async def until_error(rig: ClusterRig, kind: type[ClusterError]) -> ClusterError:
    while True:
        try:
            await rig.cluster.nodes()
        except kind as error:
            return error
        await asyncio.sleep(0.02)


class ClusterConformance:
    async def test_nodes_come_sorted_with_what_they_say_of_themselves(self, rig: ClusterRig) -> None:
        rig.add("b", {ROLE: ""})
        rig.add("a", {"zone": "x"})
        assert [node.name for node in (await until(rig, lambda found: len(found) == 2)).values()] == ["a", "b"]
        found = (await until(rig, lambda found: found["b"].ready))["b"]
        assert found.labels[ROLE] == ""
        assert (found.reason, found.unschedulable, found.cordoned_by) == ("", False, "")
        assert found.runtime.startswith("cri-o://")
        assert found.version.startswith("v1.")
        assert found.uid
        assert found.created.endswith("Z")

    async def test_every_change_is_seen(self, rig: ClusterRig) -> None:
        rig.add("a", {ROLE: "", "tier": "x"})
        await until(rig, lambda found: "a" in found and found["a"].ready)
        rig.label("a", {"tier": "y"})
        assert (await until(rig, lambda found: found["a"].labels["tier"] == "y"))["a"].labels[ROLE] == ""
        rig.ready("a", yes=False)
        assert (await until(rig, lambda found: not found["a"].ready))["a"].reason == "KubeletNotReady"
        rig.ready("a", yes=True)
        assert (await until(rig, lambda found: found["a"].ready))["a"].reason == ""

    async def test_whose_cordon_it_is(self, rig: ClusterRig) -> None:
        rig.add("a", {})
        await until(rig, lambda found: "a" in found)
        rig.cordon("a", yes=True)
        assert (await until(rig, lambda found: found["a"].unschedulable))["a"].cordoned_by == ""
        rig.cordon("a", yes=True, by=STEP)
        assert (await until(rig, lambda found: found["a"].cordoned_by != ""))["a"].cordoned_by == STEP
        rig.cordon("a", yes=False, by=STEP)
        assert (await until(rig, lambda found: not found["a"].unschedulable))["a"].cordoned_by == ""

    async def test_a_node_made_anew_has_another_uid(self, rig: ClusterRig) -> None:
        rig.add("a", {})
        before = (await until(rig, lambda found: "a" in found))["a"].uid
        rig.remove("a")
        await until(rig, lambda found: not found)
        rig.add("a", {})
        assert (await until(rig, lambda found: "a" in found))["a"].uid != before

    async def test_out_of_reach_it_does_not_tell_what_it_knew(self, rig: ClusterRig) -> None:
        rig.add("a", {})
        rig.add("b", {})
        await until(rig, lambda found: len(found) == 2)
        rig.cut()
        error = await until_error(rig, ClusterError)
        assert not isinstance(error, ClusterRefused)
        with pytest.raises(ClusterError):
            await rig.cluster.check()
        rig.remove("a")
        rig.add("c", {})
        rig.mend()
        assert list(await until(rig, lambda found: "c" in found)) == ["b", "c"]

    async def test_a_missing_right_is_named(self, rig: ClusterRig) -> None:
        assert (await rig.cluster.check()).missing == ()
        assert (await rig.cluster.check()).version.startswith("v1.")
        rig.forbid()
        error = await until_error(rig, ClusterRefused)
        assert 'cannot list resource "nodes"' in error.what
        assert "list nodes" in (await rig.cluster.check()).missing
        rig.allow()
        rig.add("a", {})
        await until(rig, lambda found: "a" in found)
