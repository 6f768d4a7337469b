"""`base: DIRECTORY`: nodes get the repository's templates with our files over them, whatever they had before."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from reconciler import commands
from reconciler.events.catalogue import PoolConfigured
from reconciler.ports import EventFilter
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, make_world, memory_nodes

OVER_TEMPLATES = POOL.replace("spec:", "spec:\n      base: bases/edge")
TEMPLATE = "bases/edge" + REGISTRIES_CONF
FIRST = "# the site's own\nunqualified-search-registries = ['first.corp']\n"
SECOND = FIRST.replace("first", "second")
NODES = ("w-1", "w-2")


async def _fleet(directory: Path) -> tuple[MemoryWorld, MemoryTransport]:
    """Two nodes with different files of their own, over the first template."""
    clock = ManualClock()
    transport = MemoryTransport(clock)
    world = make_world(directory, transport, clock)
    transport.node("w-1").files[REGISTRIES_CONF] = Entry(b"unqualified-search-registries = ['hand.made']\n")
    files = {"pool.yaml": OVER_TEMPLATES, "image.yaml": IMAGE, TEMPLATE: FIRST, **memory_nodes(NODES)}
    world.repository.commit(files)
    assert (await world.sync()).exit_code == 0
    return world, transport


def _registries(transport: MemoryTransport) -> Mapping[str, bytes]:
    files = {name: transport.nodes[name].files[REGISTRIES_CONF].content for name in NODES}
    assert files["w-1"] == files["w-2"]
    return files


def _read(transport: MemoryTransport) -> tuple[list[str], list[str]]:
    """The search list, and the locations of the tables."""
    found = tomllib.loads(_registries(transport)["w-1"].decode())
    return found["unqualified-search-registries"], [table["location"] for table in found.get("registry", [])]


async def test_templates_take_the_place_of_the_hosts_own_files(tmp_path: Path) -> None:
    world, transport = await _fleet(tmp_path)
    assert _read(transport) == (["first.corp"], ["untrusted.example.com"])
    head = await world.head()

    world.repository.commit({TEMPLATE: SECOND}, "Search elsewhere")
    assert (await world.sync()).exit_code == 0

    assert _read(transport) == (["second.corp"], ["untrusted.example.com"])
    (event,) = await world.log.read(EventFilter(after=head, types=("PoolConfigured",)))
    assert isinstance(event.body, PoolConfigured)
    assert list(event.body.base_files) == [REGISTRIES_CONF]
    types = await world.types(after=head)
    assert types[:4] == ["CommitObserved", "CommitAccepted", "PoolConfigured", "FilesRendered"]
    assert types.count("NodeConverged") == len(NODES)
    assert (await world.log.verify()).problems == ()


async def test_without_resources_the_template_stays_and_without_template_the_hosts_own_returns(tmp_path: Path) -> None:
    world, transport = await _fleet(tmp_path)
    commit = world.repository.commit({"image.yaml": None}, "Say nothing")
    await world.sync()
    await commands.approve(world.context, commit, reason="meant")
    assert (await world.sync()).exit_code == 0
    assert _registries(transport)["w-1"] == FIRST.encode()
    assert POLICY_JSON not in transport.nodes["w-1"].files

    world.repository.commit({"pool.yaml": POOL}, "Over the hosts' own files")
    assert (await world.sync()).exit_code == 0
    assert transport.nodes["w-1"].files[REGISTRIES_CONF].content == b"unqualified-search-registries = ['hand.made']\n"
    assert REGISTRIES_CONF not in transport.nodes["w-2"].files


async def test_a_rollback_over_a_newer_template_needs_no_git(tmp_path: Path) -> None:
    world, transport = await _fleet(tmp_path)
    good = await world.head()
    world.repository.commit({"image.yaml": IMAGE.replace("untrusted", "bad"), TEMPLATE: SECOND}, "Change both")
    assert (await world.sync()).exit_code == 0
    world.repository.directory.rename(tmp_path / "gone")
    world.context.contents.clear()

    done = await commands.rollback(world.context, to=f"#{good}", reason="the list was right")
    assert (await world.sync()).exit_code == 0

    assert len(done["renderedAnew"]) == 1  # the inventory, and with it the template, is not rolled back
    assert _read(transport) == (["second.corp"], ["untrusted.example.com"])


async def test_a_template_that_would_not_load_changes_nothing(tmp_path: Path) -> None:
    world, transport = await _fleet(tmp_path)
    before = _registries(transport)
    world.repository.commit({TEMPLATE: "unqualified-search-registries = [\n"}, "Break it")

    status = await world.sync()

    assert status.exit_code == 4
    assert [(p["file"], p["line"], p["name"]) for p in status.problems] == [(TEMPLATE, 1, "base-unreadable")]
    assert _registries(transport) == before
