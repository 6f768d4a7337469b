"""The image by which nodes of a cluster are reached stays pullable, whatever people give up; on nodes in memory that say
they are reached so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from reconciler import control, queries
from reconciler.errors import UsageError
from reconciler.ports import HELPER_CHECK, ApplyRequest, Receipt, Target
from reconciler.registries.model import POLICY_JSON
from reconciler.stages import carriage
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.transport.router import TransportRouter
from tests.world import ManualClock, MemoryWorld, image, make_world, node_document, pool

HELPER = f"tools.corp/helper@sha256:{'7' * 64}"
OTHER = f"quay.io/tools/helper@sha256:{'7' * 64}"
ACCEPT_ALL = b'{"default": [{"type": "insecureAcceptAnything"}]}'
OURS = {"allowedRegistries": ["quay.io", "tools.corp"]}
STRANDED = {"allowedRegistries": ["quay.io"]}
LIST = "image.yaml"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def nodes(clock: ManualClock) -> MemoryTransport:
    return MemoryTransport(clock)


@pytest.fixture
async def world(tmp_path: Path, nodes: MemoryTransport, clock: ManualClock) -> MemoryWorld:
    """Two nodes that run an image of quay.io, and have an allow list with the helper's registry."""
    world = make_world(tmp_path, TransportRouter({"kubernetes": nodes}), clock)
    for name in ("w1", "w2"):
        nodes.node(name).files[POLICY_JSON] = Entry(ACCEPT_ALL)
        nodes.node(name).images = ["quay.io/team/app:1"]
    world.context = replace(world.context, fleet=replace(world.context.fleet, helper_image=HELPER))
    documents = {f"{name}.yaml": node_document(name, "{transport: kubernetes}") for name in ("w1", "w2")}
    world.repository.commit({"pool.yaml": pool(requiredImages=[]), LIST: image(**OURS), **documents})
    assert (await world.sync()).exit_code == 0
    return world


async def blocked(world: MemoryWorld) -> str:
    status = await world.sync()
    assert status.exit_code == 3
    return status.pools[0].blocked


async def test_an_allow_list_without_its_registry_is_refused(world: MemoryWorld) -> None:
    world.repository.commit({LIST: image(**STRANDED)})
    said = await blocked(world)
    assert said.startswith(f"guard: {HELPER} by digest could no longer be pulled: the policy rejects")
    assert said.endswith("it is the helper image, by which nodes are reached: nobody can give it up")
    world.repository.commit({LIST: image(**OURS)})
    assert (await world.sync()).exit_code == 0


async def test_nobody_can_give_it_up(world: MemoryWorld) -> None:
    manifest = yaml.safe_load(image(**STRANDED))
    manifest["metadata"]["annotations"] = {"reconciler.dev/accept-unpullable": "*"}
    world.repository.commit({LIST: yaml.safe_dump(manifest)})
    assert HELPER in await blocked(world)
    with pytest.raises(UsageError, match="is the helper image"):
        await control.override(world.context, pool="worker", glob="tools.corp/*", reason="try")
    assert HELPER in await blocked(world)


async def test_an_override_of_all_leaves_it(world: MemoryWorld) -> None:
    world.repository.commit({LIST: image(allowedRegistries=["docker.io"])})
    await blocked(world)
    done = await control.override(world.context, pool="worker", glob="*", reason="try")
    assert (done["givenUp"], done["stillBlocking"]) == (["quay.io/team/app:1"], [HELPER])
    assert HELPER in await blocked(world)


async def test_another_helper_image_is_judged_anew(world: MemoryWorld) -> None:
    world.repository.commit({LIST: image(**STRANDED)})
    await blocked(world)
    world.context = replace(world.context, fleet=replace(world.context.fleet, helper_image=OTHER))
    assert (await world.sync()).exit_code == 0
    head = await world.head()
    await world.run()
    assert await world.head() == head


async def test_it_arms_nothing(world: MemoryWorld, nodes: MemoryTransport) -> None:
    """It is in use on every node, and tells nothing of what else runs there."""
    for name in ("w1", "w2"):
        nodes.node(name).images = [HELPER]
    world.repository.commit({LIST: image(blockedRegistries=["bad.corp"])})
    await world.sync()
    _, data = await queries.status(world.context)
    assert data["guard"] == "NOT ARMED"


async def test_a_change_asks_for_a_confirmation_and_for_the_image(
    world: MemoryWorld, nodes: MemoryTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ApplyRequest] = []
    apply = nodes.apply

    async def heard(target: Target, request: ApplyRequest) -> Receipt:
        asked.append(request)
        return await apply(target, request)

    monkeypatch.setattr(nodes, "apply", heard)
    world.repository.commit({LIST: image(allowedRegistries=["quay.io", "tools.corp", "more.corp"])})
    assert (await world.sync()).exit_code == 0
    assert {request.confirm for request in asked} == {120}
    assert {(check.name, check.image) for request in asked for check in request.health} == {(HELPER_CHECK, HELPER)}


async def test_what_no_pod_can_carry_is_refused_in_the_plan(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carriage, "POD_LIMIT", 100)
    world.repository.commit({LIST: image(allowedRegistries=["quay.io", "tools.corp", "more.corp"])})
    done = await world.run()
    assert set(done.pools[0].waits) == {"w1", "w2"}
    assert all("and a pod can be given 100 at most" in why for why in done.pools[0].waits.values())
    monkeypatch.undo()
    assert (await world.sync()).exit_code == 0


async def test_without_a_cluster_the_remedy_is_named(tmp_path: Path) -> None:
    world = make_world(tmp_path, TransportRouter({}))
    world.repository.commit({"pool.yaml": pool(), "w1.yaml": node_document("w1", "{transport: kubernetes}")})
    done = await world.run()
    assert done.sights["w1"].target.node_name == "w1"
    assert done.sights["w1"].out == "no transport 'kubernetes' here"
