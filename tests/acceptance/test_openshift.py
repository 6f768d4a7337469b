"""A cluster that the Machine Config Operator manages: its resources are kept equal to Git, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import cluster, commands, control, queries
from reconciler.errors import ClusterError, UsageError, WrongExpectation
from reconciler.events.catalogue import (
    ClusterDriftDetected,
    ClusterResourceApplied,
    ClusterResourceDeleted,
    ClusterResourceRefused,
    MachineConfigChanged,
    RolloutCompleted,
    RolloutSuperseded,
)
from reconciler.events.envelope import NewEvent, StoredEvent
from reconciler.history.blame import blame_file
from reconciler.planning.export import export_fleet, read_export
from reconciler.planning.plan import Asked, plan, plan_export
from reconciler.ports import EventFilter
from reconciler.projections.desired import Desired
from reconciler.projections.tables import CLUSTER_OBJECTS
from reconciler.rollout.cluster_objects import FLEET_MARK, IMAGE, LOG_MARK, SAYS_NOTHING
from reconciler.stages.cluster_foresee import recorded_cluster
from reconciler.stages.cluster_wishes import rendered_now, stood_before
from reconciler.store.memory import MemoryBlobs
from tests.authorities import certificate, config_map
from tests.openshift import NODES, OpenShift, cluster_pool, nodes_file, openshift
from tests.world import image, mirrors

A, B, C = "a.example.com", "b.example.com", "c.example.com"


@pytest.fixture
def fleet(tmp_path: Path) -> OpenShift:
    return openshift(tmp_path)


async def adopted(fleet: OpenShift, blocked: str = A, **spec: Any) -> None:
    """Git's Image is the cluster's, and on every node."""
    fleet.commit({"pool.yaml": cluster_pool(**spec), "nodes.yaml": nodes_file(), "image.yaml": _blocks(blocked)})
    await fleet.roll()
    await cluster.adopt(fleet.world.context, reason="ours")
    await fleet.roll()
    assert (await fleet.world.status()).exit_code == 0


def _blocks(*registries: str) -> str:
    return image(blockedRegistries=registries)


async def _bodies(fleet: OpenShift, kind: type, after: int = 0) -> Sequence[Any]:
    wanted = EventFilter(types=(kind.__name__,), after=after)
    return [event.body for event in await fleet.world.log.read(wanted)]


async def test_first_contact_changes_nothing_until_a_person_adopts(fleet: OpenShift) -> None:
    fleet.commit({"pool.yaml": cluster_pool(), "nodes.yaml": nodes_file(), "image.yaml": _blocks(A)})
    await fleet.roll()
    assert (fleet.spec(), fleet.resources.calls) == ({}, ["list pods"])
    status = await fleet.world.status()
    [pool] = status.pools
    assert status.exit_code == 3
    assert "Image/cluster was there before us and not adopted" in pool.blocked
    assert "ClusterBaselineCaptured" in await fleet.world.types()
    await cluster.adopt(fleet.world.context, reason="ours from now on")
    await fleet.roll()
    assert fleet.spec() == {"registrySources": {"blockedRegistries": [A]}}
    status = await fleet.world.status()
    assert (status.exit_code, [node.files for node in status.nodes]) == (0, ["Converged"] * 3)
    head = await fleet.world.head()
    await fleet.world.run()
    assert await fleet.world.head() == head, "a pass that finds nothing new says nothing"


async def test_a_commit_is_followed_until_every_machine_has_it(fleet: OpenShift) -> None:
    await adopted(fleet)
    first = await fleet.world.head()
    commit = fleet.commit({"image.yaml": _blocks(B), "mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com")})
    done = await fleet.world.run()
    calls = [call for call in fleet.resources.calls if call.startswith("apply")]
    assert calls[-2:] == ["apply ImageDigestMirrorSet/apps", "apply Image/cluster"]
    assert done.moving
    [pool] = (await fleet.world.status()).pools
    assert pool.rollout == "progressing"
    await fleet.roll()
    [pool] = (await fleet.world.status()).pools
    assert (pool.rollout, pool.outcome, pool.updated, pool.config) == ("completed", "3 converged", 3, pool.config)
    applied = await _bodies(fleet, ClusterResourceApplied, first)
    assert [(body.key, body.purpose, body.commit) for body in applied] == [
        ("ImageDigestMirrorSet/apps", "rollout", commit),
        (IMAGE, "rollout", commit),
    ]
    assert applied[1].changed == ("spec.registrySources.blockedRegistries",)
    events = await fleet.world.log.read(EventFilter(after=first))
    [accepted] = [event for event in events if event.type == "CommitAccepted"]
    caused = {event.type for event in events if event.correlation_id == accepted.correlation_id}
    assert {"ClusterResourceApplied", "MachineConfigChanged", "RolloutStarted", "RolloutCompleted"} <= caused
    told = [(body.node, body.state) for body in await _bodies(fleet, MachineConfigChanged, first)]
    assert ("w1", "Working") in told
    assert ("w3", "Done") in told


async def test_what_mco_cannot_tell_needs_no_new_config(fleet: OpenShift) -> None:
    """allowedRegistriesForImport is read by the API server: no file changes, so no machine is waited for."""
    await adopted(fleet)
    text = _blocks(A).replace(
        "registrySources:", "allowedRegistriesForImport: [{domainName: quay.io}]\n  registrySources:"
    )
    fleet.commit({"image.yaml": text})
    await fleet.world.run()
    assert fleet.spec()["allowedRegistriesForImport"] == [{"domainName": "quay.io"}]
    status = await fleet.world.status()
    assert (status.exit_code, status.pools[0].rollout) == (0, "completed")
    assert len(await _bodies(fleet, RolloutCompleted)) == 1


async def test_a_degraded_node_is_named_with_its_reason(fleet: OpenShift) -> None:
    await adopted(fleet)
    fleet.mco.failing["w1"] = "unexpected on-disk state"
    fleet.commit({"image.yaml": _blocks(B)})
    await fleet.roll()
    status = await fleet.world.status()
    [pool] = status.pools
    assert (status.exit_code, pool.rollout, pool.degraded) == (1, "progressing", 1)
    assert 'NodeDegraded: Node w1 is reporting: "unexpected on-disk state"' in pool.blocked
    states = {node.name: (node.files, node.reason) for node in status.nodes}
    assert states["w1"] == ("Failed", "Degraded: unexpected on-disk state")
    assert states["w2"][0] == "Pending"
    fleet.mco.failing.clear()
    await fleet.roll()
    assert (await fleet.world.status()).exit_code == 0


async def test_a_paused_pool_is_respected_and_said(fleet: OpenShift) -> None:
    await adopted(fleet)
    fleet.mco.paused.add("worker")
    fleet.commit({"image.yaml": _blocks(B)})
    await fleet.roll()
    status = await fleet.world.status()
    assert status.exit_code == 3
    assert "Pool is paused; will not update to rendered-worker-" in status.pools[0].paused
    assert not (await fleet.world.run()).moving
    fleet.mco.paused.clear()
    await fleet.roll()
    assert (await fleet.world.status()).exit_code == 0


async def test_rollback_applies_the_older_resources_again(fleet: OpenShift) -> None:
    await adopted(fleet)
    before = await fleet.world.head()
    fleet.commit({"image.yaml": _blocks(B), "mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com")})
    await fleet.roll()
    await commands.rollback(fleet.world.context, to=f"#{before}", reason="locks out")
    await fleet.roll()
    assert fleet.resources.stored() == [IMAGE]
    assert fleet.spec() == {"registrySources": {"blockedRegistries": [A]}}
    status = await fleet.world.status()
    assert (status.exit_code, status.pools[0].rollout, len(status.holds)) == (0, "completed", 1)


async def test_rollback_to_the_baseline_gives_back_what_stood_there(fleet: OpenShift) -> None:
    fleet.resources.put(
        {
            "apiVersion": "config.openshift.io/v1",
            "kind": "Image",
            "metadata": {"name": "cluster"},
            "spec": {"registrySources": {"insecureRegistries": [C]}},
        },
        "oc",
    )
    fleet.mco.install()
    fleet.commit({"pool.yaml": cluster_pool(mode="observe"), "nodes.yaml": nodes_file()})
    await fleet.roll()
    before = await fleet.world.head()
    fleet.commit(
        {
            "pool.yaml": cluster_pool(),
            "image.yaml": _blocks(A),
            "mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com"),
        }
    )
    await fleet.roll()
    await cluster.adopt(fleet.world.context, reason="ours")
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [A]
    await commands.rollback(fleet.world.context, to=f"#{before}", reason="back to what was")
    await fleet.roll()
    assert fleet.spec() == {"registrySources": {"insecureRegistries": [C]}}
    assert fleet.resources.stored() == [IMAGE]
    assert (await fleet.world.status()).pools[0].mode == "observe"


async def _edit(fleet: OpenShift, *registries: str, manager: str = "kubectl-edit") -> None:
    document = fleet.resources.document(IMAGE)
    document["spec"] = {"registrySources": {"blockedRegistries": list(registries)}}
    fleet.resources.put(document, manager)
    await fleet.roll()


@pytest.mark.parametrize("policy", ["alert", "stop", "ignore"])
async def test_an_edit_is_told_with_manager_operation_and_time(fleet: OpenShift, policy: str) -> None:
    await adopted(fleet, drift=policy)
    await _edit(fleet, C)
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [C]
    [drift] = await _bodies(fleet, ClusterDriftDetected)
    [change] = drift.differs
    assert (change["path"], change["manager"], change["operation"]) == (
        "spec.registrySources.blockedRegistries",
        "kubectl-edit",
        "Update",
    )
    assert change["time"].startswith("2026-01-01T")
    status = await fleet.world.status()
    assert status.exit_code == (0 if policy == "ignore" else 3)
    assert (
        "Image/cluster drifted: spec.registrySources.blockedRegistries was changed by kubectl-edit (Update, "
        in status.pools[0].blocked
    ) is (policy != "ignore")
    fleet.commit({"mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com")})
    await fleet.roll()
    assert ("ImageDigestMirrorSet/apps" in fleet.resources.stored()) is (policy != "stop")
    await cluster.repair(fleet.world.context, "worker", keys=[IMAGE], reason="it was a mistake")
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [A]
    assert (await fleet.world.status()).exit_code == 0


async def test_an_edit_is_healed_by_taking_exactly_our_fields(fleet: OpenShift) -> None:
    await adopted(fleet, drift="heal")
    document = fleet.resources.document(IMAGE)
    document["metadata"]["labels"]["theirs"] = "stays"
    document["spec"] = {"registrySources": {"blockedRegistries": [C]}, "additionalTrustedCA": {"name": "theirs"}}
    fleet.resources.put(document, "kubectl-edit")
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [A]
    assert fleet.spec()["additionalTrustedCA"] == {"name": "theirs"}, "no field of ours: told, and left alone"
    assert "spec.additionalTrustedCA was added by kubectl-edit" in (await fleet.world.status()).pools[0].blocked
    assert fleet.resources.document(IMAGE)["metadata"]["labels"]["theirs"] == "stays"
    repairs = [body for body in await _bodies(fleet, ClusterResourceApplied) if body.purpose == "repair"]
    assert [(body.key, body.taken) for body in repairs] == [(IMAGE, ("kubectl-edit",))]


async def test_what_somebody_keeps_writing_is_left_alone(fleet: OpenShift) -> None:
    await adopted(fleet, drift="heal")
    for _ in range(5):
        await _edit(fleet, C, manager="operator")
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [C]
    repairs = [body for body in await _bodies(fleet, ClusterResourceApplied) if body.purpose == "repair"]
    assert len(repairs) == 3
    assert "put right 3 times" in str((await fleet.world.run()).pools[0].waits)


async def test_healing_waits_for_a_window(fleet: OpenShift) -> None:
    await adopted(fleet, drift="heal")
    shut = [{"kind": "deny", "schedule": "* * * * *", "duration": "1h"}]
    fleet.commit({"pool.yaml": cluster_pool(drift="heal", windows=shut)})
    await fleet.roll()
    await _edit(fleet, C)
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [C]
    assert "window" in str((await fleet.world.run()).pools[0].waits)


async def test_an_edit_put_back_from_outside(fleet: OpenShift) -> None:
    await adopted(fleet)
    await _edit(fleet, C)
    head = await fleet.world.head()
    await _edit(fleet, A)
    assert (await fleet.world.status()).exit_code == 0
    assert "ClusterDriftRepaired" in await fleet.world.types(head)
    assert "ClusterResourceApplied" not in await fleet.world.types(head)


async def test_an_edit_becomes_a_commit_on_a_branch_by_choice(fleet: OpenShift) -> None:
    await adopted(fleet)
    await _edit(fleet, C)
    done = await cluster.keep_edit(fleet.world.context, IMAGE, "keep-it", reason="the block was right")
    assert done["files"] == ["image.yaml"]
    fleet.world.repository.git("merge", "--quiet", "--ff-only", "keep-it")
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [C]
    assert (await fleet.world.status()).exit_code == 0


async def test_a_conflict_of_field_managers_is_named_and_not_forced(fleet: OpenShift) -> None:
    await adopted(fleet)
    await _edit(fleet, C)
    fleet.commit({"image.yaml": _blocks(B)})
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [C]
    [refused] = await _bodies(fleet, ClusterResourceRefused)
    assert refused.conflicts == ({"manager": "kubectl-edit", "field": "spec.registrySources.blockedRegistries"},)
    status = await fleet.world.status()
    assert "spec.registrySources.blockedRegistries is managed by kubectl-edit" in status.pools[0].blocked
    tried = len(fleet.resources.calls)
    await fleet.world.run()
    assert len(fleet.resources.calls) == tried, "the same is not tried again until something changes"
    await cluster.repair(fleet.world.context, "worker", reason="Git is right")
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [B]
    assert (await fleet.world.status()).exit_code == 0


async def test_what_git_lacks_is_removed_only_if_it_was_ours(fleet: OpenShift) -> None:
    foreign = {"apiVersion": "config.openshift.io/v1", "kind": "ImageDigestMirrorSet", "metadata": {"name": "theirs"}}
    row = {"source": "y.example.com", "mirrors": [C]}
    fleet.resources.put({**foreign, "spec": {"imageDigestMirrors": [row]}}, "oc")
    fleet.commit({"mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com")})
    fleet.commit({"more.yaml": mirrors("more", "z.example.com", "m.example.com")})
    await adopted(fleet)
    fleet.commit({"mirrors.yaml": None})
    await fleet.roll()
    assert fleet.resources.stored() == [IMAGE, "ImageDigestMirrorSet/more", "ImageDigestMirrorSet/theirs"]


async def test_the_image_is_emptied_and_never_removed(fleet: OpenShift) -> None:
    await adopted(fleet)
    commit = fleet.commit({"image.yaml": None})
    await fleet.roll()
    await commands.approve(fleet.world.context, commit, reason="no more blocks")
    await fleet.roll()
    assert fleet.spec() == SAYS_NOTHING
    assert (await fleet.world.status()).exit_code == 0


async def test_the_guard_stops_what_would_lock_images_out(fleet: OpenShift) -> None:
    fleet.resources.pods = {"w1": ["registry.example.com/app:1"]}
    await adopted(fleet, reachableRegistries=None)
    fleet.commit({"image.yaml": image(allowedRegistries=["quay.io", "needed.example.com"])})
    await fleet.roll()
    assert fleet.spec()["registrySources"] == {"blockedRegistries": [A]}
    [pool] = (await fleet.world.status()).pools
    assert "registry.example.com/app:1" in pool.blocked
    assert "could no longer be pulled" in pool.blocked


async def test_observe_mode_applies_nothing(fleet: OpenShift) -> None:
    fleet.commit(
        {
            "pool.yaml": cluster_pool(mode="observe"),
            "nodes.yaml": nodes_file(),
            "image.yaml": _blocks(A),
            "mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com"),
        }
    )
    await fleet.roll()
    assert fleet.resources.calls == []
    assert (await fleet.world.status()).exit_code == 0


async def test_a_fleet_without_a_cluster_says_so_and_does_nothing(fleet: OpenShift) -> None:
    fleet.world.context.cluster_resources = None
    fleet.commit({"pool.yaml": cluster_pool(), "nodes.yaml": nodes_file(), "image.yaml": _blocks(A)})
    await fleet.roll()
    status = await fleet.world.status()
    assert status.exit_code == 3
    assert "fleets.default.kubernetes is none" in status.pools[0].blocked


async def test_a_kind_that_the_cluster_does_not_know(fleet: OpenShift) -> None:
    await adopted(fleet)
    fleet.resources.unserved.add("ImageDigestMirrorSet")
    fleet.commit({"mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com"), "image.yaml": _blocks(B)})
    await fleet.roll()
    assert "does not serve ImageDigestMirrorSet" in (await fleet.world.status()).pools[0].blocked
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [A], "the set is applied whole, or not yet"
    fleet.resources.unserved.clear()
    await fleet.roll()
    assert (await fleet.world.status()).exit_code == 0


async def test_while_the_api_server_is_away_nothing_is_lost(fleet: OpenShift) -> None:
    await adopted(fleet)
    fleet.resources.failure = ClusterError("cannot be reached", where="cluster", remedy="it is tried again")
    fleet.commit({"image.yaml": _blocks(B)})
    for _ in range(3):
        await fleet.world.run()
    assert (await fleet.world.types()).count("ClusterResourcesUnreachable") == 1
    assert "cluster: cannot be reached" in (await fleet.world.status()).pools[0].blocked
    fleet.resources.failure = None
    await fleet.roll()
    assert (await fleet.world.status()).exit_code == 0
    assert "ClusterResourcesRecovered" in await fleet.world.types()


async def test_pools_that_are_held_differently_are_refused_together(fleet: OpenShift) -> None:
    fleet.mco.pools = {"worker": NODES, "master": ()}
    fleet.mco.install()
    fleet.commit({"master.yaml": cluster_pool("master")})
    await adopted(fleet)
    before = await fleet.world.head()
    fleet.commit({"image.yaml": _blocks(B)})
    await fleet.roll()
    with pytest.raises(UsageError, match="one set of resources"):
        await commands.rollback(fleet.world.context, to=f"#{before}", pool="worker", reason="only here")
    with pytest.raises(UsageError, match="one set of resources"):
        await commands.rollback(fleet.world.context, to=f"#{before}", node="w1", reason="only here")


async def _plan(fleet: OpenShift, **asked: Any) -> dict[str, Any]:
    return await plan(fleet.world.context, Asked(**asked))


async def test_the_plan_shows_calls_and_files_and_changes_nothing(fleet: OpenShift) -> None:
    await adopted(fleet)
    fleet.commit({"image.yaml": _blocks(B), "mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com")})
    head, before = await fleet.world.head(), fleet.spec()
    planned = await _plan(fleet)
    assert [(call["verb"], call["object"]) for call in planned["cluster"]["calls"]] == [
        ("apply", "ImageDigestMirrorSet/apps"),
        ("apply", IMAGE),
    ]
    [difference] = planned["cluster"]["calls"][1]["diff"]
    assert (A in difference["from"], B in difference["to"]) == (True, True)
    [pool] = planned["pools"]
    assert (pool["nodes"], pool["behind"], pool["disruption"]) == (3, 3, "drain")
    [change] = pool["changes"]
    assert change["nodes"] == list(NODES)
    assert any(B in item["to"] for item in change["diff"] if item["path"].endswith("registries.conf"))
    assert planned["changes"]
    assert (await fleet.world.head(), fleet.spec()) == (head, before)


async def test_the_plan_of_a_first_contact(fleet: OpenShift) -> None:
    theirs = {"apiVersion": "config.openshift.io/v1", "kind": "ImageDigestMirrorSet", "metadata": {"name": "theirs"}}
    fleet.resources.put({**theirs, "spec": {"imageDigestMirrors": [{"source": C, "mirrors": [B]}]}}, "oc")
    fleet.commit({"pool.yaml": cluster_pool(mode="observe"), "nodes.yaml": nodes_file(), "image.yaml": _blocks(A)})
    await fleet.roll()
    for live in (True, False):
        planned = (await _plan(fleet, live=live))["cluster"]
        assert (planned["calls"], planned["foreign"]) == ([], ["ImageDigestMirrorSet/theirs"])
        [item] = planned["unadopted"]
        assert (item["object"], item["managers"], A in item["diff"][0]["to"]) == (IMAGE, ["installer"], True)


async def test_a_plan_of_an_export_knows_the_cluster(fleet: OpenShift, tmp_path: Path) -> None:
    await adopted(fleet)
    exported = read_export(await export_fleet(fleet.world.context), "export")
    changed = tmp_path / "changed"
    fleet.world.repository.git("clone", "--quiet", ".", str(changed))
    (changed / "image.yaml").write_text(_blocks(B))
    planned = await plan_export(exported, Asked(directory=changed), fleet.world.clock)
    assert [(call["verb"], call["object"]) for call in planned["cluster"]["calls"]] == [("apply", IMAGE)]
    assert planned["pools"][0]["behind"] == 3


async def test_the_guard_is_asked_before_a_plan_promises(fleet: OpenShift) -> None:
    fleet.resources.pods = {"w1": ["registry.example.com/app:1"]}
    await adopted(fleet, reachableRegistries=None)
    fleet.commit({"image.yaml": image(allowedRegistries=["quay.io", "needed.example.com"])})
    planned = await _plan(fleet)
    assert "registry.example.com/app:1" in planned["cluster"]["waits"]


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("place", ["between-resources", "before-resources-recorded", "after-guard"])
async def test_what_was_applied_and_not_recorded_is_recorded_later(
    fleet: OpenShift, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Ended at any point, the next pass goes on from the cluster and the log: nothing is drift, nothing is lost."""
    await adopted(fleet)
    fleet.commit({"image.yaml": _blocks(B), "mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com")})

    def die(name: str) -> None:
        if name == place:
            raise KilledError(name)

    for module in ("reconciler.stages.cluster_apply", "reconciler.cycle"):
        monkeypatch.setattr(f"{module}.fault_point", die)
    with pytest.raises(KilledError):
        await fleet.world.run()
    monkeypatch.undo()
    await fleet.roll()
    assert (await fleet.world.status()).exit_code == 0
    assert await _bodies(fleet, ClusterDriftDetected) == []
    keys = [body.key for body in await _bodies(fleet, ClusterResourceApplied)]
    assert keys == [IMAGE, "ImageDigestMirrorSet/apps", IMAGE]
    assert (await fleet.world.log.verify()).problems == ()


