"""What `plan` says holds: the stages run on an overlay, and the pass that follows does just that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler import control
from reconciler.cli.plan_text import markdown, print_plan, print_upgrade
from reconciler.errors import UsageError
from reconciler.events.catalogue import RolloutStarted, WaveStarted
from reconciler.planning import Asked, export_fleet, plan, plan_export, read_export, renderer_changes
from reconciler.ports import EventFilter
from reconciler.registries.model import REGISTRIES_CONF
from reconciler.registries.render import RENDERER_VERSION, render
from reconciler.stages.context import Progress
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.world import POOL, ManualClock, MemoryWorld, image, make_world, memory_nodes

NAMES = [f"worker-{number}" for number in range(1, 11)]
BLOCKED = image(blockedRegistries=["untrusted.example.com"])
MORE = image(blockedRegistries=["untrusted.example.com", "bad.example.com"])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def transport(clock: ManualClock) -> MemoryTransport:
    return MemoryTransport(clock)


@pytest.fixture
async def world(tmp_path: Path, transport: MemoryTransport, clock: ManualClock) -> MemoryWorld:
    """Ten nodes that have what the first commit says."""
    world = make_world(tmp_path, transport, clock)
    world.repository.commit({"pool.yaml": POOL, "image.yaml": BLOCKED, **memory_nodes(NAMES)}, "Begin")
    assert (await world.sync()).exit_code == 0
    return world


async def started(world: MemoryWorld) -> list[RolloutStarted]:
    found = await world.log.read(EventFilter(types=("RolloutStarted",)))
    return [event.body for event in found if isinstance(event.body, RolloutStarted)]


async def waves(world: MemoryWorld, after: int) -> list[tuple[str, list[str]]]:
    found = await world.log.read(EventFilter(after=after, types=("WaveStarted",)))
    return [(event.body.kind, list(event.body.nodes)) for event in found if isinstance(event.body, WaveStarted)]


def only(data: dict[str, Any]) -> dict[str, Any]:
    (pool,) = data["pools"]
    found: dict[str, Any] = pool
    return found


async def test_the_plan_of_a_directory_is_what_merging_it_starts(world: MemoryWorld) -> None:
    directory = world.repository.directory
    (directory / "image.yaml").write_text(MORE)  # in the work tree, not committed
    before = await world.head()

    data = await plan(world.context, Asked(directory=directory))

    assert await world.head() == before
    pool = only(data)
    assert (data["verdict"], data["changes"], pool["behind"]) == ("accepted", True, 10)
    assert [item["subject"] for item in data["content"]] == ["Image/cluster"]
    (change,) = pool["changes"]
    assert change["nodes"] == sorted(NAMES)
    assert 'location = "bad.example.com"' in next(d["to"] for d in change["diff"] if d["path"] == REGISTRIES_CONF)

    world.repository.commit({"image.yaml": MORE}, "Block another")
    assert (await world.sync()).exit_code == 0
    assert (await started(world))[-1].plan == pool["digest"]
    assert (await started(world))[-1].effective == pool["effective"] == "reload"
    assert [(wave["kind"], wave["nodes"]) for wave in pool["waves"]] == await waves(world, before)
    assert [wave["kind"] for wave in pool["waves"]] == ["canary", "wave", "wave", "wave", "wave"]


async def test_the_plan_of_the_next_pass_is_what_it_does(world: MemoryWorld) -> None:
    sha = world.repository.commit({"image.yaml": MORE}, "Block another")
    pool = only(await plan(world.context, Asked()))
    assert pool["commit"] == sha
    assert pool["begins"] == pool["waves"][0]["nodes"]
    assert pool["waits"] == [{"reason": "waits for the canary", "nodes": sorted(set(NAMES) - set(pool["begins"]))}]
    await world.sync()
    assert (await started(world))[-1].plan == pool["digest"]
    settled = await plan(world.context, Asked())
    assert (settled["changes"], only(settled)["changes"], only(settled)["waves"]) == (False, [], [])


async def test_nodes_that_do_not_answer_are_unknown(
    world: MemoryWorld, transport: MemoryTransport, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES[1:]:
        transport.nodes[name].faults.unreachable = True
    data = await plan(world.context, Asked())
    (unknown,) = only(data)["unknown"]
    assert (unknown["nodes"], only(data)["unanswered"]) == (sorted(NAMES[1:]), sorted(NAMES[1:]))
    assert (data["changes"], only(data)["waits"]) == (False, [])
    print_plan("table", data)
    assert capsys.readouterr().out.endswith("\n9 nodes did not answer: nothing is known of them\n")
    recorded = await plan(world.context, Asked(live=False))
    assert (only(recorded)["unknown"], only(recorded)["unanswered"]) == ([], [])
    print_plan("table", recorded)
    assert capsys.readouterr().out.endswith("\nnothing to change\n")


async def test_a_ref_is_planned_before_it_is_merged(world: MemoryWorld) -> None:
    repository = world.repository
    repository.git("checkout", "--quiet", "-b", "feature")
    sha = repository.commit({"image.yaml": MORE}, "Block another")
    repository.git("checkout", "--quiet", "main")
    by_branch = await plan(world.context, Asked(ref="feature"))
    assert (by_branch["commit"], only(by_branch)["behind"]) == (sha, 10)
    assert only(await plan(world.context, Asked(ref=sha[:12])))["digest"] == only(by_branch)["digest"]
    with pytest.raises(UsageError, match="no branch or commit 'nowhere'"):
        await plan(world.context, Asked(ref="nowhere"))


async def test_the_log_alone_gives_the_same_plan_as_the_nodes(world: MemoryWorld, tmp_path: Path) -> None:
    directory = world.repository.directory
    (directory / "image.yaml").write_text(MORE)
    live = await plan(world.context, Asked(directory=directory))
    recorded = await plan(world.context, Asked(directory=directory, live=False))
    assert only(recorded)["digest"] == only(live)["digest"]
    export = read_export(await export_fleet(world.context), "fleet.json")
    exported = await plan_export(export, Asked(directory=directory), world.clock)
    assert exported == recorded
    with pytest.raises(UsageError, match="no repository"):
        await plan_export(export, Asked(ref="main"), world.clock)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"apiVersion": "v1", "kind": "List"}'])
def test_what_is_no_export_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"fleet\.json: is "):
        read_export(text, "fleet.json")


async def test_rejected_content_changes_nothing_and_says_why(world: MemoryWorld, tmp_path: Path) -> None:
    directory = world.repository.directory
    bad = image(blockedRegistries=["a.corp"], allowedRegistries=["b.corp"])
    (directory / "image.yaml").write_text(bad)
    data = await plan(world.context, Asked(directory=directory))
    assert data["verdict"] == "rejected"
    assert ("image.yaml", "allowed-and-blocked") in {(item["file"], item["name"]) for item in data["problems"]}
    assert only(data)["changes"] == []


async def test_what_would_wait_for_approval_is_shown_with_its_effect(world: MemoryWorld) -> None:
    directory = world.repository.directory
    (directory / "image.yaml").unlink()
    data = await plan(world.context, Asked(directory=directory))
    assert data["removes"]
    assert only(data)["behind"] == 10

    world.repository.commit({}, "Take the Image away")
    pending = await plan(world.context, Asked())
    assert (pending["removes"], only(pending)["behind"]) == (data["removes"], 0)


async def test_nodes_that_only_the_content_names_are_not_asked(world: MemoryWorld, transport: MemoryTransport) -> None:
    directory = world.repository.directory
    (directory / "nodes.yaml").write_text(memory_nodes([*NAMES, "stranger"])["nodes.yaml"])
    data = await plan(world.context, Asked(directory=directory))
    assert "stranger" not in transport.nodes
    (unknown,) = only(data)["unknown"]
    assert unknown["nodes"] == ["stranger"]
    assert "first asked when this content is recorded" in unknown["reason"]


async def test_a_pause_holds_all_and_the_order_is_told_all_the_same(world: MemoryWorld) -> None:
    await control.pause(world.context, "worker", reason="frozen")
    world.repository.commit({"image.yaml": MORE}, "Block another")
    pool = only(await plan(world.context, Asked()))
    assert pool["begins"] == []
    (wait,) = pool["waits"]
    assert "frozen" in wait["reason"]
    assert len(wait["nodes"]) == sum(len(wave["nodes"]) for wave in pool["waves"]) == 10


async def test_drift_that_nobody_saw_yet_is_a_repair(world: MemoryWorld, transport: MemoryTransport) -> None:
    before = await world.head()
    transport.nodes["worker-2"].files[REGISTRIES_CONF] = Entry(b"# by hand\n")
    data = await plan(world.context, Asked())
    assert only(data)["repairs"] == [{"node": "worker-2", "paths": [REGISTRIES_CONF]}]
    assert (data["changes"], await world.head()) == (True, before)
    assert only(await plan(world.context, Asked(live=False)))["repairs"] == []


async def test_a_pool_that_only_observes_shows_what_differs_and_changes_nothing(
    tmp_path: Path, transport: MemoryTransport, clock: ManualClock
) -> None:
    world = make_world(tmp_path, transport, clock)
    observing = POOL.replace("mode: enforce", "mode: observe")
    world.repository.commit({"pool.yaml": observing, "image.yaml": BLOCKED, **memory_nodes(NAMES[:2])}, "Begin")
    await world.sync()
    data = await plan(world.context, Asked())
    pool = only(data)
    assert (data["changes"], pool["behind"], pool["waves"], pool["begins"]) == (False, 2, [], [])
    assert pool["waits"] == [{"reason": "pool is in observe mode", "nodes": NAMES[:2]}]
    assert pool["changes"][0]["diff"]


async def test_images_whose_verdict_turns_are_named(world: MemoryWorld, transport: MemoryTransport) -> None:
    world.repository.commit({"image.yaml": MORE}, "Block another")
    images = ("bad.example.com/app:1", "untrusted.example.com/app:1", "good.example.com/app:1")
    (turned,) = only(await plan(world.context, Asked(images=images)))["images"]
    assert (turned["image"], turned["after"]) == ("bad.example.com/app:1", "not pullable")
    assert turned["before"] == "pullable"
    assert len(turned["nodes"]) == 10


async def test_a_newer_renderer_is_listed_and_touches_nobody(
    world: MemoryWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await renderer_changes(world.context) == []

    def newer(*arguments: Any) -> Any:
        outcome = render(*arguments)
        *rest, last = outcome.files
        assert last.path == REGISTRIES_CONF
        return replace(outcome, files=(*rest, replace(last, content=b"# newer\n" + last.content)))

    monkeypatch.setattr("reconciler.stages.project.render", newer)
    monkeypatch.setattr("reconciler.stages.upgrade.RENDERER_VERSION", "next")
    (item,) = await renderer_changes(world.context)
    assert (item["pool"], item["recordedWith"], item["renderer"]) == ("worker", RENDERER_VERSION, "next")
    assert item["nodes"] == sorted(NAMES)
    (difference,) = item["diff"]
    assert difference["to"] == "# newer\n" + difference["from"]
    print_upgrade("table", [item])
    printed = capsys.readouterr().out
    assert "10 nodes" in printed
    assert f"{RENDERER_VERSION} → next" in printed
    assert "+# newer" in printed
    assert only(await plan(world.context, Asked()))["behind"] == 0


def markdown_of(diff: list[dict[str, str]]) -> str:
    """The comment of a plan that changes one node so."""
    empty: dict[str, Any] = dict.fromkeys(("reasons", "waves", "waits", "unknown", "repairs", "returns", "images"), ())
    change = {"start": "s", "nodes": ["worker-1"], "diff": diff}
    pool = empty | {
        "name": "worker",
        "mode": "enforce",
        "digest": "d" * 64,
        "nodes": 1,
        "behind": 1,
        "blocked": "",
        "guard": "1 image",
    }
    pool["rejected"] = None
    pool |= {"disruption": "none", "effective": "none", "changes": [change]}
    data: dict[str, Any] = dict.fromkeys(("removes", "problems", "warnings"), ())
    data |= dict.fromkeys(("rewritten", "sourceUnreachable", "clusterUnreachable", "ref"))
    data |= {"fleet": "default", "position": 7, "nodesFrom": "log", "directory": "x", "verdict": "accepted"}
    data["content"] = [{"type": "ResourceAdded", "subject": "Image/cluster", "summary": "by @all | <b>"}]
    return markdown({**data, "pools": [pool], "changes": True})


def test_nothing_in_a_comment_ends_its_code_block_or_calls_somebody() -> None:
    text = markdown_of([{"path": "/etc/a", "kind": "added", "from": "", "to": "x\n````\n@all\n"}])
    assert "`````diff" in text
    assert text.count("`````") == 2
    assert r"by \@all \| \<b\>" in text


def test_a_comment_that_would_be_too_long_leaves_diffs_out_and_says_so() -> None:
    text = markdown_of([{"path": "/etc/a", "kind": "added", "from": "", "to": "line\n" * 20_000}])
    assert len(text) < 65_536
    assert "1 diff left out" in text


async def test_who_waits_is_told_which_wave_it_is(world: MemoryWorld) -> None:
    told: list[Progress] = []
    world.context.progress = told.append
    world.repository.commit({"image.yaml": MORE}, "Block another")
    await world.sync()
    waves = list(dict.fromkeys(news.wave for news in told if news.stage == "pool worker"))
    assert waves == ["canary", "wave 2", "wave 3", "wave 4", "wave 5"]
    assert [(news.done, news.total) for news in told if news.stage == "pool worker"][-1] == (10, 10)
