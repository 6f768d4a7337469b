"""What every node keeps to about health checks, confirmations, releases and hooks: one class for all transports."""

from __future__ import annotations

import pytest

from reconciler.errors import NodeRefused
from reconciler.ports import (
    ConfirmRequest,
    HealthCheck,
    HookRequest,
    HookResult,
    LogHead,
    Owner,
    Receipt,
    ReleaseRequest,
)
from tests.conformance.transport import (
    ACTED,
    CA,
    DROP_IN,
    FIRST,
    MAIN,
    POLICY,
    RELOAD,
    SECOND,
    apply,
    digest,
    manifest,
    observe,
    on_disk,
    revert,
)
from tests.nodes import Rig

PROBE = HealthCheck("probe", ("probe", "--deep", "", "two words"))
MINUTE = 60
OWN = {MAIN: b"mine\n", POLICY: None, DROP_IN: None, CA: None}
"""What `adopted` found on the node."""


async def confirm(rig: Rig, step: str, log_id: str = "log-1", fence: int = 1) -> Receipt:
    return await rig.transport.confirm(rig.target, ConfirmRequest(log_id, 1, fence, step, "crio"))


async def release(rig: Rig, step: str, *, restore: bool = False, log_id: str = "log-1", fence: int = 1) -> Receipt:
    request = ReleaseRequest(log_id, 1, fence, step, "crio", restore, RELOAD)
    return await rig.transport.release(rig.target, request)


async def hook(rig: Rig, *command: str, seconds: int = 30, **environment: str) -> HookResult:
    return await rig.transport.hook(rig.target, HookRequest("log-1", "s1", command, environment, seconds))


async def head_of(rig: Rig) -> LogHead:
    owner = (await observe(rig, MAIN)).owner
    assert owner is not None
    return owner.head


async def adopted(rig: Rig) -> None:
    """A node with a file of its own and our first generation over it."""
    rig.put(MAIN, b"mine\n", 0o600)
    await apply(rig, "s1", FIRST)


