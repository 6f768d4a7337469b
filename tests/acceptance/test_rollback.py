"""Rollback in each scope: recorded bytes, refused contents, what newer commits do, and how a hold ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler import commands, queries
from reconciler.errors import InputRejected, UsageError
from reconciler.planning import Asked, plan
from reconciler.ports import EventFilter
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.transport.memory import MemoryTransport
from reconciler.wiring import SystemClock
from tests.world import ManualClock, World, image, make_real_world, make_world, mirrors, site

NODES = ("eu-1", "eu-2", "us-1", "us-2")
A, B, C, D = (image(blockedRegistries=[f"{name}.corp"]) for name in "abcd")


@dataclass
class History:
    """A fleet that had the Images A, B and C one after the other. `ends` are the positions after each."""

    world: World
    transport: MemoryTransport
    ends: Mapping[str, int]
    commits: Mapping[str, str]
    files: Mapping[str, Mapping[str, Mapping[str, bytes]]]

    def now(self) -> dict[str, dict[str, bytes]]:
        """Node → path → bytes."""
        return _files(self.transport)

    async def rollback(
        self, to: str, *, pool: str | None = None, node: str | None = None, resource: str | None = None
    ) -> dict[str, Any]:
        done = await commands.rollback(
            self.world.context, to=to, reason="the bad list", pool=pool, node=node, resource=resource
        )
        assert (await self.world.sync()).exit_code == 0
        return done

    async def holds(self) -> dict[str, dict[str, Any]]:
        return {item["name"]: item for item in await queries.list_holds(self.world.context)}


def _files(transport: MemoryTransport) -> dict[str, dict[str, bytes]]:
    return {
        name: {path: entry.content for path, entry in transport.nodes[name].files.items()}
        for name in sorted(transport.nodes)
    }


async def _live_through(world: World, transport: MemoryTransport) -> History:
    world.repository.commit({**site("eu"), **site("us"), "mirrors.yaml": mirrors("m", "quay.io/a", "mirror.corp/a")})
    assert (await world.sync()).exit_code == 0
    ends, ids, files = {}, {}, {}
    for name, text in (("A", A), ("B", B), ("C", C)):
        ids[name] = world.repository.commit({"image.yaml": text}, f"Image {name}")
        assert (await world.sync()).exit_code == 0
        ends[name], files[name] = await world.head(), _files(transport)
    return History(world, transport, ends, ids, files)


@pytest.fixture
async def past(engine: AsyncEngine, tmp_path: Path) -> History:
    """On PostgreSQL."""
    transport = MemoryTransport(SystemClock())
    return await _live_through(await make_real_world(tmp_path, transport, engine), transport)


@pytest.fixture
async def quick_past(tmp_path: Path) -> History:
    """The same on a memory log, where the log's own behaviour is not the point."""
    clock = ManualClock()
    transport = MemoryTransport(clock)
    return await _live_through(make_world(tmp_path, transport, clock), transport)


async def test_fleet(past: History) -> None:
    done = await past.rollback(f"#{past.ends['A']}")

    assert past.now() == past.files["A"]
    assert done["renderedAnew"] == []
    hold = (await past.holds())[done["hold"]]
    (entry,) = hold["entries"]
    assert (hold["scope"], entry["resource"], entry["gitIs"]) == ("fleet", "Image/cluster", "refused")
    assert entry["restoredCommit"] == past.commits["A"]
    resources = {item["name"]: item for item in await queries.list_resources(past.world.context)}
    assert resources["Image/cluster"]["hold"] == done["hold"]
    assert resources["ImageDigestMirrorSet/m"]["hold"] is None


@pytest.mark.parametrize("point", ["position", "commit", "short commit", "time", "previous"])
async def test_points_in_time(quick_past: History, point: str) -> None:
    events = await quick_past.world.log.read(EventFilter(after=quick_past.ends["B"] - 1, until=quick_past.ends["B"]))
    to = {
        "position": f"#{quick_past.ends['B']}",
        "commit": quick_past.commits["B"],
        "short commit": quick_past.commits["B"][:8],
        "time": events[0].recorded_at.isoformat(),
        "previous": "previous",
    }[point]
    await quick_past.rollback(to)
    assert quick_past.now() == quick_past.files["B"]


async def test_last_good_is_the_newest_that_completed(quick_past: History) -> None:
    """D fails on its canary; C was completed before."""
    quick_past.transport.node("eu-1").faults.reload = quick_past.transport.node("us-1").faults.reload = "fails"
    quick_past.world.repository.commit({"image.yaml": D}, "Image D")
    assert (await quick_past.world.sync()).exit_code == 1
    quick_past.transport.node("eu-1").faults.reload = quick_past.transport.node("us-1").faults.reload = ""
    await quick_past.rollback("last-good")
    assert quick_past.now() == quick_past.files["C"]