async def test_healing_passes_the_guard_first(fleet: OpenShift) -> None:
    """The edit let an image in that now runs: taking it back would lock that out."""
    await adopted(fleet, drift="heal", reachableRegistries=None, requiredImages=["needed.example.com/app:1"])
    fleet.resources.pods = {"w1": [f"{A}/app:1"]}
    await _edit(fleet, C)
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [C]
    assert f"guard: {A}/app:1 by tag could no longer be pulled" in str((await fleet.world.run()).pools[0].waits)
    [pool] = (await fleet.world.status()).pools
    assert f"{A}/app:1" in pool.blocked
    await control.override(fleet.world.context, pool="worker", glob=f"{A}/*", reason="it may go")
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [A]


async def test_a_repair_is_followed_until_no_machine_has_the_edit(fleet: OpenShift) -> None:
    await adopted(fleet)
    await _edit(fleet, C)
    edited = fleet.mco.hands.node("w1")["currentConfig"]
    assert {node.files for node in (await fleet.world.status()).nodes} == {"Drifted"}
    await cluster.repair(fleet.world.context, "worker", keys=[IMAGE], reason="it was a mistake")
    await fleet.world.run()
    status = await fleet.world.status()
    assert (status.exit_code, status.pools[0].rollout) == (3, "progressing")
    await fleet.roll()
    assert (await fleet.world.status()).exit_code == 0
    assert fleet.mco.hands.node("w1")["currentConfig"] != edited


