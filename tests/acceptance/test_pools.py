"""Pools take directories: later paths replace earlier ones, and each pool takes or refuses a commit for itself."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler import queries
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.wiring import SystemClock
from tests.world import World, image, make_real_world, mirrors, site

BROKEN = image(blockedRegistries=["a.corp"], allowedRegistries=["b.corp"])


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport(SystemClock())


@pytest.fixture
async def world(transport: MemoryTransport, engine: AsyncEngine, tmp_path: Path) -> World:
    """Pools eu and us with two nodes each; the Image and a mirror set are for all."""
    world = await make_real_world(tmp_path, transport, engine)
    files = {**site("eu"), **site("us"), "image.yaml": image(blockedRegistries=["all.corp"])}
    world.repository.commit({**files, "mirrors.yaml": mirrors("shared", "quay.io/a", "mirror.corp/a")})
    assert (await world.sync()).exit_code == 0
    return world


def _locations(transport: MemoryTransport, node: str) -> dict[str, bool]:
    """registries.conf of a node: location → blocked."""
    parsed = tomllib.loads(transport.nodes[node].files[REGISTRIES_CONF].content.decode())
    return {entry["location"]: entry.get("blocked", False) for entry in parsed["registry"]}


async def test_a_later_path_replaces_and_adds(world: World, transport: MemoryTransport) -> None:
    shared = {"all.corp": True, "quay.io/a": False}
    assert _locations(transport, "eu-1") == _locations(transport, "us-2") == shared
    files = {
        "sites/eu/image.yaml": image(blockedRegistries=["eu.corp"]),
        "sites/eu/mirrors.yaml": mirrors("local", "quay.io/b", "mirror.eu/b"),
    }
    world.repository.commit(files, "Eu differs")

    assert (await world.sync()).exit_code == 0

    assert _locations(transport, "eu-1") == {"eu.corp": True, "quay.io/a": False, "quay.io/b": False}
    assert _locations(transport, "us-1") == shared
    listed = {item["name"]: (item["pools"], item["shadowed"]) for item in await queries.list_resources(world.context)}
    assert listed == {
        "Image/cluster": (["us"], ["eu"]),
        "sites/eu:Image/cluster": (["eu"], []),
        "ImageDigestMirrorSet/shared": (["eu", "us"], []),
        "sites/eu:ImageDigestMirrorSet/local": (["eu"], []),
    }
    assert transport.nodes["us-1"].actions == ["reload crio.service"]


async def test_one_pool_refuses_a_commit(world: World, transport: MemoryTransport) -> None:
    files = {"sites/eu/image.yaml": BROKEN, "image.yaml": image(blockedRegistries=["new.corp"])}
    bad = world.repository.commit(files, "Bad for eu")

    status = await world.sync()

    assert status.exit_code == 4
    assert {pool.name: pool.rejected for pool in status.pools} == {"eu": bad, "us": None}
    assert all("sites/eu/image.yaml" in problem["file"] for problem in status.problems)
    assert _locations(transport, "us-1") == {"new.corp": True, "quay.io/a": False}
    assert _locations(transport, "eu-1") == {"all.corp": True, "quay.io/a": False}

    world.repository.commit({"sites/eu/image.yaml": image(blockedRegistries=["eu.corp"])}, "Better")
    assert (await world.sync()).exit_code == 0
    assert _locations(transport, "eu-1") == {"eu.corp": True, "quay.io/a": False}


async def test_a_bad_node_document_is_refused_by_all(world: World, transport: MemoryTransport) -> None:
    other = site("eu")["inventory/eu.yaml"].replace("transport: memory", "transport: pigeon")
    bad = world.repository.commit({"inventory/eu.yaml": other, "image.yaml": image(blockedRegistries=["new.corp"])})
    status = await world.sync()
    assert status.exit_code == 4
    assert {pool.name: pool.rejected for pool in status.pools} == {"eu": bad, "us": bad}
    assert _locations(transport, "us-1") == {"all.corp": True, "quay.io/a": False}


async def test_a_bad_document_that_no_pool_takes_is_refused_by_all(world: World, transport: MemoryTransport) -> None:
    """The directory of a site that is not there (yet) is nobody's; a problem in it is everybody's."""
    files = {"image.yaml": image(blockedRegistries=["new.corp"])}
    for name in ("eu", "us"):
        files |= {path: text.replace('".", ', "common, ") for path, text in site(name).items()}
    world.repository.commit({**files, "image.yaml": BROKEN}, "Nobody takes the top")
    status = await world.sync()
    assert status.exit_code == 4
    assert [pool.rejected for pool in status.pools] == [status.rejected] * 2
    assert _locations(transport, "eu-1") == {"all.corp": True, "quay.io/a": False}


async def test_a_new_pool_begins_with_the_first_commit_it_takes(world: World, transport: MemoryTransport) -> None:
    files = {**site("asia"), "sites/asia/image.yaml": BROKEN}
    world.repository.commit(files, "A site whose Image is broken")
    assert (await world.sync()).exit_code == 4
    assert transport.nodes["asia-1"].files == {}
    world.repository.commit({"sites/asia/image.yaml": image(blockedRegistries=["asia.corp"])}, "Mend it")
    assert (await world.sync()).exit_code == 0
    assert _locations(transport, "asia-1") == {"asia.corp": True, "quay.io/a": False}
