"""`bisect`: histories with the event that broke it (cases/bisect), and a node taken through them by a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import commands, control, custody, cycle, queries
from reconciler.bisection import Candidate, bisect_image, bisect_probe, probe_candidates
from reconciler.errors import NotConverged, UsageError
from reconciler.ports import EventFilter
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.stages.context import Context
from reconciler.transport.memory import MemoryTransport
from reconciler.transport.memory_parts import Entry
from tests.world import ManualClock, MemoryWorld, ScriptedSource, image, make_world, site

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "bisect" / "image.yaml").read_text())
ACCEPT_ALL = b'{"default": [{"type": "insecureAcceptAnything"}]}\n'
OWN_POLICY = b'{"default": [{"type": "insecureAcceptAnything"}], "transports": {}}\n'


@dataclass
class Past:
    """A fleet and what happened to it. `ends` are the positions after each step, `begins` those before."""

    world: MemoryWorld
    transport: MemoryTransport
    source: ScriptedSource
    begins: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)

    async def take(self, step: Mapping[str, Any]) -> None:
        name, context = step["step"], self.world.context
        self.begins[name] = await self.world.head()
        if to := step.get("rollback"):
            await commands.rollback(context, **{**to, "to": self.point(to["to"])}, reason="x")
        elif step.get("lift"):
            (hold,) = await queries.list_holds(context)
            await commands.lift_hold(context, hold["name"], reason="x")
        else:
            picture = {"image.yaml": image(**step["image"])} if "image" in step else {}
            self.source.commit({**picture, **step.get("files", {})})
            self.commits[self.source.history[-1][0].sha] = name
        if not step.get("unsynced"):
            await self.world.sync()
            self.ends[name] = await self.world.head()

    def point(self, name: str) -> str:
        return name if name.startswith("#") else f"#{self.ends[name]}"

    def step_of(self, event: Mapping[str, Any]) -> str:
        """The step that an event belongs to."""
        if event["commit"]:
            return self.commits[event["commit"]]
        return next(name for name, end in self.ends.items() if self.begins[name] < event["position"] <= end)

    def files(self) -> dict[str, dict[str, bytes]]:
        """Node → path → bytes."""
        nodes = self.transport.nodes.items()
        return {name: {path: entry.content for path, entry in node.files.items()} for name, node in nodes}

    async def events(self, *types: str) -> list[str]:
        return [event.type for event in await self.world.log.read(EventFilter(types=types))]


def begin(directory: Path) -> Past:
    clock = ManualClock()
    transport = MemoryTransport(clock)
    for name, policy in (("eu-1", ACCEPT_ALL), ("eu-2", OWN_POLICY), ("us-1", ACCEPT_ALL)):
        transport.node(name).files[POLICY_JSON] = Entry(policy)
    world = make_world(directory, transport, clock)
    source = ScriptedSource()
    world.context.source = source
    source.commit({**site("eu"), **site("us", 1)})
    return Past(world, transport, source)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_image(case: dict[str, Any], tmp_path: Path) -> None:
    past = begin(tmp_path)
    for step in case["steps"]:
        await past.take(step)
    asked = {"bad": None, **case["ask"]}
    asked |= {end: past.point(asked[end]) for end in ("good", "bad") if asked[end]}
    before = await past.world.head()
    if "error" in case:
        with pytest.raises(UsageError) as refused:
            await bisect_image(past.world.context, **asked)
        assert case["error"] in refused.value.what
        assert refused.value.remedy
        return
    found = await bisect_image(past.world.context, **asked)
    assert past.step_of(found["first"]) == case["first"]
    assert found["first"]["type"] == case.get("type", "CommitAccepted")
    if "commit" in case:
        assert past.commits[found["first"]["commit"]] == case["commit"]
    assert [found["good"]["verdict"], found["bad"]["verdict"]] == case["verdicts"]
    assert [found["before"]["verdict"], found["explanation"]["verdict"]] == case["verdicts"]
    assert [[past.step_of(turn), turn["to"]] for turn in found["turns"]] == case["turns"]
    assert found["nodes"] == case.get("nodes", ["eu-1", "eu-2", "us-1"])
    assert {item["path"] for item in found["differences"]} & {REGISTRIES_CONF, POLICY_JSON}
    if "decided" in case:
        (origin,) = found["explanation"]["decidedBy"]["origins"]
        assert (origin["field"], past.commits[origin["commit"]]) == (case["decided"], case["first"])
    for wanted, command in zip(case.get("undo", ()), found["undo"], strict="undo" in case):
        assert wanted in command
    assert await past.world.head() == before, "asking records nothing"


async def test_what_undoes_it_does(tmp_path: Path) -> None:
    """The command that is named, given, makes the image what it was."""
    past = begin(tmp_path)
    for step in CASES[0]["steps"]:
        await past.take(step)
    found = await bisect_image(past.world.context, good=past.point("begin"), bad=None, image="evil.corp/app:1")
    words = found["undo"][0].split()
    to, resource = words[words.index("--to") + 1].strip("'"), words[words.index("--resource") + 1]
    await commands.rollback(past.world.context, to=to, resource=resource, reason="x")
    await past.world.sync()
    with pytest.raises(UsageError, match="pullable at"):
        await bisect_image(past.world.context, good=past.point("begin"), bad=None, image="evil.corp/app:1")


# --- By a probe -----------------------------------------------------------------------------------------------------

LETTERS = "abcdefghij"


async def _ten_states(directory: Path) -> Past:
    """Each of ten commits blocks one more registry."""
    past = begin(directory)
    for number, name in enumerate(LETTERS, start=1):
        blocked = [f"{letter}.corp" for letter in LETTERS[:number]]
        await past.take({"step": name, "image": {"blockedRegistries": blocked}})
    return past


@dataclass
class Probe:
    """Fails where eu-1 blocks what letter `bad` blocks; skips in the steps `skips`."""

    past: Past
    bad: str
    skips: str = ""
    seen: list[str] = field(default_factory=list)

    async def __call__(self, candidate: Candidate) -> int:
        name = self.past.step_of(candidate.event)
        self.seen.append(name)
        files = {node: self.past.transport.nodes[node].files[REGISTRIES_CONF].content for node in ("eu-1", "eu-2")}
        assert f"{name}.corp".encode() in files["eu-1"], "the node has converged at the candidate"
        assert b"j.corp" in files["eu-2"], "no other node is touched"
        return 125 if name in self.skips else 1 if f"{self.bad}.corp".encode() in files["eu-1"] else 0


async def test_probe(tmp_path: Path) -> None:
    past = await _ten_states(tmp_path)
    before = past.files()
    probe = Probe(past, "g")
    found = await bisect_probe(past.world.context, probe, good=past.point("a"), bad=None, node="eu-1")

    assert past.step_of(found["first"]) == "g"
    assert len(probe.seen) <= 4, "nine states"
    assert [item["judgement"] for item in found["probed"]] == ["bad" if name >= "g" else "good" for name in probe.seen]
    assert all("g.corp" in item["to"] and "g.corp" not in item["from"] for item in found["differences"])
    assert found["undo"] == [f"reconciler rollback --to '#{past.begins['g']}' --resource Image/cluster --reason TEXT"]
    assert past.files() == before
    assert await queries.list_holds(past.world.context) == []
    assert await past.events("RolledBack") == ["RolledBack"] * len(probe.seen)
    assert (await past.world.status()).exit_code == 0
    _, again = await probe_candidates(past.world.context, good=past.point("a"), bad=None, node="eu-1")
    assert "".join(past.step_of(one.event) for one in again) == LETTERS[1:], "what probes did is no state"


async def test_probe_that_skips(tmp_path: Path) -> None:
    past = await _ten_states(tmp_path)
    found = await bisect_probe(past.world.context, Probe(past, "g", "efg"), good=past.point("a"), bad=None, node="eu-1")
    assert (found["first"], [past.step_of(item) for item in found["suspects"]]) == (None, ["e", "f", "g", "h"])
    assert await queries.list_holds(past.world.context) == []


async def test_a_state_that_the_guard_refuses_is_skipped(tmp_path: Path) -> None:
    past = await _ten_states(tmp_path)
    await past.take({"step": "k", "image": {"allowedRegistries": ["only.corp"]}})
    await past.take({"step": "l", "image": {}})
    past.transport.node("eu-1").images = ["nowhere.example.com/app:1"]
    good, bad = past.point("j"), past.point("l")
    found = await bisect_probe(past.world.context, Probe(past, "g"), good=good, bad=bad, node="eu-1")
    assert [past.step_of(item) for item in found["suspects"]] == ["k", "l"]
    (skipped,) = found["probed"]
    assert skipped["judgement"] == "skip"
    assert skipped["reason"].startswith("guard: nowhere.example.com/app:1")
    assert await queries.list_holds(past.world.context) == []


@pytest.mark.parametrize("how", ["error", "cancelled", "signal"])
async def test_whatever_happens_the_node_gets_back_what_it_had(tmp_path: Path, how: str) -> None:
    past = await _ten_states(tmp_path)
    before = past.files()
    held = asyncio.Event()

    async def probe(candidate: Candidate) -> int:
        (hold,) = await queries.list_holds(past.world.context)
        assert (hold["scope"], "bisect" in hold["reason"]) == ("eu-1", True)
        held.set()
        if how == "error":
            raise OSError("no sh")
        if how == "cancelled":
            await asyncio.Event().wait()
        return -9

    ask = bisect_probe(past.world.context, probe, good=past.point("a"), bad=None, node="eu-1")
    task = asyncio.create_task(ask)
    if how == "cancelled":
        await held.wait()
        task.cancel()
    expected = {"error": OSError, "cancelled": asyncio.CancelledError, "signal": UsageError}[how]
    with pytest.raises(expected):
        await task
    assert past.files() == before
    assert await queries.list_holds(past.world.context) == []


async def test_the_guard_judges_the_way_back(tmp_path: Path) -> None:
    """What began to run on the node under an earlier state would be lost under the present one: that is said."""
    past = begin(tmp_path)
    for name, blocked in (("a", "old.corp"), ("b", "b.corp"), ("c", "nowhere.example.com")):
        await past.take({"step": name, "image": {"blockedRegistries": [blocked]}})

    async def probe(candidate: Candidate) -> int:
        past.transport.node("eu-1").images = ["nowhere.example.com/app:1"]
        return 0

    found = await bisect_probe(past.world.context, probe, good=past.point("a"), bad=None, node="eu-1")
    assert past.step_of(found["first"]) == "c"
    assert found["returned"]["reason"].startswith("guard: nowhere.example.com/app:1")
    assert await queries.list_holds(past.world.context) == []


async def test_a_node_that_does_not_come_ends_it(tmp_path: Path) -> None:
    past = await _ten_states(tmp_path)
    await control.pause(past.world.context, "eu", reason="x")
    with pytest.raises(NotConverged, match="paused"):
        await bisect_probe(past.world.context, Probe(past, "g"), good=past.point("a"), bad=None, node="eu-1")
    assert await queries.list_holds(past.world.context) == []


async def test_files_of_another_state_are_not_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing is rendered for the state, the node is as converged as before: at what it had."""
    past = await _ten_states(tmp_path)

    async def renders_nothing(context: Context) -> int:
        return 0

    monkeypatch.setattr(cycle, "project", renders_nothing)
    probe = Probe(past, "g")
    with pytest.raises(NotConverged, match="does not come to"):
        await bisect_probe(past.world.context, probe, good=past.point("a"), bad=None, node="eu-1")
    assert probe.seen == []