async def test_what_is_beside_git_is_rendered_with_it(fleet: OpenShift) -> None:
    """Somebody else's mirrors stay in force: the guard must not take them for removed, nor blame for ours."""
    theirs = {"apiVersion": "config.openshift.io/v1", "kind": "ImageDigestMirrorSet", "metadata": {"name": "theirs"}}
    row = {"source": "y.example.com", "mirrors": ["mirror.example.com/y"]}
    fleet.resources.put({**theirs, "spec": {"imageDigestMirrors": [row]}}, "oc")
    fleet.mco.install()
    fleet.resources.pods = {"w1": ["y.example.com/app@sha256:" + "0" * 64]}
    await adopted(fleet, reachableRegistries=["mirror.example.com"])
    before = await fleet.world.head()
    assert fleet.resources.stored() == [IMAGE, "ImageDigestMirrorSet/theirs"]
    text = (await queries.cat(fleet.world.context, "w1", "/etc/containers/registries.conf", "wanted")).decode()
    assert 'location = "mirror.example.com/y"' in text
    blamed = await blame_file(fleet.world.context, "w1", "/etc/containers/registries.conf")
    assert blamed["notes"] == []
    origins = {o["resource"] for line in blamed["lines"] for o in line["origins"]}
    assert origins == {IMAGE, "cluster:ImageDigestMirrorSet/theirs"}
    fleet.commit({"image.yaml": _blocks(B)})
    await fleet.roll()
    await commands.rollback(fleet.world.context, to=f"#{before}", reason="back")
    await fleet.roll()
    assert (await fleet.world.status()).exit_code == 0


