"""node.sh killed at every rename, and power lost: never a torn or unloadable set, and the next verb ends the matter."""

from __future__ import annotations

import json
import shlex
import shutil
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.errors import NodeUnreachable
from reconciler.ports import LogHead
from reconciler.transport.sandbox import SandboxNode, put_program
from tests.conformance.transport import ACTED, CA, DROP_IN, MAIN, POLICY, apply, manifest, observe, on_disk, revert
from tests.nodes import DirectoryRig, LocalRig, one_node, rig_of

OLD = {
    MAIN: b'unqualified-search-registries = ["old.example.com"]\n',
    POLICY: b'{"default": [{"type": "reject"}]}\n',
    DROP_IN: b'unqualified-search-registries = ["old.example.com"]\n',
    CA: b"old\n",
}
NEW = {
    MAIN: b'unqualified-search-registries = ["new.example.com"]\n',
    POLICY: b'{"default": [{"type": "insecureAcceptAnything"}]}\n',
    DROP_IN: b'unqualified-search-registries = ["new.example.com"]\n',
    CA: b"new\n",
}

TRAP = """#!/bin/sh
# Stands before {real}: when its hour has come, node.sh dies, as by kill -9 or a power cut; parents first, so that
# none sees its child die.
{condition} || exec {real} "$@"
{after}
pid=$PPID victims=
while :; do
    case $(tr '\\0' ' ' </proc/$pid/cmdline) in
        *node.sh*|*timeout*) victims="$pid $victims" ;;
        *) break ;;
    esac
    while read -r key value; do [ "$key" != PPid: ] || parent=$value; done </proc/$pid/status
    pid=$parent
done
kill -9 $victims
"""

NTH_RENAME = """
for to; do :; done
due() {{
    case $to in
        ./etc/*) ;;
        *) return 1 ;;
    esac
    count=$(cat {counter} 2>/dev/null)
    count=$((count + 1))
    echo $count >{counter}
    [ $count = {nth} ]
}}
due"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNode]:
    yield from one_node(tmp_path_factory.mktemp("sshd"))


@pytest.fixture(params=["ash", "bash", "sshd"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DirectoryRig]:
    async for rig in rig_of(request.param, request, tmp_path):
        yield rig


def seen_inside(rig: DirectoryRig, path: str) -> str:
    """A path as the node's own programs name it, quoted."""
    return shlex.quote(str(rig.at(path)) if isinstance(rig, LocalRig) else path)


def trap(rig: DirectoryRig, program: str, condition: str, *, after: bool = False) -> None:
    """From now on node.sh dies when it calls `program` and the condition holds: instead of the call or after it."""
    place = rig.at(f"/usr/local/bin/{program}")
    real = shlex.quote(shutil.which(program, path="/usr/bin:/bin") or "")
    if place.exists():
        place.rename(place.with_name(f"{program}.real"))
        real = seen_inside(rig, f"/usr/local/bin/{program}.real")
    put_program(place, TRAP.format(real=real, condition=condition, after=f'{real} "$@"' if after else ""))


def trap_rename(rig: DirectoryRig, nth: int, *, after: bool = False) -> None:
    """Node.sh dies at its nth rename of a managed file."""
    rig.at("/run/renames").unlink(missing_ok=True)
    trap(rig, "mv", NTH_RENAME.format(nth=nth, counter=seen_inside(rig, "/run/renames")), after=after)


def spring(rig: DirectoryRig) -> None:
    """Take all traps away."""
    for program in ("mv", "rm", "sync", "systemctl", "journalctl"):
        place = rig.at(f"/usr/local/bin/{program}")
        real = place.with_name(f"{program}.real")
        if real.exists():
            real.rename(place)
        elif program in ("mv", "rm", "sync"):
            place.unlink(missing_ok=True)


def assert_loadable(rig: DirectoryRig) -> None:
    """Each file is the old or the new one, whole, and what the runtime parses parses."""
    for path in OLD:
        assert rig.read(path) in (OLD[path], NEW[path])
    for path in (MAIN, DROP_IN):
        tomllib.loads((rig.read(path) or b"").decode())
    json.loads(rig.read(POLICY) or b"")


def leftovers(rig: DirectoryRig) -> list[str]:
    return [str(place) for place in rig.at("/etc").rglob("*.reconciler")]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_killed_between_the_renames(rig: DirectoryRig, nth: int, after: bool) -> None:
    await apply(rig, "s1", OLD)
    trap_rename(rig, nth, after=after)
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", NEW)
    spring(rig)
    assert_loadable(rig)
    assert sum(rig.read(path) == NEW[path] for path in NEW) == nth - (not after)
    seen = await observe(rig, *OLD)
    assert seen.owner is not None
    assert (seen.owner.step, seen.owner.generation) == ("s1", 1)
    assert on_disk(rig, OLD) == OLD
    assert leftovers(rig) == []
    assert rig.actions() == [ACTED]
    done = await apply(rig, "s2", NEW)
    assert (done.result, done.manifest) == ("applied", manifest(NEW))
    assert rig.actions() == [ACTED] * 2