async def test_a_lift_that_no_rollout_completed_is_not_the_last_good_state(quick_past: History) -> None:
    """C came back with the lift, and fails on its canaries now; A was completed by the rollback."""
    past, canaries = quick_past, ("eu-1", "us-1")
    done = await past.rollback(f"#{past.ends['A']}")
    for name in canaries:
        past.transport.node(name).faults.reload = "fails"
    await commands.lift_hold(past.world.context, done["hold"], reason="too early")
    assert (await past.world.sync()).exit_code == 1
    for name in canaries:
        past.transport.node(name).faults.reload = ""
    await past.rollback("last-good")
    assert past.now() == past.files["A"]


@pytest.mark.parametrize(
    ("scope", "taken_back"), [({"pool": "eu"}, ("eu-1", "eu-2")), ({"node": "us-2"}, ("us-2",))], ids=["pool", "node"]
)
async def test_narrower_scopes(past: History, scope: dict[str, str], taken_back: Sequence[str]) -> None:
    await past.rollback(f"#{past.ends['A']}", **scope)
    wanted = {name: past.files["A" if name in taken_back else "C"][name] for name in NODES}
    assert past.now() == wanted
    past.world.repository.commit({"image.yaml": D}, "Image D")
    assert (await past.world.sync()).exit_code == 0
    for name in NODES:
        assert (past.now()[name] == wanted[name]) == (name in taken_back)


async def test_the_narrower_scope_wins(quick_past: History) -> None:
    await quick_past.rollback(f"#{quick_past.ends['A']}", node="eu-1")
    await quick_past.rollback(f"#{quick_past.ends['B']}", pool="eu")
    wanted = {"eu-1": "A", "eu-2": "B", "us-1": "C", "us-2": "C"}
    assert quick_past.now() == {node: quick_past.files[state][node] for node, state in wanted.items()}
    assert len(await quick_past.holds()) == 2


async def test_one_resource(past: History) -> None:
    """The other resources stay as they are now, so something must be rendered anew, and it says so."""
    other = mirrors("m", "quay.io/b", "mirror.corp/b")
    past.world.repository.commit({"mirrors.yaml": other}, "Another mirror")
    assert (await past.world.sync()).exit_code == 0
    done = await past.rollback(f"#{past.ends['A']}", resource="Image/cluster")
    assert done["scope"] == {"kind": "fleet", "name": "", "resource": "Image/cluster"}
    assert sorted(text.partition(" ")[0] for text in done["renderedAnew"]) == ["eu", "us"]
    text = past.now()["eu-1"][REGISTRIES_CONF].decode()
    assert "a.corp" in text
    assert "quay.io/b" in text
    assert "quay.io/a" not in text


