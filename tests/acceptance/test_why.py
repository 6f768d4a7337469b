"""`why` over a fleet: what nodes should have, traced to commits and events, and what they have."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler import commands, explanations
from reconciler.errors import UsageError
from reconciler.events.envelope import StoredEvent
from reconciler.ports import EventFilter
from reconciler.projections.tables import HOLDS
from reconciler.stages.explained import Question
from reconciler.stages.observe import observe
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.world import ManualClock, MemoryWorld, image, make_world, node_document, site

POLICY = b'{"default": [{"type": "insecureAcceptAnything"}]}\n'
OWN_TABLE = b'[[registry]]\nlocation = "legacy.corp"\nblocked = true\n'
REGISTRIES, POLICY_JSON = "/etc/containers/registries.conf", "/etc/containers/policy.json"
PULL_REQUEST = "Merge pull request #7 from bob/block-evil\n\nBlock evil.corp"


@dataclass
class Fleet:
    """Pool eu: eu-1, and eu-2 with a table of its own. Pool us: us-1, us-2. evil.corp is blocked by pull request 7."""

    world: MemoryWorld
    transport: MemoryTransport
    commit: str
    begin: str

    async def why(self, *images: str, **kwargs: Any) -> list[dict[str, Any]]:
        return await self.ask(Question(images), **kwargs)

    async def ask(self, question: Question, **kwargs: Any) -> list[dict[str, Any]]:
        return await explanations.why(self.world.context, question, **kwargs)

    def put(self, node: str, path: str, content: bytes) -> None:
        self.transport.node(node).files[path] = Entry(content)

    async def event(self, event_type: str) -> StoredEvent:
        found = await self.world.log.read(EventFilter(types=(event_type,), newest_first=True, limit=1))
        return found[0]


@pytest.fixture
async def fleet(tmp_path: Path) -> Fleet:
    clock = ManualClock()
    transport = MemoryTransport(clock)
    world = make_world(tmp_path, transport, clock)
    for name in ("eu-1", "eu-2", "us-1", "us-2"):
        transport.node(name).files[POLICY_JSON] = Entry(POLICY)
    transport.node("eu-2").files[REGISTRIES] = Entry(OWN_TABLE)
    begin = world.repository.commit(
        {**site("eu"), **site("us"), "image.yaml": image(blockedRegistries=["old.corp"])}, "Begin"
    )
    assert (await world.sync()).exit_code == 0
    world.repository.git("switch", "--quiet", "--create", "topic")
    world.repository.commit({"image.yaml": image(blockedRegistries=["old.corp", "evil.corp"])}, "Block evil.corp")
    world.repository.git("switch", "--quiet", "main")
    world.repository.git("merge", "--quiet", "--no-ff", "--message", PULL_REQUEST, "topic")
    assert (await world.sync()).exit_code == 0
    return Fleet(world, transport, world.repository.git("rev-parse", "HEAD"), begin)


async def test_a_node_says_line_field_commit_pull_request_and_event(fleet: Fleet) -> None:
    (item,) = await fleet.why("evil.corp/app:1", node="us-1")
    event = await fleet.event("ResourceChanged")
    assert (item["verdict"], item["nodes"], item["pools"]) == ("not pullable", ["us-1"], ["us"])
    place = item["decidedBy"]
    assert place["what"] == "[[registry]] evil.corp"
    lines = fleet.transport.node("us-1").files[place["file"]].content.decode().splitlines()
    assert 'location = "evil.corp"' in lines[place["line"]]
    assert place["origins"] == [
        {
            "resource": "Image/cluster",
            "field": "spec.registrySources.blockedRegistries[1]",
            "file": "image.yaml",
            "line": 9,
            "commit": fleet.commit,
            "author": "Alice",
            "subject": "Merge pull request #7 from bob/block-evil",
            "pullRequest": "7",
            "committedAt": fleet.world.repository.git(
                "log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ"
            ),
            "position": event.position,
            "since": _text(event),
            "hold": None,
        }
    ]
    assert item["changes"] == ["remove evil.corp from spec.registrySources.blockedRegistries of Image/cluster"]
    assert (item["applied"], item["observed"], item["notes"]) == (None, None, [])


async def test_a_field_is_of_the_commit_that_brought_what_it_says(fleet: Fleet) -> None:
    """Later commits change another list and the place in this one; then the whole resource goes and comes back."""
    event = await fleet.event("ResourceChanged")
    blocked = ["new.corp", "evil.corp", "old.corp"]
    later = fleet.world.repository.commit({"image.yaml": image(blockedRegistries=blocked)}, "Block new.corp")
    assert (await fleet.world.sync()).exit_code == 0
    searched = image(blockedRegistries=blocked, containerRuntimeSearchRegistries=["quay.io"])
    fleet.world.repository.commit({"image.yaml": searched}, "Search quay.io")
    assert (await fleet.world.sync()).exit_code == 0
    items = await fleet.why("evil.corp/app:1", "old.corp/app:1", "new.corp/app:1", pool="us")
    origins = [origin for item in items for origin in item["decidedBy"]["origins"]]
    assert [(origin["field"][-3:], origin["line"], origin["commit"], origin["pullRequest"]) for origin in origins] == [
        ("[1]", 9, fleet.commit, "7"),
        ("[2]", 10, fleet.begin, None),
        ("[0]", 8, later, None),
    ]
    assert (origins[0]["position"], origins[0]["since"]) == (event.position, _text(event))

    gone = fleet.world.repository.commit({"image.yaml": None}, "Block nothing")
    await fleet.world.sync()
    await commands.approve(fleet.world.context, gone, reason="for a while")
    assert (await fleet.world.sync()).exit_code == 0
    again = fleet.world.repository.commit({"image.yaml": searched}, "Block again")
    assert (await fleet.world.sync()).exit_code == 0
    (item,) = await fleet.why("old.corp/app:1", pool="us")
    assert [origin["commit"] for origin in item["decidedBy"]["origins"]] == [again]


async def test_nodes_that_agree_are_one_and_their_own_files_set_them_apart(fleet: Fleet) -> None:
    (everywhere,) = await fleet.why("evil.corp/app:1")
    assert (everywhere["nodes"], everywhere["pools"]) == (["eu-1", "eu-2", "us-1", "us-2"], ["eu", "us"])
    apart = await fleet.why("legacy.corp/app:1", pool="eu")
    assert [(item["verdict"], item["nodes"]) for item in apart] == [("not pullable", ["eu-2"]), ("pullable", ["eu-1"])]
    assert apart[0]["decidedBy"]["origins"] == []
    with pytest.raises(UsageError, match="there is no node eu-9"):
        await fleet.why("a.com/x", node="eu-9")
    with pytest.raises(UsageError, match="there is no pool asia"):
        await fleet.why("a.com/x", pool="asia")


async def test_a_fleet_without_nodes(tmp_path: Path) -> None:
    clock = ManualClock()
    world = make_world(tmp_path, MemoryTransport(clock), clock)
    with pytest.raises(UsageError, match="has no nodes"):
        await explanations.why(world.context, Question(["a.com/x"]))


async def test_what_a_hold_keeps_in_force_is_said_to_be_held(fleet: Fleet) -> None:
    """One node goes back to the first commit: there evil.corp is not blocked."""
    await commands.rollback(fleet.world.context, to=fleet.begin, reason="too much", node="us-2")
    rolled_back = await fleet.event("RolledBack")
    (hold,) = (await fleet.world.context.snapshot()).table(HOLDS).values()
    in_force = f"hold {hold['hold']} is in force there: too much"
    notes = {item["nodes"][0]: item["notes"] for item in await fleet.why("evil.corp/app:1", pool="us")}
    late = "the newest state is not rendered yet; this is the one before it"
    assert notes == {"us-1": [], "us-2": [in_force, late]}
    assert (await fleet.world.sync()).exit_code == 0

    items = await fleet.why("evil.corp/app:1", "old.corp/app:1", pool="us")
    assert [(item["image"], item["verdict"], item["nodes"]) for item in items] == [
        ("evil.corp/app:1", "not pullable", ["us-1"]),
        ("evil.corp/app:1", "pullable", ["us-2"]),
        ("old.corp/app:1", "not pullable", ["us-1"]),
        ("old.corp/app:1", "not pullable", ["us-2"]),
    ]
    assert [item["notes"] for item in items] == [[], [in_force], [], [in_force]]
    (held,) = items[3]["decidedBy"]["origins"]
    assert held["hold"] == {"name": hold["hold"], "reason": "too much", "actor": "alice@test"}
    assert (held["commit"], held["subject"], held["pullRequest"]) == (fleet.begin, "Begin", None)
    assert (held["position"], held["since"]) == (rolled_back.position, _text(rolled_back))
    assert items[2]["decidedBy"]["origins"][0]["hold"] is None


async def test_what_nodes_have_is_said_where_it_gives_another_answer(fleet: Fleet) -> None:
    fleet.transport.node("us-1").faults.unreachable = True
    fleet.world.repository.commit({"image.yaml": image(blockedRegistries=["old.corp"])}, "Let evil.corp in (#8)")
    await fleet.world.run()
    waiting, others = await fleet.why("evil.corp/app:1")
    assert (waiting["nodes"], waiting["verdict"], waiting["applied"]["verdict"]) == (
        ["us-1"],
        "pullable",
        "not pullable",
    )
    assert waiting["applied"]["decidedBy"]["what"] == "[[registry]] evil.corp"
    assert waiting["notes"] == [
        "waits for its rollout",
        "it does not answer; what stands there may be newer",
    ]
    assert (others["nodes"], others["applied"], others["notes"]) == (["eu-1", "eu-2", "us-2"], None, [])

    fleet.put("eu-1", POLICY_JSON, b'{"default": [{"type": "reject"}]}')
    fleet.transport.node("eu-2").files[REGISTRIES] = Entry(kind="symlink")
    await observe(fleet.world.context)
    drifted, linked = await fleet.why("a.com/x", pool="eu")
    assert (drifted["nodes"], drifted["verdict"], drifted["observed"]["verdict"]) == (
        ["eu-1"],
        "pullable",
        "not pullable",
    )
    assert drifted["notes"] == [f"drifted: {POLICY_JSON}"]
    assert (linked["nodes"], linked["observed"]["verdict"]) == (["eu-2"], "cannot tell")
    assert linked["notes"] == [
        f"it is left alone: {REGISTRIES} is a symlink; put a plain file there; what stands there may be newer",
        f"drifted: {REGISTRIES} (symlink)",
    ]


async def test_live_reads_what_the_log_has_no_content_of(fleet: Fleet) -> None:
    """A drop-in of somebody else, and root's own configuration, which wins over /etc."""
    drop_in, home = "/etc/containers/registries.conf.d/99.conf", "/root/.config/containers/policy.json"
    fleet.put("us-1", drop_in, b'[[registry]]\nlocation = "a.com"\nblocked = true\n')
    fleet.put("us-2", home, b'{"default": [{"type": "reject"}]}')
    await observe(fleet.world.context)
    by_log = await fleet.why("a.com/x", pool="us")
    assert [(item["nodes"], item["observed"]) for item in by_log] == [(["us-1"], None), (["us-2"], None)]
    assert by_log[0]["notes"] == [
        f"{drop_in} is not ours, and is read too; its content is not recorded: ask with --live"
    ]
    position = await fleet.world.head()
    now = await fleet.why("a.com/x", pool="us", live=True)
    observed = {item["nodes"][0]: item["observed"] for item in now}
    assert (observed["us-1"]["verdict"], observed["us-1"]["decidedBy"]["file"]) == ("not pullable", drop_in)
    assert (observed["us-2"]["verdict"], observed["us-2"]["reason"]) == (
        "cannot tell",
        f"the content of {home} is not known",
    )
    assert observed["us-1"]["live"]
    assert {item["nodes"][0]: item["notes"] for item in now} == {
        "us-1": [],
        "us-2": [f"{home} is read there, but not sent: copy it and ask with --files"],
    }
    fleet.transport.node("us-1").faults.unreachable = True
    (gone,) = await fleet.why("a.com/x", node="us-1", live=True)
    assert "it does not answer now (no connection (scripted)); what is said of it is from the log" in gone["notes"]
    assert await fleet.world.head() == position


