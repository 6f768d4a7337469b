"""Whatever came before: a rollback gives every node the bytes it had, without Git and without the renderer.

After each step of a history passes are made until they append nothing; what every node has then is written down. A
rollback of the fleet to any of these moments must give exactly that back, and the log as of then must tell it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler import commands
from reconciler.errors import InputRejected, UsageError
from reconciler.events.catalogue import RolledBack
from reconciler.ports import EventFilter, Snapshot
from reconciler.projections.status import fleet_status
from reconciler.projections.tables import HOLDS, NODE_STATES
from reconciler.registries.model import POLICY_JSON
from reconciler.stages.context import decode_file_set
from reconciler.transport.memory_parts import Entry
from tests.sequences import ACCEPT_ALL, REST
from tests.sequences import Sequence as Fleet
from tests.world import FLEET

Files = Mapping[str, Mapping[str, bytes]]
Step = Sequence[Any]

CONTENTS: Mapping[str, Mapping[str, Any]] = {
    "image.yaml": {
        "a": {"Image": {"blockedRegistries": ["a.corp"]}},
        "b": {"Image": {"blockedRegistries": ["b.corp"], "containerRuntimeSearchRegistries": ["search.corp"]}},
        "c": {"Image": {"allowedRegistries": ["needed.example.com", "c.corp"]}},
    },
    "sites/eu/m.yaml": {
        "a": {"IDMS": "m", "rows": {"quay.io/a": ["mirror.corp/a"]}},
        "b": {"IDMS": "m", "rows": {"quay.io/a": ["mirror.corp/b", "mirror.corp/a"]}},
        "c": {"ICSP": "m", "rows": {"quay.io/a": ["mirror.corp/a"], "quay.io/c": ["mirror.corp/c"]}},
    },
    "n.yaml": {
        "a": {"IDMS": "n", "rows": {"quay.io/n": ["mirror.corp/n"]}},
        "b": {"ITMS": "n", "rows": {"quay.io/n": ["mirror.corp/n"]}},
        "c": {"IDMS": "n", "rows": {"quay.io/n": ["mirror.corp/n"]}, "labels": {"x": "y"}},
    },
}


@dataclass
class Past:
    """A fleet, and every moment at which it had come to rest: position → node → path → bytes."""

    fleet: Fleet
    rests: dict[int, Files] = field(default_factory=dict)

    async def live(self, taken: Sequence[Step]) -> None:
        begin = {path: contents["a"] for path, contents in CONTENTS.items()}
        for name in ("eu-1", "eu-2", "us-1"):
            self.fleet.transport.node(name).files[POLICY_JSON] = Entry(ACCEPT_ALL)
        self.rests[1] = self.fleet.now()  # before the first write
        await self.fleet.do({"pools": {"eu": {"nodes": 2}, "us": {"nodes": 1}}, "commit": begin, "expect": {}})
        await self._rest()
        for step in taken:
            await self._take(step)
            await self._rest()

    async def _rest(self) -> None:
        for _ in range(REST):
            head = await self.fleet.world.head()
            await self.fleet.world.run()
            if await self.fleet.world.head() == head:
                self.rests[head] = self.fleet.now()
                return
        raise AssertionError(f"no rest: {(await self.fleet.world.types())[-20:]}")

    async def _take(self, step: Step) -> None:
        context = self.fleet.world.context
        match step:
            case ("commit", path, name):
                self.fleet.change({path: CONTENTS[path][name] if name else None})
            case ("rollback", fraction, scope, fixed):
                kind, _, name = scope.partition(":")
                await self._try(
                    commands.rollback(
                        context, to=self.point(fraction), reason="x", until_fixed=fixed, **{kind: name} if name else {}
                    )
                )
            case (verb, fraction):
                holds = sorted(key[1] for key in (await context.snapshot()).table(HOLDS))
                if holds:
                    hold = holds[int(fraction * len(holds))]
                    ask = commands.undo_rollback if verb == "undo" else commands.lift_hold
                    await self._try(ask(context, hold, reason="x"))

    async def _try(self, asked: Any) -> None:
        with suppress(UsageError, InputRejected):
            await asked

    def point(self, fraction: float) -> str:
        return f"#{list(self.rests)[int(fraction * len(self.rests))]}"

    # --- What must hold ---------------------------------------------------------------------------------------------

    async def check_as_of(self) -> None:
        """The log as of each rest tells what every node had then."""
        for position, files in list(self.rests.items())[1:]:
            snapshot = await self.fleet.world.context.snapshot(position)
            found = {node: await self._told(snapshot, node) for node in files}
            assert found == files, position

    async def _told(self, snapshot: Snapshot, node: str) -> dict[str, bytes]:
        """What its receipt proved over its base, which must be what is wanted of it."""
        state = snapshot.table(NODE_STATES)[FLEET, node]
        wanted = next(str(found.wanted) for found in fleet_status(FLEET, snapshot.rows).nodes if found.name == node)
        assert state["files"] == wanted
        file_set = decode_file_set((await self.fleet.world.context.blobs.get([wanted]))[wanted])
        names = {path: name for path, name in state["base_files"].items() if name}
        names |= {entry.path: entry.sha256 for entry in file_set.entries}
        contents = await self.fleet.world.context.blobs.get(names.values())
        return {path: contents[name] for path, name in names.items()}

    async def check_rollback(self, fraction: float) -> None:
        """Back to a rest, with nothing but the log and the nodes."""
        to = self.point(fraction)
        self.fleet.source.gone = True
        self.fleet.world.context.contents.clear()
        with (
            patch("reconciler.stages.project.render", _absent),
            patch("reconciler.stages.rollback.render", _absent),
        ):
            done = await commands.rollback(self.fleet.world.context, to=to, reason="x")
            await self._rest()
        assert done["renderedAnew"] == []
        assert self.fleet.now() == self.rests[int(to.removeprefix("#"))]

    async def check_replay(self) -> None:
        log = self.fleet.world.log
        live = deepcopy((log.rows, log.past))
        await self.fleet.world.reads.rebuild()
        assert (log.rows.now, log.rows.since) == (live[0].now, live[0].since)
        assert sorted(map(repr, log.past)) == sorted(map(repr, live[1]))
        assert (await log.verify()).problems == ()


def _absent(*_: object, **__: object) -> NoReturn:
    raise AssertionError("rendered")


async def _history(taken: Sequence[Step], fraction: float) -> None:
    with TemporaryDirectory() as directory:
        past = Past(Fleet.begin(Path(directory)))
        await past.live(taken)
        await past.check_rollback(fraction)
        await past.check_as_of()
        await past.check_replay()


async def test_a_history_rolls_back_at_all(tmp_path: Path) -> None:
    """The histories are no empty ones: contents differ, and a hold begins."""
    past = Past(Fleet.begin(tmp_path))
    await past.live([("commit", "image.yaml", "b"), ("commit", "sites/eu/m.yaml", None)])
    await past.check_rollback(0.3)
    assert len({repr(files) for files in past.rests.values()}) == 4
    (rolled,) = await past.fleet.world.log.read(EventFilter(types=("RolledBack",)))
    assert isinstance(rolled.body, RolledBack)
    assert len(rolled.body.entries) == 2


commits = st.sampled_from(sorted(CONTENTS)).flatmap(
    lambda path: st.tuples(st.just("commit"), st.just(path), st.sampled_from([*CONTENTS[path], *CONTENTS[path], None]))
)
fractions = st.floats(0, 1, exclude_max=True)
scopes = st.sampled_from(["", "", "pool:eu", "pool:us", "node:eu-1", "node:us-1", "resource:Image/cluster"])
rollbacks = st.tuples(st.just("rollback"), fractions, scopes, st.booleans())
words = st.tuples(st.sampled_from(["undo", "lift"]), fractions)
histories = st.lists(st.one_of(commits, commits, commits, rollbacks, words), min_size=2, max_size=8)


@example([("commit", "image.yaml", "b"), ("rollback", 0.0, "node:eu-1", False), ("commit", "image.yaml", "c")], 0.7)
@example([("commit", "image.yaml", "b"), ("rollback", 0.0, "", False), ("lift", 0.0)], 0.5)
@example([("commit", "n.yaml", "c"), ("rollback", 0.0, "", False)], 0.4)
@example([], 0.0)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories, fractions)
def test_bytes(taken: Sequence[Step], fraction: float) -> None:
    asyncio.run(_history(taken, fraction))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories, fractions)
def test_bytes_of_200_histories(taken: Sequence[Step], fraction: float) -> None:
    asyncio.run(_history(taken, fraction))