class VerbConformance:
    # --- Actions ----------------------------------------------------------------------------------------------------

    async def test_actions_are_done_in_the_given_order(self, rig: Rig) -> None:
        actions = ("daemon-reload", "restart:kubelet.service", "restart:crio.service")
        done = await apply(rig, "s1", FIRST, actions=actions)
        assert (done.result, done.action, done.loaded) == ("applied", " ".join(actions), True)
        assert rig.actions() == ["daemon-reload", "restart kubelet.service", "restart crio.service"]

    async def test_what_is_removed_comes_back_with_the_baseline(self, rig: Rig) -> None:
        stray = "/etc/containers/registries.conf.d/90-mine.conf"
        rig.put(stray, b"stray\n", 0o600)
        done = await apply(rig, "s1", FIRST, remove=(stray,))
        assert (done.result, done.restored) == ("applied", (stray,))
        assert done.manifest == manifest({**FIRST, stray: None})
        assert rig.read(stray) is None
        assert (await apply(rig, "s2", FIRST, remove=(stray,))).result == "same"
        assert (await release(rig, "s3", restore=True)).result == "released"
        assert (rig.read(stray), rig.mode(stray)) == (b"stray\n", 0o600)

    async def test_actions_alone_are_done_where_asked_for(self, rig: Rig) -> None:
        await adopted(rig)
        assert (await apply(rig, "s2", FIRST)).result == "same"
        assert rig.actions() == [ACTED]
        done = await apply(rig, "s3", FIRST, act=True, confirm=MINUTE)
        assert (done.result, done.action, done.generation, done.confirm_by) == ("same", RELOAD[0], 1, 0)
        assert (done.written, done.restored) == ((), ())
        assert await apply(rig, "s3", FIRST, act=True) == done
        assert rig.actions() == [ACTED, ACTED]
        assert (await revert(rig, "s4")).result == "reverted"  # the generation before is still kept
        assert on_disk(rig, FIRST) == OWN

    async def test_actions_alone_that_fail_change_no_file(self, rig: Rig) -> None:
        await adopted(rig)
        rig.set_reload("unable")
        done = await apply(rig, "s2", FIRST, act=True)
        assert (done.result, done.reason, done.generation) == ("reverted", "reload-failed", 1)
        assert on_disk(rig, FIRST) == FIRST

    async def test_a_failed_restart_puts_the_old_files_back(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        rig.refuse_restart()
        done = await apply(rig, "s2", SECOND, actions=("restart:crio.service",))
        assert (done.result, done.reason, done.active) == ("reverted", "restart-failed", "active")
        assert on_disk(rig, FIRST) == FIRST
        assert rig.actions() == [ACTED, "restart crio.service", "restart crio.service"]

    @pytest.mark.parametrize("action", ["stop:crio.service", "restart:-x.service", "reload:a;b.service", "reboot", ""])
    async def test_other_actions_are_refused(self, rig: Rig, action: str) -> None:
        with pytest.raises(NodeRefused, match="is no action"):
            await apply(rig, "s1", FIRST, actions=(action,))

    async def test_files_are_as_old_as_their_placing(self, rig: Rig) -> None:
        """What was loaded before it was placed can be told by its time."""
        await adopted(rig)
        seen = await observe(rig, *FIRST)
        assert seen.loaded_since >= max(file.mtime for file in seen.files.values())
        before = seen.files[MAIN].mtime
        await apply(rig, "s2", {}, restore=tuple(FIRST))
        assert (await observe(rig, MAIN)).files[MAIN].mtime >= before > 0

    # --- Looking ----------------------------------------------------------------------------------------------------

    async def test_the_owning_package_is_told_of_files_not_known(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n")
        rig.put(POLICY, b"{}")
        rig.set_package(MAIN, "containers-common")
        seen = await observe(rig, MAIN, POLICY)
        assert (seen.files[MAIN].package, seen.files[POLICY].package) == ("containers-common", "")
        assert (await observe(rig, **{MAIN: digest(b"mine\n")})).files[MAIN].package == ""

    async def test_what_the_runtime_reads_may_be_looked_at(self, rig: Rig) -> None:
        home = "/root/.config/containers/registries.conf"
        rig.put(home, b"x = 1\n")
        seen = await observe(rig, MAIN, home)
        assert (seen.files[home].content, seen.effective) == (b"x = 1\n", {})
        for path in ("/root/.config/containers/a.key", "/root/.ssh/id", "/etc/crio/crio.conf.d/../x"):
            with pytest.raises(NodeRefused, match="looked at"):
                await observe(rig, path)
        with pytest.raises(NodeRefused, match="managed"):
            await apply(rig, "s1", {home: b""})

    # --- Health checks ----------------------------------------------------------------------------------------------

    async def test_a_check_that_passes_changes_nothing(self, rig: Rig) -> None:
        rig.pass_check("probe")
        done = await apply(rig, "s1", FIRST, health=(PROBE, HealthCheck("image", image="quay.io/a/b:1")))
        assert (done.result, done.reason, done.check) == ("applied", "", "")

    async def test_a_check_that_fails_before_is_not_blamed_on_us(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        rig.fail_check("probe")
        before = rig.fingerprint()
        done = await apply(rig, "s2", SECOND, health=(PROBE,))
        assert (done.result, done.reason, done.check) == ("failed", "unhealthy-before", "probe")
        assert (rig.fingerprint(), rig.actions()) == (before, [ACTED])
        assert (await apply(rig, "s3", FIRST, health=(PROBE,))).result == "same"
        rig.pass_check("probe")
        assert (await apply(rig, "s2", SECOND, health=(PROBE,))).result == "applied"

    async def test_a_check_that_fails_after_puts_the_old_files_back(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        rig.fail_check("probe", "second")
        done = await apply(rig, "s2", SECOND, health=(PROBE,))
        assert (done.result, done.reason, done.check) == ("reverted", "health-check-failed", "probe")
        assert (done.generation, done.manifest, done.healthy_before) == (1, manifest(FIRST), True)
        assert on_disk(rig, FIRST) == FIRST
        assert rig.actions() == [ACTED] * 3
        assert await apply(rig, "s2", SECOND, health=(PROBE,)) == done

    @pytest.mark.parametrize(
        "check",
        [HealthCheck("no name", ("true",)), HealthCheck("a"), HealthCheck("a", ("true",), "quay.io/a"),
         HealthCheck("a", image="--all"), HealthCheck("a", ("",)), HealthCheck("a", ("x\0y",))],
    )  # fmt: skip
    async def test_what_is_no_check_is_refused(self, rig: Rig, check: HealthCheck) -> None:
        with pytest.raises(NodeRefused):
            await apply(rig, "s1", FIRST, health=(check,))

    # --- Confirmation -----------------------------------------------------------------------------------------------

    async def test_a_confirmed_change_stays(self, rig: Rig) -> None:
        await adopted(rig)
        done = await apply(rig, "s2", SECOND, confirm=MINUTE)
        assert (done.result, done.generation, done.confirm_by > 0) == ("applied", 2, True)
        assert (await observe(rig, MAIN)).pending == "s2"
        final = await confirm(rig, "s2")
        assert (final.result, final.confirm_by, final.manifest) == ("confirmed", 0, manifest(SECOND))
        assert await confirm(rig, "s2") == final
        assert await apply(rig, "s2", SECOND, confirm=MINUTE) == final
        seen = await observe(rig, *SECOND)
        assert (seen.pending, seen.reverted) == ("", "")
        assert on_disk(rig, SECOND) == SECOND
        await revert(rig, "s3")
        assert on_disk(rig, FIRST) == FIRST

    async def test_an_unconfirmed_change_undoes_itself(self, rig: Rig) -> None:
        await adopted(rig)
        await apply(rig, "s2", SECOND, confirm=MINUTE)
        rig.expire()
        seen = await observe(rig, *FIRST)
        assert (seen.pending, seen.reverted) == ("", "s2")
        assert seen.owner is not None
        assert (seen.owner.generation, seen.owner.step) == (1, "s2")
        assert on_disk(rig, FIRST) == FIRST
        assert rig.actions() == [ACTED] * 3
        late = await confirm(rig, "s2")
        assert (late.result, late.reason, late.confirm_by) == ("reverted", "unconfirmed", 0)
        assert (late.generation, late.manifest, set(late.written)) == (1, manifest(FIRST), set(SECOND))
        assert await apply(rig, "s2", SECOND, confirm=MINUTE) == late
        await revert(rig, "s3")
        assert on_disk(rig, FIRST) == OWN
        assert (await observe(rig, MAIN)).reverted == ""

    async def test_a_confirmation_in_time_is_of_the_right_step(self, rig: Rig) -> None:
        assert (await confirm(rig, "s1")).reason == "no-pending"
        await apply(rig, "s1", FIRST, confirm=MINUTE, fence=5)
        for other in (await confirm(rig, "s2", fence=5), await confirm(rig, "s1", fence=4)):
            assert (other.result, other.reason) in {("refused", "no-pending"), ("refused", "fence")}
        assert (await confirm(rig, "s1", "log-2", 9)).reason == "log-id"
        assert (await observe(rig, MAIN)).pending == "s1"
        rig.hold("on call")
        assert (await confirm(rig, "s1", fence=6)).result == "confirmed"

    async def test_a_first_change_undoes_itself_too(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n", 0o600)
        await apply(rig, "s1", FIRST, confirm=MINUTE)
        rig.expire()
        assert (await confirm(rig, "s1")).reason == "unconfirmed"
        assert on_disk(rig, FIRST) == OWN
        assert (await apply(rig, "s2", FIRST)).generation == 1

    async def test_the_next_change_undoes_a_pending_one_first(self, rig: Rig) -> None:
        """Also one of equal content, and one planned from the files that were pending: its start is stale then."""
        await apply(rig, "s1", FIRST)
        await apply(rig, "s2", SECOND, confirm=MINUTE, fence=2)
        assert (await apply(rig, "late", SECOND, fence=1)).reason == "fence"
        assert (await observe(rig, MAIN)).pending == "s2"
        stale = await apply(rig, "s3", {**SECOND, MAIN: b"# third\n"}, start=manifest(SECOND), fence=3)
        assert (stale.result, stale.manifest) == ("stale", manifest(FIRST))
        assert (await observe(rig, MAIN)).reverted == "s2"
        done = await apply(rig, "s3", {**SECOND, MAIN: b"# third\n"}, start=manifest(FIRST), fence=3)
        assert (done.result, done.generation, set(done.written)) == ("applied", 2, set(SECOND))
        assert (await confirm(rig, "s2", fence=3)).reason == "unconfirmed"
        assert rig.actions() == [ACTED] * 4

    async def test_a_revert_undoes_a_pending_change_and_no_more(self, rig: Rig) -> None:
        await adopted(rig)
        await apply(rig, "s2", SECOND, confirm=MINUTE)
        done = await revert(rig, "s3", fence=2)
        assert (done.result, done.reason, done.step, done.fence, done.generation) == ("reverted", "", "s3", 2, 1)
        assert done.manifest == manifest(FIRST)
        assert on_disk(rig, FIRST) == FIRST
        assert await revert(rig, "s3", fence=2) == done
        assert (await confirm(rig, "s2", fence=2)).reason == "unconfirmed"
        seen = await observe(rig, MAIN)
        assert seen.owner is not None
        assert (seen.owner.step, seen.owner.fence, seen.pending, seen.reverted) == ("s3", 2, "", "")

    async def test_nothing_waits_where_nothing_was_written(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        assert (await apply(rig, "s2", FIRST, confirm=MINUTE)).confirm_by == 0
        rig.refuse_text("second")
        done = await apply(rig, "s3", SECOND, confirm=MINUTE)
        assert (done.result, done.confirm_by) == ("reverted", 0)
        assert (await observe(rig, MAIN)).pending == ""

    async def test_a_failed_action_leaves_nothing_to_confirm(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        rig.set_reload("fails")
        await apply(rig, "s2", SECOND, confirm=MINUTE)
        rig.set_reload("ok")
        done = await confirm(rig, "s2")
        assert (done.result, done.reason) == ("reverted", "reload-failed")

    # --- Release ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("restore", [True, False])
    async def test_a_released_node_may_be_adopted_by_another_log(self, rig: Rig, restore: bool) -> None:
        await adopted(rig)
        await apply(rig, "s2", SECOND)
        assert (await release(rig, "s3", restore=restore, log_id="log-2", fence=9)).reason == "log-id"
        done = await release(rig, "s3", restore=restore)
        assert (done.result, done.reason, set(done.restored)) == ("released", "", set(FIRST) if restore else set())
        assert on_disk(rig, FIRST) == (OWN if restore else SECOND)
        assert rig.mode(MAIN) == (0o600 if restore else 0o644)
        assert rig.actions() == [ACTED] * (3 if restore else 2)
        assert (await observe(rig, MAIN)).owner is None
        assert await release(rig, "s3", restore=restore) == done
        assert (await release(rig, "s4", restore=restore)).result == "released"
        assert (await revert(rig, "s5")).reason == "no-previous"
        again = await apply(rig, "s1", FIRST, log_id="log-2", fence=0)
        assert (again.result, again.generation) == ("applied", 1)
        assert (await release(rig, "s3", restore=restore)).reason == "log-id"
        await apply(rig, "s2", {}, log_id="log-2", restore=tuple(FIRST))
        assert on_disk(rig, FIRST) == (OWN if restore else SECOND)

    async def test_a_release_that_fails_changes_nothing(self, rig: Rig) -> None:
        await adopted(rig)
        rig.hold("on call")
        assert (await release(rig, "s2", restore=True)).reason == "hold"
        assert on_disk(rig, FIRST) == FIRST

    async def test_a_release_that_the_runtime_refuses_is_none(self, rig: Rig) -> None:
        await adopted(rig)
        rig.refuse_text("mine")
        done = await release(rig, "s2", restore=True)
        assert (done.result, done.reason, done.manifest) == ("reverted", "reload-failed", manifest(FIRST))
        seen = await observe(rig, MAIN)
        assert seen.owner is not None
        assert seen.owner.log_id == "log-1"
        assert await release(rig, "s2", restore=True) == done

    async def test_a_release_undoes_a_pending_change(self, rig: Rig) -> None:
        await adopted(rig)
        await apply(rig, "s2", SECOND, confirm=MINUTE)
        assert (await release(rig, "s3")).result == "released"
        assert on_disk(rig, FIRST) == FIRST
        assert (await observe(rig, MAIN)).pending == ""

    async def test_a_node_that_nobody_owns_is_released(self, rig: Rig) -> None:
        before = rig.fingerprint()
        assert (await release(rig, "s1", restore=True)).result == "released"
        assert rig.fingerprint() == before
        assert rig.actions() == []
        rig.mco()
        assert (await release(rig, "s2")).reason == "mco"
        assert (await confirm(rig, "s2")).reason == "mco"

    # --- The head of the log ----------------------------------------------------------------------------------------

    async def test_a_node_keeps_the_head_of_the_log_that_it_was_last_told(self, rig: Rig) -> None:
        first, second = LogHead(7, "a" * 64), LogHead(9, "b" * 64)
        assert (await apply(rig, "s1", FIRST, head=first)).result == "applied"
        assert await head_of(rig) == first
        await apply(rig, "s2", FIRST)
        assert await head_of(rig) == first
        await apply(rig, "s3", SECOND, head=second, confirm=MINUTE)
        assert await head_of(rig) == second
        rig.expire()
        assert await head_of(rig) == second
        assert on_disk(rig, FIRST) == FIRST

    async def test_another_copy_of_the_log_is_refused_in_words_and_leaves_its_head_untold(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST, epoch=2, head=LogHead(7, "a" * 64))
        done = await apply(rig, "s2", SECOND, epoch=1, fence=99, head=LogHead(99, "c" * 64))
        assert (done.result, done.reason) == ("refused", "fence")
        assert done.detail == "this node has seen epoch 2, fence 1: another copy of this log has taken it"
        assert await head_of(rig) == LogHead(7, "a" * 64)

    @pytest.mark.parametrize("restore", [True, False])
    async def test_a_released_node_tells_who_gave_it_back_until_it_is_taken(self, rig: Rig, restore: bool) -> None:
        head = LogHead(9, "b" * 64)
        await apply(rig, "s1", FIRST, head=LogHead(7, "a" * 64))
        assert (await observe(rig, MAIN)).released is None
        request = ReleaseRequest("log-1", 2, 8, "s2", "crio", restore, RELOAD, head=head)
        assert (await rig.transport.release(rig.target, request)).result == "released"
        seen = await observe(rig, MAIN)
        assert (seen.owner, seen.released) == (None, Owner("log-1", 2, 8, 1, "s2", head))
        await apply(rig, "s1", FIRST, log_id="log-2")
        assert (await observe(rig, MAIN)).released is None

    # --- Hooks ------------------------------------------------------------------------------------------------------

    async def test_a_hook_says_how_it_ended(self, rig: Rig) -> None:
        before = rig.fingerprint()
        rig.set_hook("drain", 75)
        assert (await hook(rig, "drain", "now", NODE="node 1")).status == 75
        rig.set_hook("drain", 0)
        assert (await hook(rig, "drain")).status == 0
        assert rig.fingerprint() == before
        assert (await observe(rig, MAIN)).owner is None

    async def test_a_held_node_runs_no_hook(self, rig: Rig) -> None:
        rig.hold("on call")
        rig.set_hook("drain", 0)
        with pytest.raises(NodeRefused, match="hold: on call"):
            await hook(rig, "drain")

    async def test_what_cannot_be_run_is_refused(self, rig: Rig) -> None:
        for command, seconds, environment in (
            ((), 1, {}),
            (("x",), 0, {}),
            (("x",), 1, {"A-B": ""}),
            (("x",), 1, {"A": "\0"}),
        ):
            with pytest.raises(NodeRefused):
                await hook(rig, *command, seconds=seconds, **environment)
