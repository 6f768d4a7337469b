"""What a rollback restored, written to the config repository as a branch: documents, not files; merged, it ends."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from reconciler import commands
from reconciler.errors import InputRejected, SourceError, UsageError
from reconciler.ports import EventFilter
from reconciler.transport.memory import MemoryTransport
from tests.world import ManualClock, MemoryWorld, image, make_world, mirrors, site

GOOD, BAD = image(blockedRegistries=["good.corp"]), image(blockedRegistries=["bad.corp"])
OTHERS = f"# what stands here stays\n{dedent(mirrors('one', 'quay.io/one', 'mirror.corp/one'))}"
"""In one file with the Image."""


@pytest.fixture
async def world(tmp_path: Path) -> MemoryWorld:
    """Two commits: the Image in a file of two documents, and a mirror set of its own, are good; then both are bad."""
    clock = ManualClock()
    world = make_world(tmp_path, MemoryTransport(clock), clock)
    good = {"all.yaml": f"{OTHERS}---\n{GOOD}", "two.yaml": mirrors("two", "quay.io/two", "mirror.corp/two")}
    world.repository.commit({**site("eu"), **site("us"), **good}, "Good")
    await world.sync()
    bad = {"all.yaml": f"{OTHERS}---\n# the new list\n{BAD}", "two.yaml": None}
    world.repository.commit({**bad, "new.yaml": mirrors("new", "quay.io/new", "mirror.corp/new")}, "Bad")
    await world.sync()
    return world


async def _back(world: MemoryWorld, pool: str | None = None) -> str:
    done = await commands.rollback(world.context, to="previous", reason="the new list", pool=pool)
    await world.sync()
    return str(done["hold"])


async def test_the_branch_says_what_was_restored_and_merged_it_ends_the_hold(world: MemoryWorld) -> None:
    hold = await _back(world)
    head = world.repository.git("rev-parse", "main")

    done = await commands.push_revert(world.context, hold, "take-back")

    git = world.repository.git
    assert git("rev-parse", "take-back") == done["commit"]
    assert (done["files"], git("rev-parse", "take-back^")) == (["all.yaml", "new.yaml", "two.yaml"], head)
    assert git("diff", "--name-status", "main", "take-back").split() == [
        "M",
        "all.yaml",
        "D",
        "new.yaml",
        "A",
        "two.yaml",
    ]
    text = git("show", "take-back:all.yaml")
    assert text == git("show", "main:all.yaml").replace("bad.corp", "good.corp")
    message = git("log", "-1", "--format=%an <%ae>%n%B", "take-back")
    (rolled,) = await world.log.read(EventFilter(types=("RolledBack",)))
    position = getattr(rolled.body, "position")  # noqa: B009  of this type of event
    assert message.splitlines()[:2] == ["alice <alice@test>", f"Roll back to #{position}: the new list"]
    assert f"Reconciler-Hold: {hold}" in message
    assert (await world.types())[-1] == "RevertPushed"
    git("merge", "--quiet", "take-back")
    assert (await world.sync()).exit_code == 0
    assert (await world.status()).holds == ()


async def test_nothing_is_forced_and_the_fleets_own_branch_is_left_alone(world: MemoryWorld) -> None:
    hold = await _back(world)
    world.repository.git("branch", "taken", "main~1")
    for branch, error in (("taken", SourceError), ("main", UsageError), ("bad name", UsageError)):
        with pytest.raises(error):
            await commands.push_revert(world.context, hold, branch)
    assert world.repository.git("rev-parse", "taken") == world.repository.git("rev-parse", "main~1")
    assert "RevertPushed" not in await world.types()


async def test_a_server_that_refuses_is_named(world: MemoryWorld) -> None:
    hold = await _back(world)
    hook = world.repository.directory / ".git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(SourceError, match="the Git server refused the push"):
        await commands.push_revert(world.context, hold, "take-back")


async def test_without_git_the_rollback_stands(world: MemoryWorld, tmp_path: Path) -> None:
    world.repository.directory.rename(tmp_path / "gone")
    hold = await _back(world)
    with pytest.raises(SourceError):
        await commands.push_revert(world.context, hold, "take-back")
    assert (await world.status()).holds == (hold,)
    assert (await world.status()).converged


async def test_what_a_commit_would_change_for_others_too_is_not_pushed(world: MemoryWorld) -> None:
    hold = await _back(world, pool="eu")
    with pytest.raises(UsageError, match="is held for pool eu alone, and a commit would change it for eu, us"):
        await commands.push_revert(world.context, hold, "take-back")


async def test_what_git_says_already_is_not_pushed(world: MemoryWorld) -> None:
    hold = await _back(world)
    world.repository.git("revert", "--no-edit", "HEAD")
    with pytest.raises(UsageError, match="nothing to push"):
        await commands.push_revert(world.context, hold, "take-back")


async def test_an_item_of_a_list_is_left_to_a_person(world: MemoryWorld) -> None:
    hold = await _back(world)
    items = [yaml.safe_load(text) for text in (BAD, mirrors("one", "quay.io/one", "mirror.corp/one"))]
    listed = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})
    world.repository.commit({"all.yaml": listed}, "One list")
    with pytest.raises(InputRejected, match="cannot be written beside the rest of its file"):
        await commands.push_revert(world.context, hold, "take-back")
