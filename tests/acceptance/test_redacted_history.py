"""A redacted version of a document stays part of the history: what does not need its bytes goes on without them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reconciler import commands
from reconciler.events.catalogue import ResourceChanged
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter
from reconciler.redaction import redact
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from tests.world import IMAGE, POOL, ManualClock, MemoryWorld, make_world, memory_nodes

GOOD, SECRET, OTHER = "untrusted.example.com", "password.example.com", "other.example.com"


def of(registry: str) -> dict[str, str | None]:
    """The file of the Image that blocks a registry."""
    return {"image.yaml": IMAGE.replace(GOOD, registry)}


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport(ManualClock())


@pytest.fixture
async def world(tmp_path: Path, transport: MemoryTransport) -> MemoryWorld:
    """Of three commits the second named what nobody should have written."""
    world = make_world(tmp_path, transport)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": IMAGE, **memory_nodes(["w1"])})
    assert (await world.sync()).exit_code == 0
    for registry in (SECRET, OTHER):
        world.repository.commit(of(registry))
        assert (await world.sync()).exit_code == 0
    return world


def next_process(world: MemoryWorld) -> MemoryWorld:
    """The same fleet without what this process remembers."""
    context = dataclasses.replace(world.context, contents={}, resources={}, parsed={}, judged={}, unsent=set())
    return dataclasses.replace(world, context=context)


async def commits(world: MemoryWorld) -> list[StoredEvent]:
    return list(await world.log.read(EventFilter(types=["CommitAccepted"])))


async def without_secret(world: MemoryWorld, blob: str = "content") -> MemoryWorld:
    """The fleet for a new process after the second commit's document was redacted."""
    event = (await world.log.read(EventFilter(types=["ResourceChanged"])))[0]
    assert isinstance(event.body, ResourceChanged)
    await redact(world.context, getattr(event.body, blob), reason="a password")
    return next_process(world)


async def roll_back(world: MemoryWorld) -> str:
    first = (await commits(world))[0]
    return str((await commands.rollback(world.context, to=f"#{first.position}", reason="leak"))["hold"])


@pytest.mark.parametrize("before", [True, False])
async def test_a_hold_refuses_what_was_redacted(world: MemoryWorld, transport: MemoryTransport, before: bool) -> None:
    """Redacted before the rollback or after it: syncs go on, and the hold keeps what it restored."""
    if not before:
        await roll_back(world)
    world = await without_secret(world)
    if before:
        await roll_back(world)
    assert (await world.sync()).exit_code == 0
    world.repository.commit(of("third.example.com"))
    world = next_process(world)
    assert (await world.sync()).exit_code == 0
    files = transport.node("w1").files
    assert GOOD in files[REGISTRIES_CONF].content.decode()
    world.repository.commit(of(GOOD))
    head = await world.head()
    assert (await next_process(world).sync()).exit_code == 0
    assert "HoldLifted" in await world.types(after=head)