async def test_neither_git_nor_the_renderer_is_needed(
    past: History, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_renderer(*_: object) -> NoReturn:
        raise AssertionError("rendered")

    monkeypatch.setattr("reconciler.stages.project.render", no_renderer)
    monkeypatch.setattr("reconciler.stages.rollback.render", no_renderer)
    past.world.repository.directory.rename(tmp_path / "gone")
    await past.rollback(f"#{past.ends['A']}")
    assert past.now() == past.files["A"]


async def test_a_plan_says_what_of_a_branch_would_be_held_back(quick_past: History) -> None:
    done = await quick_past.rollback(f"#{quick_past.ends['A']}")
    repository = quick_past.world.repository
    repository.git("switch", "--quiet", "--create", "again")
    repository.commit({"image.yaml": B}, "Try again")
    found = await plan(quick_past.world.context, Asked(ref="again"))
    held = [item["summary"] for item in found["content"] if item["type"] == "CommitHeldBack"]
    assert held == [f"held back in part: Image/cluster (refused, hold {done['hold']})"]
    assert not found["changes"] or all(pool["behind"] == 0 for pool in found["pools"])


async def test_lifting_a_hold_brings_git_back(quick_past: History) -> None:
    done = await quick_past.rollback(f"#{quick_past.ends['A']}")
    await commands.lift_hold(quick_past.world.context, done["hold"], reason="understood")
    assert (await quick_past.world.sync()).exit_code == 0
    assert quick_past.now() == quick_past.files["C"]
    assert await quick_past.holds() == {}
    with pytest.raises(UsageError, match="there is no hold"):
        await commands.lift_hold(quick_past.world.context, done["hold"], reason="again")


async def test_refused_contents_are_inherited(quick_past: History) -> None:
    """What a first rollback refused, the one that replaces it refuses too, and what was in force since."""
    first = await quick_past.rollback(f"#{quick_past.ends['B']}")
    (entry,) = (await quick_past.holds())[first["hold"]]["entries"]
    refused = set(entry["refused"])
    assert len(refused) == 1  # C; B is what is restored
    quick_past.world.repository.commit({"image.yaml": D}, "Image D")
    assert (await quick_past.world.sync()).exit_code == 0

    second = await quick_past.rollback(f"#{quick_past.ends['A']}")

    assert quick_past.now() == quick_past.files["A"]
    assert second["replaces"] == [first["hold"]]
    assert list(await quick_past.holds()) == [second["hold"]]
    (entry,) = (await quick_past.holds())[second["hold"]]["entries"]
    assert refused < set(entry["refused"])
    assert len(entry["refused"]) == 3  # B, C and D


async def test_back_to_what_git_says_ends_the_hold(quick_past: History) -> None:
    done = await quick_past.rollback(f"#{quick_past.ends['A']}")
    again = await quick_past.rollback(f"#{quick_past.ends['C']}")
    assert (again["hold"], again["replaces"]) == (None, [done["hold"]])
    assert quick_past.now() == quick_past.files["C"]
    assert await quick_past.holds() == {}


async def test_a_state_without_the_image(quick_past: History) -> None:
    """Before A there was none: the mirror set alone is in force, and no block."""
    events = await quick_past.world.log.read(EventFilter(types=("CommitAccepted",), limit=1))
    await quick_past.rollback(f"#{events[0].position}")
    text = quick_past.now()["us-1"][REGISTRIES_CONF].decode()
    assert "quay.io/a" in text
    assert "blocked" not in text


async def test_a_resource_that_never_was_is_refused_and_those_known_are_named(quick_past: History) -> None:
    with pytest.raises(UsageError, match="there is no resource Image/nosuch") as refused:
        await quick_past.rollback("previous", resource="Image/nosuch")
    assert refused.value.remedy == "name one of: Image/cluster, ImageDigestMirrorSet/m"
    assert await quick_past.holds() == {}


async def test_a_dry_run_records_nothing(quick_past: History) -> None:
    head = await quick_past.world.head()
    shown = await commands.rollback(quick_past.world.context, to=f"#{quick_past.ends['A']}", reason="", dry_run=True)
    assert sorted(shown["nodes"]) == list(NODES)
    assert await quick_past.world.head() == head
    assert await quick_past.holds() == {}


async def test_a_commit_may_not_remove_a_held_pool_or_node(quick_past: History) -> None:
    pool = await quick_past.rollback(f"#{quick_past.ends['A']}", pool="eu")
    node = await quick_past.rollback(f"#{quick_past.ends['A']}", node="us-2")
    world = quick_past.world
    first = world.repository.commit({**site("us", nodes=1)}, "One node less")
    status = await world.sync()
    assert (status.exit_code, status.rejected) == (4, first)
    (problem,) = status.problems
    assert problem["message"] == f"the commit removes node us-2, which hold {node['hold']} is about"
    second = world.repository.commit({**site("us"), "inventory/eu.yaml": None}, "One pool less")
    status = await world.sync()
    assert (status.exit_code, status.rejected) == (4, second)
    assert f"pool eu, which hold {pool['hold']} is about" in status.problems[0]["message"]
    assert status.problems[0]["remedy"] == f"lift it first: reconciler hold lift {pool['hold']}"


async def test_a_mixture_that_does_not_hold_together_is_refused(quick_past: History) -> None:
    """Restoring one resource beside today's others must give a state that could have been committed."""
    world = quick_past.world
    digest_set = mirrors("d", "quay.io/x", "m1.corp/x")
    contact = digest_set.replace("mirrors: [m1.corp/x]", "mirrors: [m1.corp/x], mirrorSourcePolicy: NeverContactSource")
    world.repository.commit({"d.yaml": contact}, "Never contact")
    assert (await world.sync()).exit_code == 0
    end = await world.head()
    both = digest_set.replace("{name: d}", "{name: e}")
    world.repository.commit({"d.yaml": digest_set, "e.yaml": both}, "Allow again, twice")
    assert (await world.sync()).exit_code == 0
    with pytest.raises(InputRejected, match="does not hold together"):
        await commands.rollback(world.context, to=f"#{end}", reason="x", resource="ImageDigestMirrorSet/d")


async def test_a_node_that_was_set_apart_then_is_so_again(quick_past: History) -> None:
    """At P a node had a hold of its own: going back to P with everything gives it that state, and the others theirs."""
    await quick_past.rollback(f"#{quick_past.ends['A']}", node="eu-1")
    position, files = await quick_past.world.head(), quick_past.now()
    quick_past.world.repository.commit({"image.yaml": D}, "Image D")
    assert (await quick_past.world.sync()).exit_code == 0
    for scope in ({}, {"pool": "eu"}):
        await quick_past.rollback(f"#{position}", **scope)
        assert quick_past.now() == files
