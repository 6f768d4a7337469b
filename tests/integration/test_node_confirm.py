"""Changes that undo themselves, nodes that are given back: by the node's own time, over kills and reboots, by hand."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.errors import NodeUnreachable
from reconciler.ports import LogHead, Owner
from reconciler.transport.sandbox import SandboxNode, wait_for
from tests.conformance.transport import ACTED, CA, DROP_IN, FIRST, MAIN, POLICY, SECOND, apply, observe, on_disk, revert
from tests.conformance.verbs import adopted, confirm, release
from tests.integration.test_node_crash import leftovers, seen_inside, spring, trap
from tests.nodes import DirectoryRig, LocalRig, SshRig, one_node, rig_of, shell

OWN = {MAIN: b"mine\n", POLICY: None, DROP_IN: None, CA: None}
HOUR = 3600

NTH_CALL = """
count=$(cat {counter} 2>/dev/null)
count=$((count + 1))
echo $count >{counter}
[ $count = {nth} ]"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNode]:
    yield from one_node(tmp_path_factory.mktemp("sshd"))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[LocalRig]:
    rig = LocalRig(tmp_path / "root", shell("dash", tmp_path / "bin"))
    yield rig
    if (rig.state / "pending").exists():
        (rig.state / "pending").rename(rig.state / "dropped")  # ends its timer
    await rig.transport.close()


@pytest.fixture(params=["busybox", "sshd"])
async def each(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DirectoryRig]:
    async for rig in rig_of(request.param, request, tmp_path):
        yield rig


def operate(rig: DirectoryRig, *words: str) -> subprocess.CompletedProcess[str]:
    if isinstance(rig, SshRig):
        return rig.node.run("sh", "/var/lib/reconciler/node.sh", *words)
    return subprocess.run(["sh", rig.state / "node.sh", *words], capture_output=True, text=True, check=False)


# --- The node's own time --------------------------------------------------------------------------------------------


async def test_the_node_undoes_it_without_being_asked(each: DirectoryRig) -> None:
    """The connection is gone, no verb follows: only the timer on the node is left."""
    await adopted(each)
    done = await apply(each, "s2", SECOND, confirm=1, head=LogHead(9, "a" * 64))
    await each.transport.close()
    assert done.confirm_by
    wait_for(lambda: (each.state / "receipts/s2").exists() and not (each.state / "pending").exists(), "still pending")
    wait_for(lambda: not (each.state / "journal").exists(), "still being undone")
    assert on_disk(each, FIRST) == FIRST
    assert each.actions() == [ACTED] * 3
    seen = await observe(each, MAIN)
    assert seen.reverted == "s2"
    assert seen.owner is not None
    assert seen.owner.head == LogHead(9, "a" * 64)


async def test_the_node_ends_a_change_that_died_in_the_middle(rig: LocalRig) -> None:
    """The files stand, the action was not done, nobody comes again: the timer ends the change, then undoes it."""
    await adopted(rig)
    trap(rig, "systemctl", '[ "$1" = reload ]')
    with pytest.raises(NodeUnreachable):
        await apply(rig, "s2", SECOND, confirm=1)
    spring(rig)
    assert on_disk(rig, FIRST) == SECOND
    wait_for(lambda: on_disk(rig, FIRST) == FIRST, "the change still stands")
    assert (await confirm(rig, "s2")).reason == "unconfirmed"


async def test_systemd_keeps_the_time_where_it_runs(rig: LocalRig) -> None:
    """A session may be ended with all it started: the timer is no child of it then."""
    rig.at("/run/systemd/system").mkdir(parents=True)
    rig.put_command("systemd-run", f'printf "%s\\n" "$*" >{rig.etc}/asked')
    await apply(rig, "s1", FIRST, confirm=HOUR)
    asked = rig.at("/etc/asked").read_text().split()
    program = str(rig.state / "node.sh")
    assert asked == ["--quiet", "--collect", "--unit=reconciler-confirm-s1", "sh", program, "timer", "s1", str(HOUR)]


def set_uptime(rig: LocalRig, seconds: int) -> None:
    rig.put("/proc/uptime", b"%d.51 17.2\n" % seconds)