async def test_nodes_of_which_nothing_is_known(fleet: Fleet) -> None:
    fleet.transport.node("new").faults.unreachable = True
    files = {
        "new.yaml": node_document("new", "{transport: memory}", "eu"),
        "lost.yaml": node_document("lost", "{transport: memory}", "none"),
    }
    fleet.world.repository.commit(files)
    await fleet.world.run()
    items = {
        item["nodes"][0]: item for item in await fleet.ask(Question(["evil.corp/app:1"], imports=True, pushes=True))
    }
    assert items["new"]["verdict"] == items["lost"]["verdict"] == "cannot tell"
    assert items["new"]["reason"] == "the node was never observed: what stands on it is not known"
    assert items["new"]["import"]["verdict"] == "forbidden"
    assert items["lost"]["reason"] == "no pool selects the node: nothing is wanted there"
    assert items["lost"]["applied"]["verdict"] == "not pullable"  # it has no policy.json at all
    assert "import" not in items["lost"]


async def test_import_and_push_are_traced_too(fleet: Fleet) -> None:
    (item,) = await fleet.ask(Question(["evil.corp/app:1"], imports=True, pushes=True))
    for origin in (item["import"]["origin"], *item["push"]["decidedBy"]["origins"]):
        assert (origin["field"], origin["pullRequest"]) == ("spec.registrySources.blockedRegistries[1]", "7")
    assert (item["import"]["verdict"], item["push"]["verdict"]) == ("forbidden", "not pushable")


async def test_a_thousand_images_take_a_handful_of_queries(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    fleet.world.context.contents.clear()
    fleet.world.context.resources.clear()
    for port, verb in (
        (fleet.world.context.log, "read"),
        (fleet.world.context.blobs, "get"),
        (fleet.world.reads, "snapshot"),
    ):
        monkeypatch.setattr(port, verb, _counted(getattr(port, verb), verb, asked))
    await fleet.why(*(f"{host}/app:{number}" for number in range(500) for host in ("evil.corp", "a.com")))
    assert Counter(asked) == {"snapshot": 1, "read": 2, "get": 4}


def _counted(verb: Any, name: str, asked: list[str]) -> Any:
    async def counted(*args: Any, **kwargs: Any) -> Any:
        asked.append(name)
        return await verb(*args, **kwargs)

    return counted


def _text(event: StoredEvent) -> str:
    return event.recorded_at.isoformat().replace("+00:00", "Z")
