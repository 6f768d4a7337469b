"""What one turn on a node can come to: health checks, confirmation, restarts; and who is blamed for what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler import control
from reconciler.errors import UsageError
from reconciler.ports import EventFilter
from reconciler.transport.memory import MemoryTransport
from tests.world import IMAGE, ManualClock, MemoryWorld, image, make_world, memory_nodes, pool

NODES = ("w1", "w2", "w3", "w4")


@dataclass
class Fleet:
    world: MemoryWorld
    transport: MemoryTransport

    async def begin(self, **spec: Any) -> None:
        self.world.repository.commit({"pool.yaml": pool(**spec), "image.yaml": IMAGE, **memory_nodes(NODES)})
        assert (await self.world.sync()).exit_code == 0

    async def change(self, registry: str = "worse.example.com") -> None:
        self.world.repository.commit({"image.yaml": IMAGE.replace("untrusted.example.com", registry)})

    async def last(self, node: str, count: int) -> list[str]:
        return [event.type for event in await self.world.log.read(EventFilter(node=node))][-count:]

    async def waits(self) -> dict[str, str]:
        return dict((await self.world.run()).pools[0].waits)

    def blocked(self) -> dict[str, str]:
        """Which registry each node blocks."""
        files = {name: self.transport.node(name).files["/etc/containers/registries.conf"].content for name in NODES}
        return {name: "worse" if b"worse" in content else "untrusted" for name, content in files.items()}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    clock = ManualClock()
    transport = MemoryTransport(clock)
    return Fleet(make_world(tmp_path, transport, clock), transport)


CHECKS = [{"name": "kubelet", "command": ["systemctl", "is-active", "kubelet"]}]


async def test_a_health_check_that_fails_after_the_change_is_blamed_on_the_content(fleet: Fleet) -> None:
    await fleet.begin(healthChecks=CHECKS)
    await fleet.change()
    fleet.transport.node("w1").faults.check_after = "kubelet"
    status = await fleet.world.sync()
    assert status.exit_code == 1
    assert await fleet.last("w1", 3) == ["HealthChecked", "NodeReverted", "NodeFailed"]
    assert set(fleet.blocked().values()) == {"untrusted"}
    assert status.pools[0].rollout == "halted"


async def test_a_node_that_was_unhealthy_before_is_deferred_and_nobody_is_blamed(fleet: Fleet) -> None:
    await fleet.begin(healthChecks=CHECKS)
    await fleet.change()
    fleet.transport.node("w1").faults.check_before = "kubelet"
    await fleet.world.sync()
    assert await fleet.last("w1", 1) == ["NodeDeferred"]
    assert fleet.blocked() == {"w1": "untrusted", "w2": "worse", "w3": "worse", "w4": "worse"}
    assert (await fleet.world.status()).pools[0].outcome == "3 converged, 1 deferred"


async def test_checks_that_pass_are_in_the_log(fleet: Fleet) -> None:
    await fleet.begin(healthChecks=CHECKS)
    assert await fleet.last("w3", 4) == ["FilesApplied", "RuntimeReloaded", "HealthChecked", "NodeConverged"]


async def test_a_change_is_confirmed_over_a_second_look(fleet: Fleet) -> None:
    await fleet.begin(confirm="60s")
    await fleet.change()
    assert (await fleet.world.sync()).exit_code == 0
    fleet.world.clock.advance(120)
    assert (await fleet.world.run()).pools[0].waits == {}
    assert set(fleet.blocked().values()) == {"worse"}


async def test_an_unconfirmed_node_undoes_itself_and_its_content_is_not_blamed(fleet: Fleet) -> None:
    await fleet.begin(confirm="60s")
    await fleet.change()
    fleet.transport.node("w1").faults.lose = "done"
    await fleet.world.run()
    assert await fleet.last("w1", 1) == ["NodeDeferred"]
    fleet.world.clock.advance(120)
    await fleet.world.run()
    assert "NodeFailed" not in await fleet.world.types()
    fleet.world.clock.advance(3600)
    assert (await fleet.world.sync()).exit_code == 0
    assert set(fleet.blocked().values()) == {"worse"}


async def test_the_third_node_fails_and_all_go_back(fleet: Fleet) -> None:
    await fleet.begin(onFailure="revert", healthChecks=CHECKS)
    await fleet.change()
    fleet.transport.node("w3").faults.check_after = "kubelet"
    status = await fleet.world.sync()
    assert set(fleet.blocked().values()) == {"untrusted"}
    assert status.exit_code == 1
    types = await fleet.world.types()
    assert types.index("ContentRefused") > types.index("RolloutHalted")
    head = await fleet.world.head()
    await fleet.world.run()
    assert await fleet.world.head() == head  # it has come to rest
    fleet.transport.node("w3").faults.check_after = ""
    await fleet.change("fixed.example.com")
    assert (await fleet.world.sync()).exit_code == 0


async def test_content_known_as_bad_is_not_begun_again_before_somebody_retries(fleet: Fleet) -> None:
    await fleet.begin()
    await fleet.change()
    fleet.transport.node("w1").faults.reload = "unable"
    await fleet.world.sync()
    fleet.transport.node("w1").faults.reload = ""
    await fleet.change("untrusted.example.com")
    await fleet.world.sync()
    await fleet.change()
    waits = await fleet.waits()
    assert waits["w2"].startswith("these files were refused: w1 failed with the new files")
    assert set(fleet.blocked().values()) == {"untrusted"}
    await control.retry(fleet.world.context, "worker", reason="the disk is mended")
    assert (await fleet.world.sync()).exit_code == 0
    assert set(fleet.blocked().values()) == {"worse"}


async def test_pause_resume_and_whose_lock_it_is(fleet: Fleet) -> None:
    await fleet.begin()
    context = fleet.world.context
    lock = (await control.pause(context, "worker", reason="looking into it"))["lock"]
    await fleet.change()
    waits = await fleet.waits()
    assert waits["w1"] == f"paused by alice@test (lock {lock}): looking into it"
    bob = type(context.actor)("login", "bob@test")
    context.actor, alice = bob, context.actor
    with pytest.raises(UsageError, match="0 locks of yours"):
        await control.resume(context, "worker", reason="done")
    mine = (await control.pause(context, "worker", reason="me too"))["lock"]
    await control.resume(context, "worker", reason="done")
    context.actor = alice
    assert (await fleet.waits())["w1"] == f"paused by alice@test (lock {lock}): looking into it"
    with pytest.raises(UsageError, match=f"no lock {mine}"):
        await control.resume(context, "worker", lock=mine, reason="done")
    await control.resume(context, "worker", reason="done")
    assert (await fleet.world.sync()).exit_code == 0


async def test_a_lock_runs_out(fleet: Fleet) -> None:
    await fleet.begin()
    until = fleet.world.clock.now().replace(microsecond=0, year=2026, month=1, day=2)
    await control.pause(fleet.world.context, "worker", reason="over night", until=until)
    await fleet.change()
    assert "paused" in (await fleet.waits())["w1"]
    fleet.world.clock.advance(86400)
    assert (await fleet.world.sync()).exit_code == 0


async def test_an_aborted_rollout_stays_where_it_is_until_it_is_retried(fleet: Fleet) -> None:
    await fleet.begin()
    fleet.world.repository.commit({"pool.yaml": pool(approval="afterCanary")})
    await fleet.change()
    assert (await fleet.waits())["w2"].startswith("waits for approval")
    await control.abort(fleet.world.context, "worker", reason="not today")
    assert await fleet.waits() == dict.fromkeys(("w2", "w3", "w4"), "rollout aborted")
    await control.retry(fleet.world.context, "worker", reason="today")
    assert (await fleet.waits())["w2"].startswith("waits for approval")
    done = await control.approve_pool(fleet.world.context, "worker", reason="the canary is well")
    assert done["stage"] == "canary"
    assert (await fleet.world.sync()).exit_code == 0


async def test_a_plan_is_approved_by_its_digest(fleet: Fleet) -> None:
    await fleet.begin()
    fleet.world.repository.commit({"pool.yaml": pool(approval="always")})
    await fleet.change()
    await fleet.world.run()
    assert set(fleet.blocked().values()) == {"untrusted"}
    with pytest.raises(UsageError, match="not 0000000"):
        await control.approve_pool(fleet.world.context, "worker", reason="x", plan="0000000")
    await control.approve_pool(fleet.world.context, "worker", reason="x")
    with pytest.raises(UsageError, match="nothing in pool worker waits"):
        await control.approve_pool(fleet.world.context, "worker", reason="x")
    assert (await fleet.world.sync()).exit_code == 0


async def test_a_class_that_needs_a_restart_restarts(fleet: Fleet) -> None:
    restart = [{"type": "Restart", "restart": {"serviceName": "crio.service"}}]
    await fleet.begin(disruption={"files": [{"path": "/etc/containers/registries.conf", "actions": restart}]})
    await fleet.change()
    assert (await fleet.world.sync()).exit_code == 0
    assert await fleet.last("w1", 3) == ["FilesApplied", "RuntimeRestarted", "NodeConverged"]


async def test_windows_are_kept_unless_a_person_says_now(fleet: Fleet) -> None:
    await fleet.begin()
    night = {"kind": "allow", "schedule": "0 12 * * *", "duration": "4h"}
    fleet.world.repository.commit({"pool.yaml": pool(windows=[night])})
    await fleet.change()
    assert (await fleet.waits())["w1"] == "outside of its windows; the next opens at 2026-01-01T12:00:00Z"
    await control.override_windows(fleet.world.context, "worker", reason="it burns")
    assert (await fleet.world.sync()).exit_code == 0


async def test_a_pool_follows_the_one_it_comes_after(fleet: Fleet) -> None:
    first = pool("first", nodeSelector={"matchLabels": {"first": ""}}, priority=1)
    fleet.world.repository.commit(
        {
            "pool.yaml": pool(after=["first"]),
            "first.yaml": first,
            "image.yaml": IMAGE,
            **memory_nodes(NODES),
            "f.yaml": memory_nodes(["f1"])["nodes.yaml"].replace("node-role.kubernetes.io/worker", "first"),
        }
    )
    assert (await fleet.world.sync()).exit_code == 0
    await fleet.change()
    fleet.transport.node("f1").faults.reload = "unable"
    await fleet.world.sync()
    done = await fleet.world.run()
    waits = {pool.pool: dict(pool.waits) for pool in done.pools}
    assert waits["worker"]["w1"] == "waits for pool first, whose rollout is halted"
    assert set(fleet.blocked().values()) == {"untrusted"}
    fleet.transport.node("f1").faults.reload = ""
    await fleet.change("third.example.com")
    assert (await fleet.world.sync()).exit_code == 0


async def test_what_mco_would_reboot_for_is_a_restart_within_max_unavailable(fleet: Fleet) -> None:
    await fleet.begin(disruption={"profile": "openshift"}, canary={"nodes": 4, "soak": "0s"}, maxUnavailable=2)
    fleet.world.repository.commit(
        {"image.yaml": image(blockedRegistries=["untrusted.example.com"], containerRuntimeSearchRegistries=["s.corp"])}
    )
    assert (await fleet.world.sync()).exit_code == 0
    assert "RuntimeRestarted" in await fleet.last("w1", 4)
    steps = await fleet.world.log.read(EventFilter(types=["StepStarted"]))
    assert {event.body.effective for event in steps[-4:]} == {"restart"}  # type: ignore[attr-defined]  # as read
    assert len({event.group for event in steps[-4:]}) >= 2