async def test_what_came_after_first_contact_and_was_adopted_is_given_back(fleet: OpenShift) -> None:
    fleet.commit({"pool.yaml": cluster_pool(mode="observe"), "nodes.yaml": nodes_file()})
    await fleet.roll()
    before = await fleet.world.head()
    document = {"apiVersion": "config.openshift.io/v1", "kind": "ImageDigestMirrorSet", "metadata": {"name": "apps"}}
    spec = {"imageDigestMirrors": [{"source": "x.example.com", "mirrors": [C]}]}
    fleet.resources.put({**document, "spec": spec}, "oc")
    fleet.commit({"pool.yaml": cluster_pool(), "mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com")})
    await fleet.roll()
    await cluster.adopt(fleet.world.context, keys=["ImageDigestMirrorSet/apps"], reason="ours")
    await fleet.roll()
    assert fleet.spec("ImageDigestMirrorSet/apps") != spec
    await commands.rollback(fleet.world.context, to=f"#{before}", reason="back to what was")
    await fleet.roll()
    assert fleet.spec("ImageDigestMirrorSet/apps") == spec


async def test_another_cluster_under_the_same_settings_is_not_written(fleet: OpenShift) -> None:
    await adopted(fleet, drift="heal")
    calls = list(fleet.resources.calls)
    for number, name in enumerate(NODES):
        node = fleet.cluster.node(name)
        fleet.cluster.remove(name)
        fleet.cluster.put(replace(node, name=f"other-{number}", uid=f"other-{number}"))
    fleet.resources.remove(IMAGE)
    for _ in range(3):
        await fleet.world.run()
    assert fleet.resources.calls == calls
    assert fleet.resources.stored() == []
    status = await fleet.world.status()
    assert status.exit_code == 3
    assert "it has none of the 3 nodes known of it" in status.pools[0].blocked