async def test_windows_hold_unless_a_person_says_now(tmp_path: Path) -> None:
    past = await _ten_states(tmp_path)
    window = "windows: [{kind: allow, schedule: '0 12 * * *', duration: 1h}]\n  maxParallel"
    past.source.commit({name: text.replace("maxParallel", window) for name, text in site("eu").items()})
    await past.world.sync()
    ask = {"good": past.point("a"), "bad": past.point("j"), "node": "eu-1"}
    with pytest.raises(NotConverged, match="window"):
        await bisect_probe(past.world.context, Probe(past, "g"), **ask)  # type: ignore[arg-type]
    found = await bisect_probe(past.world.context, Probe(past, "g"), now=True, **ask)  # type: ignore[arg-type]
    assert past.step_of(found["first"]) == "g"
    assert found["returned"]["reason"] == ""
    assert "WindowOverridden" in await past.events("WindowOverridden")


async def test_a_command_that_cannot_be_run_is_no_verdict(tmp_path: Path) -> None:
    past = await _ten_states(tmp_path)

    async def absent(candidate: Candidate) -> int:
        return 127

    with pytest.raises(UsageError, match="which is good"):
        await bisect_probe(past.world.context, absent, good=past.point("a"), bad=None, node="eu-1")


async def test_what_is_refused_before_the_first_step(tmp_path: Path) -> None:
    past = await _ten_states(tmp_path)
    head = await past.world.head()
    context, good = past.world.context, past.point("a")
    for asked, what in (
        ({"node": "mars-1"}, "no node mars-1"),
        ({"node": "eu-1", "bad": past.point("a")}, "is not before"),
        ({"node": "eu-1", "good": "#1"}, "nothing was wanted on eu-1"),
        ({"node": "eu-1", "good": f"#{past.ends['j'] - 1}"}, "are the same"),
    ):
        with pytest.raises(UsageError, match=what):
            await bisect_probe(context, Probe(past, "g"), **{"good": good, "bad": None, **asked})  # type: ignore[arg-type]
    assert await past.world.head() == head
    await custody.release(context, "eu-2", restore=False, reason="to the other team")
    await past.world.sync()
    for found in (
        probe_candidates(context, good=good, bad=None, node="eu-2"),
        bisect_image(context, good=good, bad=None, node="eu-2", image="j.corp/app:1"),
    ):
        with pytest.raises(UsageError, match=r"was released \(to the other team\)"):
            await found
    await commands.rollback(context, to=past.point("c"), node="eu-1", reason="x")
    with pytest.raises(UsageError, match="sets eu-1 apart"):
        await bisect_probe(context, Probe(past, "g"), good=good, bad=None, node="eu-1")
