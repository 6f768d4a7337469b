"""A pool that refuses a commit keeps its last good state, whole: its resources and its own settings."""

from __future__ import annotations

from pathlib import Path

from reconciler import commands
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from tests.world import ManualClock, image, make_world, site

BROKEN = image(blockedRegistries=["a.corp"], allowedRegistries=["b.corp"])


async def test_a_refused_commit_that_also_renames_the_pools_directory(tmp_path: Path) -> None:
    clock = ManualClock()
    transport = MemoryTransport(clock)
    world = make_world(tmp_path, transport, clock)
    files = {"image.yaml": image(blockedRegistries=["all.corp"]), **site("eu"), **site("us")}
    world.repository.commit({**files, "sites/eu/image.yaml": image(blockedRegistries=["eu.corp"])})
    assert (await world.sync()).exit_code == 0
    good = transport.nodes["eu-1"].files[REGISTRIES_CONF].content
    assert b"eu.corp" in good

    moved = files["inventory/eu.yaml"].replace("sites/eu]", "sites/europe]")
    renamed = {"inventory/eu.yaml": moved, "sites/eu/image.yaml": None, "sites/europe/image.yaml": BROKEN}
    world.repository.commit(renamed, "Rename the site, and break it")

    assert (await world.sync()).exit_code == 4
    assert transport.nodes["eu-1"].files[REGISTRIES_CONF].content == good

    world.repository.commit({"sites/europe/image.yaml": image(blockedRegistries=["europe.corp"])}, "Mend it")
    assert (await world.sync()).exit_code == 0
    assert b"europe.corp" in transport.nodes["eu-1"].files[REGISTRIES_CONF].content


async def test_a_rewritten_branch_that_also_takes_the_image_away(tmp_path: Path) -> None:
    """Accepting the rewrite is one decision, approving the removal another."""
    clock = ManualClock()
    transport = MemoryTransport(clock)
    world = make_world(tmp_path, transport, clock)
    world.repository.commit({**site("eu"), "image.yaml": image(blockedRegistries=["all.corp"])})
    await world.sync()
    world.repository.git("checkout", "--quiet", "--orphan", "other")
    commit = world.repository.commit({"image.yaml": None}, "Begin anew")
    world.repository.git("branch", "--move", "--force", "main")
    await world.sync()
    await commands.accept(world.context, reason="the old history held a secret")

    assert (await world.sync()).waiting is not None

    assert REGISTRIES_CONF in transport.nodes["eu-1"].files
    head = await world.head()
    await world.sync()
    assert await world.head() == head
    await commands.approve(world.context, commit, reason="meant")
    assert (await world.sync()).exit_code == 0
    assert REGISTRIES_CONF not in transport.nodes["eu-1"].files