async def test_an_aborted_rollout_is_not_applied_until_it_is_retried(fleet: OpenShift) -> None:
    await adopted(fleet)
    fleet.commit({"image.yaml": _blocks(B)})
    fleet.resources.refuse[IMAGE] = "admission webhook says no"
    await fleet.roll()
    assert "Image/cluster is refused: admission webhook says no" in (await fleet.world.status()).pools[0].blocked
    await control.abort(fleet.world.context, "worker", reason="not now")
    fleet.resources.refuse.clear()
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [A]
    assert "rollout aborted" in str((await fleet.world.run()).pools[0].waits)
    await control.retry(fleet.world.context, "worker", reason="now")
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [B]
    assert (await fleet.world.status()).exit_code == 0


async def test_who_once_wrote_what_git_said_is_no_conflict(fleet: OpenShift) -> None:
    """An edit that became a commit leaves its editor a manager of the field: the next commit need not ask them."""
    await adopted(fleet)
    await _edit(fleet, C)
    fleet.commit({"image.yaml": _blocks(C)})
    await fleet.roll()
    assert (await fleet.world.status()).exit_code == 0
    fleet.commit({"image.yaml": _blocks(B)})
    await fleet.roll()
    assert fleet.spec()["registrySources"]["blockedRegistries"] == [B]
    assert (await fleet.world.status()).exit_code == 0
    assert await _bodies(fleet, ClusterResourceRefused) == []


