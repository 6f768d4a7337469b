"""Drift: what a receipt proved ours is put back as a planned change; what never was ours is shown and left."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler import queries
from reconciler.errors import UsageError
from reconciler.events.catalogue import DriftDetected, DriftRepaired, StepStarted
from reconciler.events.envelope import StoredEvent
from reconciler.history.show import show
from reconciler.ports import EventFilter
from reconciler.registries.model import CERTS_D, POLICY_JSON, REGISTRIES_CONF, REGISTRIES_CONF_D, SEARCH_REGISTRIES
from reconciler.transport.sandbox import SandboxNode
from tests.authorities import certificate, config_map, private_key
from tests.machines import at, machines, put, renew, ssh_nodes, transport
from tests.world import IMAGE, POOL, World, make_real_world

RELOAD = "reload crio.service"
CA = f"{CERTS_D}/registry.corp/ca.crt"
OURS = (REGISTRIES_CONF, POLICY_JSON, CA)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SandboxNode]]:
    with machines(tmp_path_factory.mktemp("nodes"), 2) as nodes:
        yield nodes


@pytest.fixture
def nodes(fleet: list[SandboxNode]) -> list[SandboxNode]:
    for node in fleet:
        renew(node)
    return fleet


@pytest.fixture
async def world(nodes: list[SandboxNode], engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[World]:
    """Two converged nodes."""
    router = transport(nodes)
    world = await make_real_world(tmp_path, router, engine)
    image = f"{IMAGE.rstrip()}\n      additionalTrustedCA: {{name: corp}}\n"
    ca = config_map("corp", {"registry.corp": certificate()})
    world.repository.commit({"pool.yaml": POOL, "image.yaml": image, "ca.yaml": ca, **ssh_nodes(nodes)})
    assert (await world.sync()).exit_code == 0
    yield world
    await router.close()


async def _events(world: World, *types: str) -> list[StoredEvent]:
    return list(await world.log.read(EventFilter(types=types)))


async def test_changed_and_deleted_files_are_repaired_as_one_planned_change(
    world: World, nodes: list[SandboxNode]
) -> None:
    node, other = nodes
    ours = {path: at(node, path).read_bytes() for path in OURS}
    put(node, REGISTRIES_CONF, "# by hand\n")
    at(node, POLICY_JSON).unlink()
    at(node, CA).chmod(0o600)

    assert (await world.sync()).exit_code == 0

    assert {path: at(node, path).read_bytes() for path in OURS} == ours
    assert at(node, CA).stat().st_mode & 0o777 == 0o644
    assert (node.actions(), other.actions()) == ([RELOAD, RELOAD], [RELOAD])
    (detected,) = await _events(world, "DriftDetected")
    (repaired,) = await _events(world, "DriftRepaired")
    steps = [event for event in await _events(world, "StepStarted") if event.position > detected.position]
    assert isinstance(detected.body, DriftDetected)
    assert {item["path"] for item in detected.body.differs} == set(OURS)
    assert [event.body.purpose for event in steps if isinstance(event.body, StepStarted)] == ["repair"]
    assert {event.correlation_id for event in (*steps, repaired)} == {detected.event_id}
    assert isinstance(repaired.body, DriftRepaired)
    assert {item["path"] for item in repaired.body.differs} == set(OURS)


async def test_before_and_after_are_kept(world: World, nodes: list[SandboxNode]) -> None:
    proved = at(nodes[0], REGISTRIES_CONF).read_text()
    put(nodes[0], REGISTRIES_CONF, "# by hand\n")
    assert (await world.sync()).exit_code == 0
    (detected,) = await _events(world, "DriftDetected")
    assert (await show(world.context, f"#{detected.position}"))["differences"] == [
        {"node": nodes[0].name, "path": REGISTRIES_CONF, "kind": "changed", "from": proved, "to": "# by hand\n"}
    ]


async def test_drift_that_a_person_undoes_is_told(world: World, nodes: list[SandboxNode]) -> None:
    """Between two looks, in a pool that only observes by now, the file is put back by hand."""
    proved = at(nodes[0], POLICY_JSON).read_bytes()
    world.repository.commit({"pool.yaml": POOL.replace("mode: enforce", "mode: observe")}, "Only look")
    put(nodes[0], POLICY_JSON, '{"default": []}')
    status = await world.sync()
    assert [node.files for node in status.nodes] == ["Drifted", "Converged"]
    assert status.exit_code == 3
    assert nodes[0].actions() == [RELOAD]
    put(nodes[0], POLICY_JSON, proved)
    assert (await world.sync()).exit_code == 0
    (repaired,) = await _events(world, "DriftRepaired")
    assert isinstance(repaired.body, DriftRepaired)
    assert repaired.body.by == "outside"


async def test_what_never_was_ours_is_left(world: World, nodes: list[SandboxNode]) -> None:
    strays = {f"{REGISTRIES_CONF_D}/90-mine.conf": "[aliases]\n", f"{CERTS_D}/lab.corp/client.cert": "mine\n"}
    texts = {**strays, SEARCH_REGISTRIES: 'unqualified-search-registries = ["mine.corp"]\n'}
    for path, text in texts.items():
        put(nodes[0], path, text)

    status = await world.sync()

    assert status.exit_code == 0
    assert {path: at(nodes[0], path).read_text() for path in texts} == texts
    assert nodes[0].actions() == [RELOAD]
    assert status.nodes[0].strays == tuple(sorted(strays))
    assert await _events(world, "DriftDetected") == []
    head = await world.head()
    await world.sync()
    assert await world.head() == head


async def test_a_file_of_ours_is_put_back_though_what_replaced_it_may_not_be_read(
    world: World, nodes: list[SandboxNode]
) -> None:
    """Where a private key stands in place of our file, its bytes come neither into the log nor into an answer."""
    ours = at(nodes[0], CA).read_bytes()
    put(nodes[0], CA, private_key())
    reason = f"{CA} was not read: it is over 1 MiB or holds a private key"
    assert await queries.diff(world.context) == [{"node": nodes[0].name, "path": CA, "error": reason}]
    with pytest.raises(UsageError, match="was not read"):
        await queries.cat(world.context, nodes[0].name, CA, "live")

    assert (await world.sync()).exit_code == 0

    assert at(nodes[0], CA).read_bytes() == ours
    (detected,) = await _events(world, "DriftDetected")
    assert (await show(world.context, f"#{detected.position}"))["differences"]
    assert '"observed":"unread"' in detected.text
    assert "PRIVATE KEY" not in detected.text


async def test_first_contact_with_a_file_that_may_not_be_read(world: World, nodes: list[SandboxNode]) -> None:
    """It concerns that node alone."""
    renew(nodes[0])
    put(nodes[0], SEARCH_REGISTRIES, private_key())
    at(nodes[0], "/etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    world.repository.commit({"image.yaml": IMAGE}, "No CA")

    status = await world.sync()

    assert [(node.files, node.ready) for node in status.nodes] == [("Unknown", False), ("Converged", True)]
    assert status.nodes[0].reason == f"{SEARCH_REGISTRIES} was not read: it is over 1 MiB or holds a private key"
    at(nodes[0], SEARCH_REGISTRIES).unlink()
    assert (await world.sync()).exit_code == 0


async def test_a_certificate_of_the_host_where_ours_goes(world: World, nodes: list[SandboxNode]) -> None:
    """It is seen as soon as a commit names its path; without our resource it comes back."""
    path, theirs = f"{CERTS_D}/lab.corp/ca.crt", certificate("Theirs")
    put(nodes[0], path, theirs)
    both = config_map("corp", {"registry.corp": certificate(), "lab.corp": certificate("Ours")})
    ca = world.repository.directory.joinpath("ca.yaml").read_text()
    world.repository.commit({"ca.yaml": both}, "Trust the lab")
    assert (await world.sync()).exit_code == 0
    assert at(nodes[0], path).read_text() == certificate("Ours")
    world.repository.commit({"ca.yaml": ca}, "Do not")
    assert (await world.sync()).exit_code == 0
    assert at(nodes[0], path).read_text() == theirs
    assert not at(nodes[1], path).exists()
