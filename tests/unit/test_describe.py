"""What people see of one rollout, node or pool; what `wait` waits for; each action on a node with its cause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconciler import commands, control, queries
from reconciler.cli.describe import description
from reconciler.cli.status import print_status
from reconciler.describe import describe_node, describe_pool, describe_rollout, list_rollouts
from reconciler.errors import InputRejected, TimedOut, UsageError
from reconciler.node_log import node_log, verify_node
from reconciler.ports import EventFilter
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.rollout.windows import next_opening
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.waits import Awaited, wait_for
from tests.world import POOL, ManualClock, MemoryWorld, image, make_world, memory_nodes, pool, site

NAMES = ["worker-1", "worker-2", "worker-3"]
ALL = EventFilter(newest_first=True)
WORKERS = {"matchLabels": {"node-role.kubernetes.io/worker": ""}}


@pytest.fixture
def transport() -> MemoryTransport:
    return MemoryTransport(ManualClock())


@pytest.fixture
async def world(tmp_path: Path, transport: MemoryTransport) -> MemoryWorld:
    """Three nodes that got a first commit, then pull request 7; the third was away by then."""
    world = make_world(tmp_path, transport)
    files = {"pool.yaml": POOL, "image.yaml": image(blockedRegistries=["a.corp"]), **memory_nodes(NAMES)}
    world.repository.commit(files, "Begin")
    assert (await world.sync()).exit_code == 0
    transport.nodes["worker-3"].faults.unreachable = True
    more = image(blockedRegistries=["a.corp", "b.corp"])
    world.repository.commit({"image.yaml": more}, "Merge pull request #7 from bob/block")
    await world.sync()
    return world


def conditions(data: dict[str, Any]) -> dict[str, str]:
    return {item["type"]: item["status"] for item in data["status"]["conditions"]}


async def test_rollouts_are_listed_with_how_their_nodes_stand(world: MemoryWorld) -> None:
    newest, first = await list_rollouts(world.context)
    assert (newest["state"], newest["kind"], newest["nodes"], newest["converged"]) == ("completed", "rollout", 3, 2)
    assert (newest["effective"], newest["wave"]) == ("reload", "2 (wave)")
    assert newest["outcome"] == "2 converged, 1 deferred"
    assert first["commit"] != newest["commit"]
    assert await list_rollouts(world.context, "nowhere") == []


async def test_a_rollout_is_described_by_pool_and_by_id(world: MemoryWorld) -> None:
    data = await describe_rollout(world.context, "worker")
    assert data == await describe_rollout(world.context, data["metadata"]["name"][:8])
    assert [(node["name"], node["wave"], node["state"]) for node in data["status"]["nodeStates"]] == [
        ("worker-1", 1, "Converged"),
        ("worker-2", 2, "Converged"),
    ]
    first = await describe_rollout(world.context, (await list_rollouts(world.context))[-1]["name"])
    assert first["events"][-1]["type"] == "RolloutCompleted"
    assert first["events"][-1]["position"] < data["events"][0]["position"]
    with pytest.raises(UsageError, match="no rollout feedbeef"):
        await describe_rollout(world.context, "feedbeef")


async def test_a_pool_and_a_node_have_conditions(world: MemoryWorld) -> None:
    found = conditions(await describe_pool(world.context, "worker"))
    assert (found["Converged"], found["RolloutComplete"], found["Updated"]) == ("False", "True", "False")
    assert (found["Updating"], found["Paused"], found["Held"]) == ("False", "False", "False")
    away = conditions(await describe_node(world.context, "worker-3"))
    assert (away["Ready"], away["Converged"]) == ("False", "False")
    assert conditions(await describe_node(world.context, "worker-1"))["Converged"] == "True"
    with pytest.raises(UsageError, match="no pool nowhere"):
        await describe_pool(world.context, "nowhere")


async def test_a_lock_and_a_hold_are_shown(world: MemoryWorld) -> None:
    await control.pause(world.context, "worker", reason="christmas")
    await commands.rollback(world.context, to="previous", reason="bad mirror")
    data = await describe_pool(world.context, "worker")
    assert (conditions(data)["Paused"], conditions(data)["Held"]) == ("True", "True")
    assert [lock["reason"] for lock in data["status"]["locks"]] == ["christmas"]
    assert [hold["reason"] for hold in data["status"]["holds"]] == ["bad mirror"]
    assert [pool["paused"] for pool in await queries.list_pools(world.context)] == [True]
    text = "\n".join(description(data))
    assert "christmas" in text
    assert "Conditions:" in text
    assert '      node-role.kubernetes.io/worker: ""' in text
    assert ("    Soak:              0s" in text, "    Timeout:           10m" in text) == (True, True)
    assert "PoolPaused" in text


async def test_a_repository_that_was_never_read_is_a_failure(tmp_path: Path, transport: MemoryTransport) -> None:
    world, told = make_world(tmp_path, transport), list[str]()
    world.context.progress = lambda news: told.append(f"{news.stage}: {news.message}")
    away = world.repository.directory.rename(tmp_path / "away")
    assert (await world.sync()).exit_code == 1
    assert told == ["observe: 0/0 nodes answered"]
    away.rename(world.repository.directory)
    world.repository.commit({"pool.yaml": POOL, **memory_nodes(NAMES)})
    assert (await world.sync()).exit_code == 0
    world.repository.directory.rename(away)
    assert (await world.sync()).exit_code == 0


async def test_the_status_says_what_holds_a_pool_back(
    world: MemoryWorld, transport: MemoryTransport, capsys: pytest.CaptureFixture[str]
) -> None:
    transport.nodes["worker-3"].faults.unreachable = False
    world.clock.advance(600)
    world.repository.commit(site("edge"))
    assert (await world.sync()).exit_code == 0
    await control.pause(world.context, "edge", reason="christmas")
    year = {"kind": "allow", "schedule": "0 0 1 7 *", "duration": "1h"}
    files = {"image.yaml": image(blockedRegistries=["c.corp"])}
    world.repository.commit({**files, "pool.yaml": pool(nodeSelector=WORKERS, windows=[year], after=["edge"])})
    assert (await world.sync()).exit_code == 3
    _, data = await queries.status(world.context)
    edge, worker = data["pools"]
    assert (edge["waits"], worker["locks"]) == ([], [])
    (lock,) = edge["locks"]
    assert lock.startswith("by alice@test (lock p-")
    behind, shut = worker["waits"]
    assert behind.startswith("waits for pool edge")
    assert shut.startswith("outside of its windows; the next opens at")
    print_status("table", data)
    lines = capsys.readouterr().out.splitlines()
    assert f"Paused:    pool edge: {lock}" in lines
    assert {f"Waiting:   pool worker: {why}" for why in worker["waits"]} <= {*lines}


async def test_the_status_says_who_waits_for_approval(world: MemoryWorld) -> None:
    late = pool(nodeSelector=WORKERS, approval="afterCanary")
    world.repository.commit({"image.yaml": image(blockedRegistries=["c.corp"]), "pool.yaml": late})
    await world.sync()
    _, data = await queries.status(world.context)
    approve = "waits for approval after the canaries: `reconciler approve --pool worker --reason TEXT`"
    assert data["pools"][0]["waits"] == [approve]
    await control.approve_pool(world.context, "worker", reason="looks well")
    _, data = await queries.status(world.context)
    assert data["pools"][0]["waits"] == []


async def test_a_node_s_log_says_what_was_done_and_why(world: MemoryWorld) -> None:
    newest, first = await node_log(world.context, "worker-1", ALL, diff=True)
    assert (newest["purpose"], newest["outcome"], newest["effective"]) == ("rollout", "NodeConverged", "reload")
    assert newest["cause"]["pullRequest"] == "7"
    assert newest["cause"]["author"] == "Alice <alice@example.com>"
    assert newest["seconds"] > 0
    (changed,) = [item for item in newest["diff"] if item["path"] == REGISTRIES_CONF]
    assert ("b.corp" in changed["to"], "b.corp" in changed["from"], "a.corp" in changed["from"]) == (True, False, True)
    assert [item["kind"] for item in first["diff"] if item["path"] == REGISTRIES_CONF] == ["added"]
    assert await node_log(world.context, "worker-1", EventFilter(newest_first=True, limit=1), diff=True) == [newest]
    with pytest.raises(UsageError, match="no node nowhere"):
        await node_log(world.context, "nowhere", ALL)


async def test_a_repair_goes_back_to_the_drift(world: MemoryWorld, transport: MemoryTransport) -> None:
    transport.nodes["worker-1"].files[REGISTRIES_CONF] = Entry(b"# by hand\n")
    await world.sync()
    repair = (await node_log(world.context, "worker-1", ALL, diff=True))[0]
    assert (repair["purpose"], repair["cause"]["type"]) == ("repair", "DriftDetected")
    (changed,) = repair["diff"]
    assert changed["from"] == "# by hand\n"


async def test_a_node_is_verified_without_a_word_in_the_log(world: MemoryWorld, transport: MemoryTransport) -> None:
    before = await world.head()
    good = await verify_node(world.context, "worker-1")
    assert {item["check"] for item in good["checks"] if item["state"] == "differs"} == set()
    assert good["verdict"] == "as proved"
    node = transport.nodes["worker-1"]
    node.files[REGISTRIES_CONF] = Entry(b"# by hand\n")
    node.files["/etc/containers/registries.conf.d/99-stray.conf"] = Entry(b"")
    bad = await verify_node(world.context, "worker-1")
    assert bad["verdict"] == "differs"
    assert {item["check"] for item in bad["checks"] if item["state"] == "differs"} == {REGISTRIES_CONF, "strays"}
    assert (await verify_node(world.context, "worker-3"))["verdict"] == "unreachable"
    assert await world.head() == before


async def test_waiting_ends_when_the_condition_holds(world: MemoryWorld, transport: MemoryTransport) -> None:
    context = world.context
    assert await wait_for(context, Awaited("RolloutComplete"), 5) == ["pool/worker"]
    assert await wait_for(context, Awaited("Ready", status=False, node="worker-3"), 5) == ["node/worker-3"]
    with pytest.raises(TimedOut, match="pool/worker: Converged is False"):
        await wait_for(context, Awaited("Converged", pool="worker"), 5)
    transport.nodes["worker-3"].faults.unreachable = False
    world.clock.advance(600)
    assert (await world.sync()).exit_code == 0
    assert await wait_for(context, Awaited("Converged", pool="worker"), 5) == ["pool/worker"]
    assert await wait_for(context, Awaited("Converged", node="worker-3"), 5) == ["node/worker-3"]
    with pytest.raises(UsageError, match="no condition Happy"):
        await wait_for(context, Awaited("Happy"), 5)


async def test_a_commit_is_waited_for_until_it_or_a_newer_one_is_complete(world: MemoryWorld) -> None:
    first = world.repository.git("rev-parse", "HEAD~1")
    assert await wait_for(world.context, Awaited(commit=first), 5) == ["pool/worker"]
    unknown = world.repository.commit({"image.yaml": image(blockedRegistries=["c.corp"])}, "Later")
    with pytest.raises(TimedOut, match="is not recorded yet"):
        await wait_for(world.context, Awaited(commit=unknown), 5)
    await world.sync()
    assert await wait_for(world.context, Awaited(commit=unknown[:10]), 5) == ["pool/worker"]
    bad = world.repository.commit({"image.yaml": image(blockedRegistries=["x"], allowedRegistries=["y"])}, "Bad")
    await world.sync()
    with pytest.raises(InputRejected, match="was rejected"):
        await wait_for(world.context, Awaited(commit=bad), 5)


async def test_a_dry_run_records_nothing(world: MemoryWorld) -> None:
    context = world.context
    hold = (await commands.rollback(context, to="previous", reason="bad mirror"))["hold"]
    world.repository.commit({"image.yaml": None}, "Take the Image away")
    await world.run()
    before = await world.head()
    assert (await commands.lift_hold(context, hold, reason="r", dry_run=True))["dryRun"] is True
    assert (await commands.approve(context, None, reason="r", dry_run=True))["removes"]
    world.repository.git("reset", "--quiet", "--hard", "HEAD~1")
    world.repository.commit({"image.yaml": image(blockedRegistries=["z.corp"])}, "Rewritten")
    await world.run()
    rewritten = await world.head()
    assert (await commands.accept(context, reason="r", dry_run=True))["accepted"]
    assert await world.head() == rewritten
    held = [item["name"] for item in await queries.list_holds(context)]
    assert (held, rewritten - before) == ([hold], 1)


NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def window(kind: str, schedule: str, hours: int) -> dict[str, Any]:
    return {"kind": kind, "schedule": schedule, "duration": hours * 3600, "timeZone": "UTC"}


@pytest.mark.parametrize(
    ("windows", "opens"),
    [
        ([], timedelta(0)),
        ([window("allow", "0 22 * * *", 4)], timedelta(hours=10)),
        ([window("deny", "0 9 * * *", 8)], timedelta(hours=5)),
        ([window("allow", "0 22 * * *", 4), window("deny", "0 20 5 1 *", 3)], timedelta(hours=11)),
        ([window("allow", "0 22 * * *", 1), window("deny", "0 0 * * *", 24)], None),
    ],
    ids=["none", "allowed at night", "denied in working hours", "a denial ends in the window", "never"],
)
def test_the_next_opening(windows: list[dict[str, Any]], opens: timedelta | None) -> None:
    assert next_opening(windows, NOON) == (None if opens is None else NOON + opens)