def _taken_over(fleet: OpenShift, key: str, name: str, value: str) -> None:
    """Another of our kind adopts an object: its mark or its label, set by the field manager that we are, too."""
    document = fleet.resources.document(key)
    kind = "annotations" if name == LOG_MARK else "labels"
    document["metadata"][kind][name] = value
    fleet.resources.put(document, "reconciler")


async def test_what_another_installation_took_over_is_left_to_it(fleet: OpenShift) -> None:
    fleet.commit({"mirrors.yaml": mirrors("apps", "x.example.com", "m.example.com")})
    fleet.commit({"more.yaml": mirrors("more", "z.example.com", "m.example.com")})
    await adopted(fleet)
    _taken_over(fleet, "ImageDigestMirrorSet/apps", LOG_MARK, "log-2")
    fleet.commit({"mirrors.yaml": None})
    await fleet.roll()
    assert "ImageDigestMirrorSet/apps" in fleet.resources.stored()
    assert "delete ImageDigestMirrorSet/apps" not in fleet.resources.calls
    assert sorted((await fleet.world.context.snapshot()).table(CLUSTER_OBJECTS)) == [
        ("default", IMAGE),
        ("default", "ImageDigestMirrorSet/more"),
    ]
    assert (await fleet.world.status()).exit_code == 0