async def test_killed_on_the_very_first_change(rig: DirectoryRig) -> None:
    rig.put(MAIN, OLD[MAIN], 0o600)
    trap_rename(rig, 3)
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s1", NEW)
    spring(rig)
    done = await apply(rig, "s2", {}, restore=tuple(NEW))
    assert done.result == "same"
    assert on_disk(rig, NEW) == {MAIN: OLD[MAIN], POLICY: None, DROP_IN: None, CA: None}
    assert rig.mode(MAIN) == 0o600
    assert leftovers(rig) == []
    assert not rig.at("/etc/docker").exists()
    assert rig.actions() == []


@pytest.mark.parametrize("after", [False, True])
async def test_killed_around_the_first_baseline(rig: DirectoryRig, after: bool) -> None:
    """What is put aside before the journal counts only once it is in place, and then for good."""
    rig.put(MAIN, OLD[MAIN], 0o600)
    trap(rig, "mv", 'case "$*" in *staging/manifest*) ;; *) false ;; esac', after=after)
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s1", NEW)
    spring(rig)
    assert (rig.state / "baseline/manifest").exists() == after
    assert on_disk(rig, NEW) == {MAIN: OLD[MAIN], POLICY: None, DROP_IN: None, CA: None}
    assert (await observe(rig, *NEW)).owner is None
    assert (await apply(rig, "s1", NEW)).result == "applied"
    assert (await apply(rig, "s2", {}, restore=tuple(NEW))).result == "applied"
    assert on_disk(rig, NEW) == {MAIN: OLD[MAIN], POLICY: None, DROP_IN: None, CA: None}
    assert rig.mode(MAIN) == 0o600
    assert not rig.at("/etc/docker").exists()


@pytest.mark.parametrize("acted", [False, True])
async def test_killed_around_the_action(rig: DirectoryRig, acted: bool) -> None:
    """Before the action is journaled it may be repeated, once; never the write."""
    await apply(rig, "s1", OLD)
    trap(rig, "systemctl", '[ "$1" = reload ]', after=acted)
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", NEW, head=LogHead(9, "a" * 64))
    spring(rig)
    assert on_disk(rig, NEW) == NEW
    before = rig.fingerprint()
    seen = await observe(rig, *NEW)
    assert seen.owner is not None
    assert (seen.owner.step, seen.owner.generation, seen.owner.head) == ("s2", 2, LogHead(9, "a" * 64))
    done = await apply(rig, "s2", NEW)
    assert (done.result, done.manifest, done.loaded) == ("applied", manifest(NEW), True)
    assert set(done.written) == set(NEW)
    assert rig.fingerprint() == before
    assert rig.actions() == [ACTED] * (3 if acted else 2)


async def test_killed_after_the_action_was_journaled(rig: DirectoryRig) -> None:
    await apply(rig, "s1", OLD)
    trap(rig, "journalctl", 'case "$*" in *cursor=*) ;; *) false ;; esac')
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", NEW)
    spring(rig)
    done = await apply(rig, "s2", NEW)
    assert (done.result, done.manifest, done.loaded) == ("applied", manifest(NEW), True)
    assert rig.actions() == [ACTED] * 2


async def test_killed_while_the_old_files_are_put_back(rig: DirectoryRig) -> None:
    await apply(rig, "s1", OLD)
    rig.refuse_text("new.example.com")
    trap_rename(rig, 6)
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", NEW)
    spring(rig)
    assert_loadable(rig)
    done = await apply(rig, "s2", NEW)
    assert (done.result, done.reason, done.manifest) == ("reverted", "reload-failed", manifest(OLD))
    assert on_disk(rig, OLD) == OLD
    assert (await observe(rig, *OLD)).files[MAIN].content == OLD[MAIN]


async def test_killed_while_a_removed_ca_waits(rig: DirectoryRig) -> None:
    """CAs go last, after the action: killed before, the next verb removes them."""
    await apply(rig, "s1", OLD)
    trap(rig, "journalctl", 'case "$*" in *cursor=*) ;; *) false ;; esac')
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", {MAIN: NEW[MAIN]}, restore=(CA,))
    spring(rig)
    assert rig.read(CA) == OLD[CA]
    await observe(rig, CA)
    assert rig.read(CA) is None
    assert not rig.at("/etc/docker").exists()


async def test_power_loss_between_the_renames(rig: DirectoryRig) -> None:
    """The runtime may have started on half a set: after the undo it is told to load the whole one."""
    await apply(rig, "s1", OLD)
    trap_rename(rig, 3)
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", NEW)
    spring(rig)
    rig.power_cycle()
    seen = await observe(rig, *OLD)
    assert on_disk(rig, OLD) == OLD
    assert seen.owner is not None
    assert seen.owner.generation == 1
    assert rig.actions() == [ACTED] * 2


async def test_power_loss_before_the_answer(rig: DirectoryRig) -> None:
    await apply(rig, "s1", OLD)
    trap(rig, "systemctl", '[ "$1" = reload ]', after=True)
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", NEW)
    spring(rig)
    rig.power_cycle()
    done = await apply(rig, "s2", NEW)
    assert (done.result, done.manifest) == ("applied", manifest(NEW))
    assert rig.actions() == [ACTED] * 3