@pytest.mark.parametrize(
    ("boot", "uptime", "clock", "undone"),
    [
        ("same", 1000 + HOUR - 1, "later", False),
        ("same", 1000 + HOUR, "before", True),
        ("same", 1000 + HOUR, "as-it-is", True),
        ("other", 5, "as-it-is", False),
        ("other", 5, "later", True),
        ("other", 5, "before", True),
    ],
)
async def test_no_clock_keeps_a_change_pending_for_ever(
    rig: LocalRig, boot: str, uptime: int, clock: str, undone: bool
) -> None:
    """Within one boot the wall clock, which anybody may set, is not asked; after another one it must not run back."""
    set_uptime(rig, 1000)
    rig.put("/proc/sys/kernel/random/boot_id", b"same\n")
    await apply(rig, "s1", FIRST, confirm=HOUR)
    set_uptime(rig, uptime)
    rig.put("/proc/sys/kernel/random/boot_id", f"{boot}\n".encode())
    now = int(time.time()) + {"as-it-is": 0, "later": 2 * HOUR, "before": -HOUR}[clock]
    rig.put_command("date", f'[ "$*" = +%s ] && echo {now} || exec /bin/date "$@"')
    assert (await observe(rig, MAIN)).pending == ("" if undone else "s1")
    assert rig.read(MAIN) == (None if undone else FIRST[MAIN])


async def test_a_reboot_does_not_make_it_final(node: SandboxNode) -> None:
    """The timer is gone with the reboot; the first verb after the time makes up for it."""
    rig = SshRig(node)
    await adopted(rig)
    await apply(rig, "s2", SECOND, confirm=HOUR)
    rig.power_cycle()
    assert (await observe(rig, MAIN)).pending == "s2"
    rig.expire()
    assert (await observe(rig, MAIN)).reverted == "s2"
    assert on_disk(rig, FIRST) == FIRST
    await rig.transport.close()


async def test_a_full_disk_does_not_keep_the_new_files(node: SandboxNode) -> None:
    rig = SshRig(node)
    await adopted(rig)
    await apply(rig, "s2", SECOND, confirm=HOUR)
    rig.expire()
    rig.node.fill("/var")
    await observe(rig, MAIN)
    assert on_disk(rig, FIRST) == FIRST
    rig.node.free()
    assert (await confirm(rig, "s2")).reason == "unconfirmed"
    await rig.transport.close()


# --- Killed at every rename -----------------------------------------------------------------------------------------


def trap_nth(rig: DirectoryRig, program: str, nth: int) -> None:
    """Node.sh dies right after its nth call of `program`."""
    rig.at("/run/calls").unlink(missing_ok=True)
    trap(rig, program, NTH_CALL.format(counter=seen_inside(rig, "/run/calls"), nth=nth), after=True)


def untrap(rig: DirectoryRig, program: str) -> None:
    rig.at(f"/usr/local/bin/{program}").unlink()


@pytest.mark.parametrize("nth", range(1, 5))
async def test_killed_while_confirming(rig: LocalRig, nth: int) -> None:
    await adopted(rig)
    await apply(rig, "s2", SECOND, confirm=HOUR)
    trap_nth(rig, "mv", nth)
    with pytest.raises(NodeUnreachable):
        await confirm(rig, "s2")
    untrap(rig, "mv")
    before = rig.fingerprint()
    assert (await observe(rig, MAIN)).pending == ("s2" if nth == 1 else "")
    assert (await confirm(rig, "s2")).result == "confirmed"
    assert rig.fingerprint() == before
    await revert(rig, "s3")
    assert on_disk(rig, FIRST) == FIRST


@pytest.mark.parametrize("nth", range(1, 9))
async def test_killed_while_undoing(rig: LocalRig, nth: int) -> None:
    await adopted(rig)
    await apply(rig, "s2", SECOND, confirm=HOUR)
    rig.expire()
    trap_nth(rig, "mv", nth)
    with pytest.raises(NodeUnreachable):
        await observe(rig, MAIN)
    untrap(rig, "mv")
    for path in FIRST:
        assert rig.read(path) in (FIRST[path], SECOND[path])
    late = await confirm(rig, "s2")
    assert (late.result, late.reason, late.generation) == ("reverted", "unconfirmed", 1)
    assert (on_disk(rig, FIRST), leftovers(rig)) == (FIRST, [])
    await revert(rig, "s3")
    assert on_disk(rig, FIRST) == OWN


