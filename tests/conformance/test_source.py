"""ports.Source, of a real repository and of the one in memory: which commits a signature is asked of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.ports import EventFilter, Source
from reconciler.source.git_source import GitSource
from reconciler.transport.memory import MemoryTransport
from tests.world import IMAGE, ManualClock, Repository, ScriptedSource, make_world

Linear = tuple[Source, list[str]]
"""A source, and its commits in order; nobody signed them."""


def _of_git(directory: Path) -> Linear:
    repository = Repository(directory / "config")
    names = [repository.commit({"image.yaml": IMAGE}, f"{number}") for number in range(4)]
    return GitSource(str(repository.directory), "main", ".", directory / "mirror.git", 30), names


def _in_memory(_: Path) -> Linear:
    source = ScriptedSource(unsigned={0, 1, 2, 3})
    for _number in range(4):
        source.commit({"image.yaml": IMAGE})
    return source, [commit.sha for commit, _ in source.history]


@pytest.fixture(params=[_of_git, _in_memory])
def linear(request: pytest.FixtureRequest, tmp_path: Path) -> Linear:
    make: Callable[[Path], Linear] = request.param
    return make(tmp_path)


async def asked(source: Source, since: str | None, commit: str) -> list[str]:
    found = await source.signatures(since, commit)
    assert {signature.verdict for signature in found} == {"unsigned"}
    return [signature.commit for signature in found]


async def test_a_commit_and_what_it_brings_are_judged_oldest_first(linear: Linear) -> None:
    source, names = linear
    await source.head()
    assert await asked(source, names[0], names[3]) == names[1:]
    assert await asked(source, names[2], names[3]) == names[3:]


async def test_alone_where_nothing_came_before_or_nothing_came_after(linear: Linear) -> None:
    source, names = linear
    await source.head()
    assert await asked(source, None, names[3]) == names[3:]
    assert await asked(source, "0" * 40, names[3]) == names[3:]
    assert await asked(source, names[3], names[3]) == names[3:]
    assert await asked(source, names[3], names[1]) == [names[1]]


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=3), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_nothing_follows_an_unsigned_commit(pushes: list[list[bool]]) -> None:
    """`pushes`: whether each commit is signed, as they arrive together."""
    with TemporaryDirectory() as directory:
        clock = ManualClock()
        world = make_world(Path(directory), MemoryTransport(clock), clock)
        source = ScriptedSource()
        demanding = replace(world.context.fleet, verify="required")
        world.context = replace(world.context, source=source, fleet=demanding)
        for push in pushes:
            for signed in push:
                if not signed:
                    source.unsigned.add(len(source.history))
                source.commit({"image.yaml": IMAGE})
            await world.run()
        accepted = await world.log.read(EventFilter(types=("CommitAccepted",)))
    names = [commit.sha for commit, _ in source.history]
    assert [event.columns["commit"] for event in accepted] == _expected(pushes, names)


def _expected(pushes: list[list[bool]], names: list[str]) -> list[str]:
    """Recorded are the newest commit of the first push, and all later ones. Until one is accepted, each is judged
    alone; from then on, with all since."""
    every = [signed for push in pushes for signed in push]
    found: list[str] = []
    for number in range(len(pushes[0]) - 1, len(every)):
        if every[number] and (not found or names[number - 1] == found[-1]):
            found.append(names[number])
    return found