async def test_killed_between_the_journal_and_the_stamp(rig: DirectoryRig) -> None:
    """The node has seen the request, and nothing of it counts."""
    await apply(rig, "s1", OLD)
    trap(rig, "mv", 'case "$*" in *staging/journal*) /bin/mv -f "$2" "$4" ;; *) false ;; esac')
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", NEW, fence=7)
    spring(rig)
    assert (rig.state / "journal").exists()
    seen = await observe(rig, *OLD)
    assert not (rig.state / "journal").exists()
    assert seen.owner is not None
    assert (seen.owner.step, seen.owner.generation, seen.owner.fence) == ("s1", 1, 7)
    assert on_disk(rig, OLD) == OLD
    assert not (rig.state / "staging/journal").exists()
    done = await apply(rig, "s2", NEW, fence=7)
    assert (done.result, done.manifest) == ("applied", manifest(NEW))
    assert rig.actions() == [ACTED] * 2


@pytest.mark.parametrize("moved", [":", '/bin/mv "$2" "${10}"', '/bin/mv "$2" "$3" "$4" "$5" "$6" "$7" "${10}"'])
async def test_killed_while_the_replaced_files_are_kept(rig: DirectoryRig, moved: str) -> None:
    """The next verb keeps the rest of them, so that the change can be reverted."""
    await apply(rig, "s1", OLD)
    await apply(rig, "s2", NEW)
    trap(rig, "mv", f'case "$*" in *journal/old*) {moved} ;; *) false ;; esac')
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s3", OLD)
    spring(rig)
    assert (await apply(rig, "s3", OLD)).result == "applied"
    assert not (rig.state / "journal").exists()
    assert rig.actions() == [ACTED] * 3
    assert (await revert(rig, "s4")).result == "reverted"
    assert on_disk(rig, NEW) == NEW


FULL = """#!/bin/sh
[ "$1" = reload ] || exec /usr/local/bin/systemctl.real "$@"
dd if=/dev/zero of=/var/.filler bs=512 2>/dev/null
exit 1
"""


@pytest.mark.parametrize("rig", ["sshd"], indirect=True)
async def test_a_disk_that_is_full_when_the_old_files_are_put_back(rig: DirectoryRig) -> None:
    """The node says which generation it has."""
    await apply(rig, "s1", OLD)
    systemctl = rig.at("/usr/local/bin/systemctl")
    systemctl.rename(f"{systemctl}.real")
    put_program(systemctl, FULL)
    done = await apply(rig, "s2", NEW)
    rig.at("/var/.filler").unlink()
    spring(rig)
    assert (done.result, done.reason, done.generation) == ("reverted", "reload-failed", 1)
    assert on_disk(rig, OLD) == OLD
    seen = await observe(rig, *OLD)
    assert seen.owner is not None
    assert seen.owner.generation == 1


async def test_files_replaced_by_an_older_change_are_not_kept(rig: DirectoryRig) -> None:
    await apply(rig, "s1", OLD)
    await apply(rig, "s2", NEW)
    await apply(rig, "s3", {**NEW, MAIN: OLD[MAIN]})
    kept = [place for place in (rig.state / "previous").iterdir() if place.name.isdigit()]
    assert [place.read_bytes() for place in kept] == [NEW[MAIN]]
    assert (await revert(rig, "s4")).result == "reverted"
    assert on_disk(rig, NEW) == NEW


@pytest.mark.parametrize("left", ["", '{"protocol":1,"result":"applied"'])
async def test_power_loss_while_the_receipt_is_stored(rig: DirectoryRig, left: str) -> None:
    """What stands there of it ends no step."""
    await apply(rig, "s1", OLD)
    trap(rig, "sync", f'case $* in *receipts/s2*) printf %s {shlex.quote(left)} >"$1" ;; *) false ;; esac')
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", NEW)
    spring(rig)
    assert (rig.state / "receipts/s2").read_text() == left
    rig.power_cycle()
    seen = await observe(rig, *NEW)
    assert seen.owner is not None
    assert (seen.owner.step, seen.owner.generation) == ("s2", 2)
    done = await apply(rig, "s2", NEW)
    assert (done.result, done.manifest) == ("applied", manifest(NEW))
    assert (rig.state / "receipts/s2").read_text().endswith("}\n")
    assert rig.actions() == [ACTED] * 2


async def test_killed_while_the_journal_is_removed(rig: DirectoryRig) -> None:
    await apply(rig, "s1", OLD)
    trap(rig, "rm", 'case "$*" in *journal/request*) /bin/rm "$2" ;; *) false ;; esac')
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", NEW)
    spring(rig)
    assert (rig.state / "journal/state").exists()
    done = await apply(rig, "s2", NEW)
    assert (done.result, done.manifest) == ("applied", manifest(NEW))
    assert not (rig.state / "journal").exists()
    assert rig.actions() == [ACTED] * 2
    assert on_disk(rig, NEW) == NEW
    assert (await revert(rig, "s3")).result == "reverted"
    assert on_disk(rig, OLD) == OLD