@pytest.mark.parametrize(
    ("program", "nth"), [("mv", nth) for nth in (1, 2, 6, 7, 8)] + [("sync", nth) for nth in (3, 4, 5)]
)
async def test_killed_while_a_revert_undoes(rig: LocalRig, program: str, nth: int) -> None:
    """Exactly one generation is gone afterwards, whenever it died."""
    await adopted(rig)
    await apply(rig, "s2", SECOND, confirm=HOUR)
    trap_nth(rig, program, nth)
    with pytest.raises(NodeUnreachable):
        await revert(rig, "s3", fence=2)
    untrap(rig, program)
    done = await revert(rig, "s3", fence=2)
    assert (done.result, done.step, done.reason) == ("reverted", "s3", "")
    assert on_disk(rig, FIRST) == FIRST
    seen = await observe(rig, MAIN)
    assert seen.owner is not None
    assert (seen.owner.step, seen.owner.fence, seen.pending) == ("s3", 2, "")


@pytest.mark.parametrize(
    ("restore", "program", "nth"),
    [(True, "mv", nth) for nth in range(1, 4)] + [(False, "mv", 1), (False, "mv", 2)]
    + [(restore, "rm", nth) for restore in (True, False) for nth in (1, 2)],
)  # fmt: skip
async def test_killed_while_releasing(rig: LocalRig, restore: bool, program: str, nth: int) -> None:
    await adopted(rig)
    trap_nth(rig, program, nth)
    with pytest.raises(NodeUnreachable):
        await release(rig, "s2", restore=restore)
    untrap(rig, program)
    finished = (rig.state / "released").exists()
    assert ((await observe(rig, MAIN)).owner is None) == finished
    done = await release(rig, "s2", restore=restore)
    assert (done.result, done.step) == ("released", "s2")
    assert on_disk(rig, FIRST) == (OWN if restore else FIRST)
    assert leftovers(rig) == []
    kept = {place.name for place in rig.state.iterdir()}
    assert kept == {"lock", "node.sh", "released"} | (set() if restore else {"archive"})
    assert (await observe(rig, MAIN)).released == Owner("log-1", 1, 1, 1, "s2")
    assert (await apply(rig, "s1", SECOND, log_id="log-2")).generation == 1


async def test_who_gave_it_back_is_told_of_a_release_by_an_older_program(rig: LocalRig) -> None:
    await adopted(rig)
    await release(rig, "s2")
    receipt, _, word = (rig.state / "released").read_text().splitlines()
    (rig.state / "released").write_text(f"{receipt}\n{word}\n")
    assert (await observe(rig, MAIN)).released == Owner("log-1", 1, 1, 1, "s2")


# --- On the host ----------------------------------------------------------------------------------------------------


async def test_an_operator_confirms(each: DirectoryRig) -> None:
    await adopted(each)
    assert operate(each, "confirm").returncode == 1
    await apply(each, "s2", SECOND, confirm=HOUR)
    assert "pending     s2: undone at 20" in operate(each, "status").stdout
    told = operate(each, "confirm")
    assert (told.returncode, told.stdout) == (0, "confirmed: s2\n")
    assert (await confirm(each, "s2")).result == "confirmed"
    assert "pending" not in operate(each, "status").stdout


async def test_an_operator_reverts_a_pending_change(rig: LocalRig) -> None:
    await adopted(rig)
    await apply(rig, "s2", SECOND, confirm=HOUR)
    assert operate(rig, "revert").returncode == 0
    assert on_disk(rig, FIRST) == FIRST
    assert (await confirm(rig, "s2")).reason == "unconfirmed"


@pytest.mark.parametrize("restore", [True, False])
async def test_an_operator_releases(each: DirectoryRig, restore: bool) -> None:
    """As for a cloned disk, or a log that is lost. A hold is the operator's, and stays."""
    each.put(MAIN, b"mine\n")
    await apply(each, "s1", FIRST)
    await apply(each, "s2", SECOND, confirm=HOUR)
    operate(each, "hold", "cloned")
    told = operate(each, "release", *(["--restore"] if restore else []))
    assert (told.returncode, told.stdout) == (0, "released (generation 1)\n")
    assert on_disk(each, FIRST) == (OWN if restore else FIRST)
    assert each.actions() == [ACTED] * (4 if restore else 3)
    assert operate(each, "release").returncode == 1
    assert (await apply(each, "s1", SECOND, log_id="log-2")).reason == "hold"
    operate(each, "resume")
    assert (await apply(each, "s1", SECOND, log_id="log-2")).result == "applied"
    archived = [place.read_bytes() for place in each.state.glob("archive/*/files/etc/containers/registries.conf")]
    assert archived == ([] if restore else [b"mine\n"])