async def test_what_another_fleet_of_the_log_has_is_not_written(fleet: OpenShift) -> None:
    await adopted(fleet)
    _taken_over(fleet, IMAGE, FLEET_MARK, "other")
    fleet.commit({"image.yaml": _blocks(B)})
    await fleet.roll()
    assert fleet.spec() == {"registrySources": {"blockedRegistries": [A]}}
    assert "Image/cluster belongs to fleet other" in (await fleet.world.status()).pools[0].blocked


CA = "ConfigMap/registry-ca"
KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\n-----END PRIVATE KEY-----\n"


async def _with_ca(fleet: OpenShift, **spec: Any) -> None:
    text = _blocks(A).replace("registrySources:", "additionalTrustedCA: {name: registry-ca}\n  registrySources:")
    fleet.commit({"ca.yaml": config_map("registry-ca", {"a.example.com": certificate()})})
    await adopted(fleet, **spec)
    fleet.commit({"image.yaml": text})
    await fleet.roll()


async def _paste_key(fleet: OpenShift) -> None:
    """Somebody puts a private key into our CA, beside the certificates, and into an annotation."""
    document = fleet.resources.document(CA)
    document["data"]["tls.key"] = KEY
    document["metadata"].setdefault("annotations", {})["theirs"] = KEY
    fleet.resources.put(document, "kubectl-edit")
    await fleet.world.run()


def _kept(fleet: OpenShift) -> bytes:
    blobs = fleet.world.context.blobs
    assert isinstance(blobs, MemoryBlobs)
    return b"\n".join(blobs.contents.values())


