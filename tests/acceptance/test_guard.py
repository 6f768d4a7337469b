"""The lock-out guard through whole passes: the cases of cases/lock_out, on nodes in memory; one on a real sshd node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import commands, control, queries
from reconciler.cycle import run_pass
from reconciler.errors import UsageError
from reconciler.events.catalogue import GuardJudged
from reconciler.ports import EventFilter, ImagesRequest, NodeImages, Target
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from reconciler.transport.sandbox import SandboxNode
from reconciler.transport.ssh import SshTransport
from tests.machines import connection
from tests.nodes import one_node
from tests.world import POOL, ManualClock, MemoryWorld, ScriptedSource, image, make_world, memory_nodes, node_document

FOLDER = Path(__file__).parents[1] / "cases" / "lock_out"
CASES = {case["name"]: case for path in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(path.read_text())}
ACCEPT_ALL = b'{"default": [{"type": "insecureAcceptAnything"}]}'


def pool(**settings: Any) -> str:
    """The pool of the test worlds with other guard settings; those that are not given are the defaults."""
    document = yaml.safe_load(POOL)
    spec = {k: v for k, v in document["spec"].items() if k not in ("requiredImages", "reachableRegistries")}
    return yaml.safe_dump({**document, "spec": {**spec, **settings}})


class Fleet:
    """Two memory nodes whose host accepts everything, and a repository in memory."""

    def __init__(self, directory: Path) -> None:
        clock = ManualClock()
        self.transport, self.source = MemoryTransport(clock), ScriptedSource()
        self.world: MemoryWorld = make_world(directory, self.transport, clock)
        self.world.context = replace(self.world.context, source=self.source)
        for name in ("w1", "w2"):
            self.transport.node(name).files[POLICY_JSON] = Entry(ACCEPT_ALL)
        self.files: dict[str, str | None] = {"pool.yaml": pool(), **memory_nodes(["w1", "w2"])}

    async def do(self, step: Mapping[str, Any]) -> None:
        """One step of a case, then passes until nothing moves, then what is expected of it."""
        self.files |= {"pool.yaml": pool(**step["pool"])} if "pool" in step else {}
        if "commit" in step or "pool" in step:
            self.source.commit({**self.files, **step.get("commit", {})})
            self.files = {}
        for name, images in step.get("images", {}).items():
            self.transport.node(name).images = images
        for name in ("w1", "w2"):
            self.transport.node(name).faults.unreachable = name in step.get("unreachable", ())
        if "override" in step:
            await control.override(self.world.context, pool="worker", reason="test", **step["override"])
        if "approve" in step:
            await control.approve_pool(self.world.context, "worker", reason=step["approve"])
        if "rollback" in step:
            await commands.rollback(self.world.context, to=step["rollback"], reason="test")
        before, asked = await self.world.head(), self.transport.node("w1").asked
        await self.world.run(recheck=step.get("recheck", False))
        await self.world.sync()
        await self.expect(step["expect"], before, self.transport.node("w1").asked - asked)

    async def expect(self, wanted: Mapping[str, Any], before: int, asked: int) -> None:
        status, data = await queries.status(self.world.context)
        judged = (await self.world.types(before)).count("GuardJudged")
        found: dict[str, Any] = {"exit": status.exit_code, "guard": data["guard"], "judged": judged, "asked": asked}
        found |= {"blocked": status.pools[0].blocked}
        for name in ("w1", "w2"):
            entry = self.transport.node(name).files.get(REGISTRIES_CONF)
            found[name] = entry.content.decode() if entry else ""
        for key, value in wanted.items():
            if isinstance(value, str) and value and key != "guard":
                assert value in found[key], (key, found)
            else:
                assert found[key] == value, (key, found)
        head = await self.world.head()
        await self.world.run()
        assert await self.world.head() == head, "an unchanged poll appended something"


@pytest.mark.parametrize("name", CASES)
async def test_lock_out(name: str, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for step in CASES[name]["steps"]:
        await fleet.do(step)
    before = await fleet.world.context.snapshot()
    await fleet.world.reads.rebuild()
    assert (await fleet.world.context.snapshot()).rows == before.rows


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


async def blocked(fleet: Fleet, images: list[str]) -> None:
    """Both nodes run these images; the second commit blocks docker.io."""
    first: dict[str, Any] = {"image.yaml": image(blockedRegistries=["bad.corp"])}
    await fleet.do({"pool": {}, "images": dict.fromkeys(("w1", "w2"), images), "commit": first, "expect": {"exit": 0}})
    second = {"image.yaml": image(blockedRegistries=["docker.io"])}
    await fleet.do({"commit": second, "expect": {"exit": 3}})


async def last_judgement(fleet: Fleet) -> GuardJudged:
    found = await fleet.world.log.read(EventFilter(types=("GuardJudged",), newest_first=True, limit=1))
    assert isinstance(found[0].body, GuardJudged)
    return found[0].body


async def test_many_images_are_listed_in_part_and_given_up_as_a_whole(fleet: Fleet) -> None:
    await blocked(fleet, [f"docker.io/team/app-{number:03}:1" for number in range(70)])
    (change,) = (await last_judgement(fleet)).changes
    assert (change["blocking"], len(change["turned"]), change["more"]) == (70, 50, 20)
    done = await control.override(fleet.world.context, pool="worker", glob="docker.io/*-069:1", reason="", dry_run=True)
    assert (done["givenUp"], done["unlisted"]) == ([], 20)
    await fleet.do({"override": {"glob": "docker.io/team/*"}, "expect": {"exit": 0, "w1": "docker.io"}})


async def test_an_override_says_what_it_would_do_and_refuses_what_it_cannot(fleet: Fleet) -> None:
    context = fleet.world.context
    await blocked(fleet, ["docker.io/a/app:1", "docker.io/b/app:1"])
    head = await fleet.world.head()
    done = await control.override(context, pool="worker", glob="docker.io/a/*", reason="", dry_run=True)
    assert (done["givenUp"], done["stillBlocking"]) == (["docker.io/a/app:1"], ["docker.io/b/app:1"])
    with pytest.raises(UsageError, match="there is no pool nobody"):
        await control.override(context, pool="nobody", glob="*", reason="x")
    with pytest.raises(UsageError, match=r"quay.io/\* matches none"):
        await control.override(context, pool="worker", glob="quay.io/*", reason="x")
    with pytest.raises(UsageError, match="nothing in pool worker waits for approval"):
        await control.approve_pool(context, "worker", reason="x")
    assert await fleet.world.head() == head
    await control.override(context, pool="worker", glob="*", reason="x")
    assert (await fleet.world.sync()).exit_code == 0
    with pytest.raises(UsageError, match="the guard blocks nothing in pool worker"):
        await control.override(context, pool="worker", glob="*", reason="x")


async def test_two_replicas_judge_once(fleet: Fleet) -> None:
    first: dict[str, Any] = {"image.yaml": image(blockedRegistries=["bad.corp"])}
    await fleet.do({"pool": {}, "images": {"w1": ["docker.io/a/app:1"]}, "commit": first, "expect": {"exit": 0}})
    fleet.source.commit({"image.yaml": image(blockedRegistries=["docker.io"])})
    before = await fleet.world.head()
    other = replace(fleet.world.context, owner="other")
    await asyncio.gather(run_pass(fleet.world.context), run_pass(other))
    assert (await fleet.world.types(before)).count("GuardJudged") == 1


async def test_other_pools_go_on(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    other = yaml.safe_dump(
        {
            **yaml.safe_load(pool()),
            "metadata": {"name": "infra"},
            "spec": {**yaml.safe_load(POOL)["spec"], "nodeSelector": {"matchLabels": {"infra": ""}}},
        }
    )
    fleet.files |= {"infra.yaml": other, "i1.yaml": node_document("i1", "{transport: memory}", "infra")}
    fleet.transport.node("i1").files[POLICY_JSON] = Entry(ACCEPT_ALL)
    await blocked(fleet, ["docker.io/a/app:1"])
    found = {node.name: node.files for node in (await fleet.world.status()).nodes}
    assert found == {"i1": "Converged", "w1": "Pending", "w2": "Pending"}
    assert "docker.io" in fleet.transport.node("i1").files[REGISTRIES_CONF].content.decode()


async def test_a_node_that_joins_content_in_force_is_judged_by_its_own_images(fleet: Fleet) -> None:
    await blocked(fleet, ["docker.io/a/app:1"])
    await fleet.do({"override": {"glob": "docker.io/a/*"}, "expect": {"exit": 0, "w1": "docker.io"}})
    for name in ("w3", "w4"):
        fleet.transport.node(name).files[POLICY_JSON] = Entry(ACCEPT_ALL)
    joined, kept = memory_nodes(["w1", "w2", "w3"]), {"w1": ["docker.io/kept/app:1"]}
    await fleet.do({"commit": joined, "images": kept, "expect": {"exit": 0, "judged": 1}})
    fleet.transport.node("w4").images = ["docker.io/b/app:1"]
    joined = memory_nodes(["w1", "w2", "w3", "w4"])
    await fleet.do({"commit": joined, "expect": {"exit": 3, "blocked": "docker.io/b/app:1"}})


async def test_a_node_that_cannot_tell_is_named_and_not_asked_again(fleet: Fleet) -> None:
    fleet.transport.node("w2").images_note = "this host has no crictl"
    await blocked(fleet, ["docker.io/a/app:1"])
    body = await last_judgement(fleet)
    assert (body.nodes, body.untold, body.unheard) == (("w1",), {"w2": "this host has no crictl"}, ())
    asked = fleet.transport.node("w2").asked
    await fleet.world.run()
    assert fleet.transport.node("w2").asked == asked


async def test_what_is_new_is_asked_about_with_the_look(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """No round trip of its own: for a commit, a rollback, a recheck, or nodes that other content was judged for."""
    first: dict[str, Any] = {"pool.yaml": pool(), "image.yaml": image(blockedRegistries=["bad.corp"])}
    await fleet.do({"images": {"w1": ["docker.io/a/app:1"]}, "commit": first, "expect": {"exit": 0}})
    calls: list[str] = []
    ask = fleet.transport.images

    async def images(target: Target, request: ImagesRequest) -> NodeImages:
        calls.append(target.name)
        return await ask(target, request)

    monkeypatch.setattr(fleet.transport, "images", images)
    second = {"image.yaml": image(blockedRegistries=["docker.io"])}
    await fleet.do({"commit": second, "expect": {"judged": 1, "asked": 1, "exit": 3}})
    await fleet.do({"commit": {}, "expect": {"judged": 0, "asked": 0, "exit": 3}})
    await fleet.do({"recheck": True, "expect": {"judged": 0, "asked": 1, "exit": 3}})
    third = {"image.yaml": image(blockedRegistries=["quay.io"])}
    await fleet.do({"commit": third, "expect": {"judged": 1, "asked": 1, "exit": 0, "w1": "quay.io"}})
    await fleet.do({"rollback": "previous", "expect": {"judged": 1, "asked": 1}})
    assert calls == []
    fleet.transport.node("w3").files[POLICY_JSON] = Entry(ACCEPT_ALL)
    await fleet.do({"commit": memory_nodes(["w1", "w2", "w3"]), "expect": {"asked": 1}})
    assert calls == ["w1", "w2", "w3"]  # its base is not known before the first look


async def test_what_a_blocked_node_has_is_kept(fleet: Fleet) -> None:
    await blocked(fleet, ["docker.io/a/app:1"])
    files = fleet.transport.node("w2").files
    files[REGISTRIES_CONF] = Entry(b"# by hand")
    await fleet.do({"expect": {"exit": 3, "blocked": "docker.io/a/app:1", "w2": "bad.corp"}})
    assert (await fleet.world.types())[-2:] == ["DriftRepaired", "NodeConverged"]


async def test_a_pool_that_observes_is_not_judged(fleet: Fleet) -> None:
    commit = {"image.yaml": image(blockedRegistries=["docker.io"])}
    images = {"w1": ["docker.io/a/app:1"]}
    await fleet.do(
        {
            "pool": {"mode": "observe"},
            "images": images,
            "commit": commit,
            "expect": {"judged": 0, "asked": 0, "exit": 0},
        }
    )
    await fleet.do({"pool": {"mode": "enforce"}, "expect": {"judged": 1, "exit": 3, "w1": ""}})


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNode]:
    yield from one_node(tmp_path_factory.mktemp("sshd"))


async def test_a_real_node_tells_what_it_runs(node: SandboxNode, tmp_path: Path) -> None:
    transport = SshTransport(None, [str(node.identity)], None, 10)
    world = make_world(tmp_path, transport)
    node.runtime.set_images(["docker.io/library/nginx:1"], "registry.k8s.io/pause:3.10")
    (node.root / POLICY_JSON.lstrip("/")).write_bytes(ACCEPT_ALL)
    documents = {"nodes.yaml": node_document(node.name, json.dumps(connection(node)))}
    world.repository.commit({"pool.yaml": pool(), **documents, "image.yaml": image(blockedRegistries=["docker.io"])})
    assert (await world.sync()).exit_code == 3
    (status,) = (await world.status()).pools
    assert status.guard == "2 images"
    assert "docker.io/library/nginx:1 by tag could no longer be pulled" in status.blocked
    assert node.actions() == []
    await control.override(world.context, pool="worker", glob="docker.io/*", reason="moved")
    assert (await world.sync()).exit_code == 0
    assert "docker.io" in (node.root / REGISTRIES_CONF.lstrip("/")).read_text()
    await transport.close()