@pytest.mark.parametrize("policy", ["alert", "heal"])
async def test_a_private_key_that_somebody_pasted_never_enters_the_log(fleet: OpenShift, policy: str) -> None:
    await _with_ca(fleet, drift=policy)
    await _paste_key(fleet)
    fleet.commit({"ca.yaml": config_map("registry-ca", {"b.example.com": certificate("Other")})})
    await fleet.world.run()
    assert set(fleet.resources.document(CA)["data"]) == {"b.example.com", "tls.key"}
    applied = [body for body in await _bodies(fleet, ClusterResourceApplied) if body.key == CA]
    assert (applied[-1].before, applied[-1].answer) == ("", applied[-1].sent)
    commit = fleet.commit({"ca.yaml": None, "image.yaml": _blocks(A)})
    await fleet.world.run()
    await commands.approve(fleet.world.context, commit, reason="no more CA")
    await fleet.world.run()
    assert CA not in fleet.resources.stored()
    assert [body.before for body in await _bodies(fleet, ClusterResourceDeleted)] == [""]
    assert b"MIGHAgEAMBMGByqGSM49AgEG" not in _kept(fleet)


async def test_an_edit_with_a_private_key_is_no_removal(fleet: OpenShift) -> None:
    """It is not kept, and so cannot become a commit; Git and the cluster's other files stay as they are."""
    await _with_ca(fleet)
    context = fleet.world.context
    pool = Desired("default", (await context.snapshot()).rows).pools["worker"]
    before = await rendered_now(context, await context.snapshot(), pool)
    await _paste_key(fleet)
    with pytest.raises(UsageError, match="ConfigMap/registry-ca holds a private key in the cluster"):
        await cluster.keep_edit(context, CA, "keep-it", reason="theirs")
    seen = await recorded_cluster(context)
    assert seen is not None
    assert CA in seen.live
    assert await rendered_now(context, await context.snapshot(), pool) == before


async def test_a_removal_becomes_a_commit_by_choice(fleet: OpenShift) -> None:
    await _with_ca(fleet)
    fleet.resources.remove(CA)
    await fleet.world.run()
    seen = await recorded_cluster(fleet.world.context)
    assert seen is not None
    assert CA not in seen.live
    done = await cluster.keep_edit(fleet.world.context, CA, "keep-it", reason="no more CA")
    assert done["files"] == ["ca.yaml"]


async def test_of_two_replicas_one_ends_the_rollouts_of_a_pool_that_observes(
    fleet: OpenShift, monkeypatch: pytest.MonkeyPatch
) -> None:
    await adopted(fleet)
    fleet.commit({"image.yaml": _blocks(B)})
    await fleet.world.run()
    fleet.commit({"pool.yaml": cluster_pool(mode="observe")})
    log, append, tried = fleet.world.log, fleet.world.log.append, []

    async def overtaken(events: Sequence[NewEvent], expected: Mapping[str, int]) -> Sequence[StoredEvent]:
        """The other replica appends the same a moment before."""
        done = await append(events, expected)
        if any(isinstance(event.body, RolloutSuperseded) for event in events):
            tried.append(events)
            raise WrongExpectation("the stream moved")
        return done

    monkeypatch.setattr(log, "append", overtaken)
    await fleet.world.run()
    assert len(tried) == 1
    assert (await fleet.world.status()).pools[0].rollout == "superseded"


async def test_who_keeps_writing_something_else_drifts_once(fleet: OpenShift) -> None:
    await adopted(fleet)
    await _edit(fleet, C)
    for beat in ("1", "2"):
        fleet.world.clock.advance(60)
        document = fleet.resources.document(IMAGE)
        document["metadata"]["annotations"]["theirs/heartbeat"] = beat
        fleet.resources.put(document, "kubectl-edit")
        await fleet.world.run()
    assert len(await _bodies(fleet, ClusterDriftDetected)) == 1
    fleet.world.clock.advance(60)
    await _edit(fleet, B)
    detected = await _bodies(fleet, ClusterDriftDetected)
    assert len(detected) == 2, "another value of the same field is news"
    assert detected[0].observed != detected[1].observed


async def test_a_private_key_pasted_before_adoption_is_in_no_baseline(fleet: OpenShift) -> None:
    fleet.commit({"pool.yaml": cluster_pool(mode="observe"), "nodes.yaml": nodes_file()})
    await fleet.roll()
    document = yaml.safe_load(config_map("registry-ca", {"a.example.com": certificate()}))
    fleet.resources.put(document, "oc")
    fleet.commit({"pool.yaml": cluster_pool(), "ca.yaml": config_map("registry-ca", {"b.example.com": certificate()})})
    await fleet.roll()
    await cluster.adopt(fleet.world.context, reason="ours")
    await _paste_key(fleet)
    [applied] = await _bodies(fleet, ClusterResourceApplied)
    assert (applied.key, applied.purpose, applied.before) == (CA, "adopt", "")
    assert CA not in await stood_before(fleet.world.context, await fleet.world.context.snapshot())
    assert b"MIGHAgEAMBMGByqGSM49AgEG" not in _kept(fleet)
