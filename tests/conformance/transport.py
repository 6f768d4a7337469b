"""What every node keeps to, however it is reached: one class, run against memory, local and sshd nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest

from reconciler.errors import NodeError, NodeRefused
from reconciler.ports import (
    ABSENT,
    ApplyRequest,
    FileContent,
    ImagesRequest,
    NodeImages,
    Observation,
    ObserveRequest,
    Receipt,
    RevertRequest,
    manifest_hash,
)
from tests.nodes import Rig

MAIN = "/etc/containers/registries.conf"
POLICY = "/etc/containers/policy.json"
DROP_IN = "/etc/containers/registries.conf.d/01-image-searchRegistries.conf"
CA = "/etc/docker/certs.d/registry.example.com:5000/ca.crt"
RELOAD = ("reload:crio.service",)
ACTED = "reload crio.service"

FIRST = {MAIN: b"# first\n", POLICY: b'{"default": []}\n', DROP_IN: b"a = 1\n", CA: b"one\n"}
SECOND = {MAIN: b"# second\n", POLICY: b'{"default": [1]}\n', DROP_IN: b"a = 2\n", CA: b"two\n"}


async def apply(rig: Rig, step: str, contents: Mapping[str, bytes], **fields: object) -> Receipt:
    files = tuple(FileContent(path, content) for path, content in contents.items())
    values: dict[str, object] = {"log_id": "log-1", "epoch": 1, "fence": 1, "runtime": "crio", "actions": RELOAD}
    request = ApplyRequest(step=step, files=files, **(values | fields))  # type: ignore[arg-type]  # plain test values
    return await rig.transport.apply(rig.target, request)


async def revert(rig: Rig, step: str, **fields: object) -> Receipt:
    values: dict[str, object] = {"log_id": "log-1", "epoch": 1, "fence": 1, "runtime": "crio", "actions": RELOAD}
    return await rig.transport.revert(rig.target, RevertRequest(step=step, **(values | fields)))  # type: ignore[arg-type]  # plain test values


async def observe(rig: Rig, *paths: str, runtime: str = "crio", **known: str) -> Observation:
    request = ObserveRequest("log-1", runtime, dict.fromkeys(paths, "") | known)
    return await rig.transport.observe(rig.target, request)


async def observe_with_images(rig: Rig, runtime: str = "crio") -> Observation:
    return await rig.transport.observe(rig.target, ObserveRequest("log-1", runtime, {MAIN: ""}, images=True))


async def images(rig: Rig, runtime: str = "crio") -> NodeImages:
    return await rig.transport.images(rig.target, ImagesRequest("log-1", runtime))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest(contents: Mapping[str, bytes | None], mode: int = 0o644) -> str:
    return manifest_hash({p: (digest(c), mode) if c is not None else (ABSENT, 0) for p, c in contents.items()})


def on_disk(rig: Rig, contents: Mapping[str, bytes]) -> Mapping[str, bytes | None]:
    return {path: rig.read(path) for path in contents}


class TransportConformance:
    async def test_first_contact_changes_nothing(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n", 0o600)
        before = rig.fingerprint()
        seen = await observe(rig, MAIN, CA)
        assert seen.owner is None
        assert seen.hold == ""
        assert not seen.mco
        assert seen.machine_id
        assert seen.boot_id
        assert (seen.unit, seen.active, seen.runtime_version) == ("crio.service", "active", "crio version 1.31.13")
        main = seen.files[MAIN]
        assert (main.state, main.mode, main.content, main.size) == (digest(b"mine\n"), 0o600, b"mine\n", 5)
        assert seen.files[CA].state == ABSENT
        assert rig.fingerprint() == before
        assert rig.actions() == []

    async def test_content_comes_only_where_it_is_not_known(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n")
        assert (await observe(rig, **{MAIN: digest(b"mine\n")})).files[MAIN].content is None
        assert (await observe(rig, **{MAIN: digest(b"other\n")})).files[MAIN].content == b"mine\n"
        assert (await observe(rig, **{MAIN: ABSENT})).files[MAIN].content == b"mine\n"

    async def test_large_files_and_private_keys_are_not_sent(self, rig: Rig) -> None:
        rig.put(MAIN, b"x" * 1024 * 1024)
        rig.put(CA, b"-----BEGIN EC PRIVATE KEY-----\n")
        rig.put(POLICY, b"\x00\xff binary \n\n")
        seen = await observe(rig, MAIN, CA, POLICY)
        assert seen.files[MAIN].content is None
        assert seen.files[MAIN].size == 1024 * 1024
        assert seen.files[CA].content is None
        assert seen.files[POLICY].content == b"\x00\xff binary \n\n"

    async def test_other_entries_are_listed(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n")
        rig.put("/etc/docker/certs.d/other:5000/client.key", b"secret")
        rig.put("/etc/containers/registries.conf.d/99-mine.conf", b"x = 1\n")
        rig.put("/etc/containers/registries.conf.d/README", b"text")
        rig.put("/etc/containers/certs.d/h/client.key", b"secret")
        rig.put("/root/.config/containers/policy.json", b"{}")
        seen = await observe(rig, MAIN, DROP_IN)
        assert set(seen.present) == {
            "/etc/docker/certs.d/other:5000/client.key",
            "/etc/containers/registries.conf.d/99-mine.conf",
            "/etc/containers/registries.conf.d/README",
        }
        assert seen.effective == {
            "/etc/containers/certs.d/h/client.key": "unread",
            "/etc/containers/registries.conf.d/99-mine.conf": digest(b"x = 1\n"),
            "/root/.config/containers/policy.json": digest(b"{}"),
        }

    async def test_images_of_containers(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n")
        before = rig.fingerprint()
        assert (await images(rig)).needed == ()
        by_digest, by_tag, pause = f"quay.io/b/app@sha256:{'0' * 64}", "quay.io/a/app:1", "registry.k8s.io/pause:3.10"
        rig.set_images([by_digest, by_tag, by_tag], pause)
        told = await images(rig)
        assert (told.images, told.pause, told.note) == ((by_tag, by_digest), pause, "")
        told = await images(rig, runtime="podman")
        assert (len(told.images), told.pause, told.note) == (2, "", "")
        assert rig.fingerprint() == before
        assert (await observe(rig, MAIN)).owner is None

    @pytest.mark.parametrize("runtime", ["crio", "podman"])
    async def test_images_are_told_with_a_look_that_asks_for_them(self, rig: Rig, runtime: str) -> None:
        rig.put("/etc/containers/registries.conf.d/99-mine.conf", b"x = 1\n")
        rig.set_images(["quay.io/b/app:1", "quay.io/a/app:1"], "registry.k8s.io/pause:3.10")
        plain = await observe(rig, MAIN, runtime=runtime)
        assert plain.images is None
        seen, told = await observe_with_images(rig, runtime), await images(rig, runtime)
        assert seen.images == told
        assert told.images == ("quay.io/a/app:1", "quay.io/b/app:1")
        assert (seen.files, seen.present, seen.effective) == (plain.files, plain.present, plain.effective)

    async def test_images_where_nobody_can_tell(self, rig: Rig) -> None:
        rig.set_images(["quay.io/a/app:1"], "registry.k8s.io/pause:3.10")
        rig.no_client()
        told = await images(rig)
        assert (await observe_with_images(rig)).images == told
        assert (told.images, told.note) == ((), "this host has no crictl")
        assert told.needed == ("registry.k8s.io/pause:3.10",)

    async def test_podman_is_no_service(self, rig: Rig) -> None:
        rig.set_active("inactive")
        assert (await observe(rig, MAIN, runtime="podman")).unit == ""
        done = await apply(rig, "s1", FIRST, runtime="podman", actions=())
        assert (done.result, done.unit, done.active, done.action, done.loaded) == ("applied", "", "", "", None)
        assert rig.actions() == []

    async def test_apply_writes_acts_and_proves(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n", 0o600)
        done = await apply(rig, "s1", FIRST, fence=7)
        assert (done.result, done.reason, done.detail) == ("applied", "", "")
        assert (done.step, done.log_id, done.epoch, done.fence, done.generation) == ("s1", "log-1", 1, 7, 1)
        assert done.manifest == manifest(FIRST)
        assert set(done.written) == set(FIRST)
        assert (done.restored, done.more) == ((), 0)
        assert (done.action, done.loaded, done.active, done.healthy_before) == (RELOAD[0], True, "active", True)
        assert on_disk(rig, FIRST) == FIRST
        assert [rig.mode(path) for path in FIRST] == [0o644] * 4
        assert rig.actions() == [ACTED]
        seen = await observe(rig, *FIRST)
        assert seen.owner is not None
        assert (seen.owner.log_id, seen.owner.fence, seen.owner.generation, seen.owner.step) == ("log-1", 7, 1, "s1")
        assert (seen.present, seen.effective) == ((), {})

    async def test_applying_twice_writes_nothing(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        before = rig.fingerprint()
        again = await apply(rig, "s2", FIRST, fence=2)
        assert (again.result, again.written, again.action, again.generation) == ("same", (), "", 1)
        assert again.manifest == manifest(FIRST)
        assert rig.fingerprint() == before
        assert rig.actions() == [ACTED]

    async def test_only_what_differs_is_written(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        done = await apply(rig, "s2", {**FIRST, MAIN: b"# changed\n"})
        assert (done.written, done.generation) == ((MAIN,), 2)

    async def test_a_wrong_mode_is_put_right(self, rig: Rig) -> None:
        rig.put(MAIN, FIRST[MAIN], 0o600)
        done = await apply(rig, "s1", {MAIN: FIRST[MAIN]})
        assert (done.result, done.written, rig.mode(MAIN)) == ("applied", (MAIN,), 0o644)

    async def test_an_empty_file_is_a_file(self, rig: Rig) -> None:
        assert (await apply(rig, "s1", {MAIN: b"", POLICY: b"x"})).manifest == manifest({MAIN: b"", POLICY: b"x"})
        assert rig.read(MAIN) == b""

    async def test_a_finished_step_gets_its_receipt_again(self, rig: Rig) -> None:
        first = await apply(rig, "s1", FIRST)
        rig.put(MAIN, b"tampered\n")
        assert await apply(rig, "s1", FIRST) == first
        assert rig.read(MAIN) == b"tampered\n"
        assert rig.actions() == [ACTED]

    async def test_restore_gives_the_baseline_back(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n", 0o600)
        await apply(rig, "s1", FIRST)
        await apply(rig, "s2", SECOND)
        done = await apply(rig, "s3", {POLICY: SECOND[POLICY]}, restore=(MAIN, CA, DROP_IN))
        assert (done.result, set(done.restored), done.written) == ("applied", {MAIN, CA, DROP_IN}, ())
        assert (rig.read(MAIN), rig.mode(MAIN)) == (b"mine\n", 0o600)
        assert on_disk(rig, FIRST) == {MAIN: b"mine\n", CA: None, DROP_IN: None, POLICY: SECOND[POLICY]}
        expected = {
            MAIN: (digest(b"mine\n"), 0o600),
            POLICY: (digest(SECOND[POLICY]), 0o644),
            CA: (ABSENT, 0),
            DROP_IN: (ABSENT, 0),
        }
        assert done.manifest == manifest_hash(expected)

    async def test_restoring_what_was_never_written_leaves_it(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n")
        done = await apply(rig, "s1", {}, restore=(MAIN, CA))
        assert (done.result, rig.read(MAIN), done.manifest) == (
            "same",
            b"mine\n",
            manifest({MAIN: b"mine\n", CA: None}),
        )

    async def test_the_baseline_is_kept_from_the_first_write(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n")
        await apply(rig, "s1", {MAIN: FIRST[MAIN]})
        rig.put(MAIN, b"edited\n")
        rig.put(POLICY, b"also mine\n")
        await apply(rig, "s2", SECOND)
        await apply(rig, "s3", {}, restore=tuple(SECOND))
        assert on_disk(rig, SECOND) == {MAIN: b"mine\n", POLICY: b"also mine\n", CA: None, DROP_IN: None}

    async def test_revert_puts_the_generation_before_back(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        await apply(rig, "s2", {**FIRST, MAIN: b"# second\n"})
        done = await revert(rig, "s3")
        assert (done.result, done.reason, done.restored, done.generation) == ("reverted", "", (MAIN,), 3)
        assert done.manifest == manifest(FIRST)
        assert on_disk(rig, FIRST) == FIRST
        assert rig.actions() == [ACTED] * 3
        assert await revert(rig, "s3") == done
        assert (await revert(rig, "s4")).restored == (MAIN,)
        assert rig.read(MAIN) == b"# second\n"

    async def test_revert_of_the_first_generation_removes(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n")
        await apply(rig, "s1", FIRST)
        await revert(rig, "s2")
        assert on_disk(rig, FIRST) == {MAIN: b"mine\n", POLICY: None, CA: None, DROP_IN: None}

    async def test_nothing_to_revert(self, rig: Rig) -> None:
        done = await revert(rig, "s1")
        assert (done.result, done.reason) == ("refused", "no-previous")

    async def test_a_stale_plan_touches_nothing(self, rig: Rig) -> None:
        rig.put(MAIN, b"mine\n")
        before = rig.fingerprint()
        done = await apply(rig, "s1", FIRST, start=manifest(dict.fromkeys(FIRST)))
        assert (done.result, done.written, done.generation) == ("stale", (), 0)
        assert done.manifest == manifest({**dict.fromkeys(FIRST), MAIN: b"mine\n"})
        assert rig.fingerprint() == before
        assert rig.actions() == []
        assert (await apply(rig, "s1", FIRST, start=done.manifest)).result == "applied"

    async def test_lower_fences_are_refused(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST, epoch=2, fence=5)
        for epoch, fence in ((2, 4), (1, 9)):
            done = await apply(rig, f"late-{epoch}", SECOND, epoch=epoch, fence=fence)
            assert (done.result, done.reason) == ("refused", "fence")
        assert (await revert(rig, "late", epoch=2, fence=4)).reason == "fence"
        assert on_disk(rig, FIRST) == FIRST
        assert (await apply(rig, "s2", SECOND, epoch=2, fence=5)).result == "applied"
        assert (await apply(rig, "s3", FIRST, epoch=3, fence=0)).result == "applied"

    async def test_another_log_is_refused(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        done = await apply(rig, "s1", SECOND, log_id="log-2", fence=99)
        assert (done.result, done.reason) == ("refused", "log-id")
        assert "log-1" in done.detail
        assert on_disk(rig, FIRST) == FIRST

    async def test_a_local_hold_is_honoured(self, rig: Rig) -> None:
        await apply(rig, "s1", FIRST)
        rig.hold('checking "node" \\ 手動')
        assert (await observe(rig, MAIN)).hold == 'checking "node" \\ 手動'
        for done in (await apply(rig, "s2", SECOND), await revert(rig, "s3")):
            assert (done.result, done.reason, done.detail) == ("refused", "hold", 'checking "node" \\ 手動')
        assert on_disk(rig, FIRST) == FIRST

    async def test_a_node_of_the_machine_config_operator_is_left_alone(self, rig: Rig) -> None:
        rig.mco()
        before = rig.fingerprint()
        assert (await observe(rig, MAIN)).mco
        for done in (await apply(rig, "s1", FIRST), await revert(rig, "s2")):
            assert (done.result, done.reason) == ("refused", "mco")
        assert rig.fingerprint() == before
        assert (await observe(rig, MAIN)).owner is None

    @pytest.mark.parametrize("path", [MAIN, "/etc/containers/registries.conf.d", "/etc/docker/certs.d"])
    async def test_symlinks_are_somebody_elses(self, rig: Rig, path: str) -> None:
        rig.symlink(path, "/nowhere")
        before = rig.fingerprint()
        if path == MAIN:
            assert (await observe(rig, MAIN)).files[MAIN].state == "symlink"
        done = await apply(rig, "s1", FIRST)
        assert (done.result, done.reason, done.detail) == ("refused", "symlink", path)
        assert rig.fingerprint() == before
        assert rig.actions() == []

    @pytest.mark.parametrize("how", ["fails", "unable", "kills"])
    async def test_a_failed_action_puts_the_old_files_back(self, rig: Rig, how: str) -> None:
        await apply(rig, "s1", FIRST)
        rig.set_reload(how)
        done = await apply(rig, "s2", SECOND)
        assert (done.result, done.reason) == ("reverted", "unhealthy" if how == "kills" else "reload-failed")
        assert (done.generation, done.manifest, done.action) == (1, manifest(FIRST), RELOAD[0])
        assert set(done.written) == set(FIRST)
        assert done.healthy_before
        assert on_disk(rig, FIRST) == FIRST
        assert rig.actions() == [ACTED] * 3
        rig.set_reload("ok")
        rig.set_active("active")
        assert await apply(rig, "s2", SECOND) == done
        assert (await apply(rig, "s3", SECOND)).result == "applied"
        await revert(rig, "s4")
        assert on_disk(rig, FIRST) == FIRST

    async def test_a_first_change_that_fails_leaves_nothing_behind(self, rig: Rig) -> None:
        rig.refuse_text("first")
        done = await apply(rig, "s1", FIRST)
        assert (done.result, done.reason, done.loaded) == ("reverted", "reload-failed", True)
        assert done.manifest == manifest(dict.fromkeys(FIRST))
        assert on_disk(rig, FIRST) == dict.fromkeys(FIRST)
        seen = await observe(rig, *FIRST)
        assert (seen.present, seen.effective) == ((), {})

    async def test_whether_it_loaded_may_stay_unknown(self, rig: Rig) -> None:
        rig.set_reload("silent")
        done = await apply(rig, "s1", FIRST)
        assert (done.result, done.loaded) == ("applied", None)

    async def test_an_unhealthy_runtime_is_not_blamed_on_us(self, rig: Rig) -> None:
        rig.set_active("failed")
        before = rig.fingerprint()
        done = await apply(rig, "s1", FIRST)
        assert (done.result, done.reason, done.healthy_before) == ("failed", "unhealthy-before", False)
        assert done.active == "failed"
        assert rig.fingerprint() == before
        rig.set_active("active")
        assert (await apply(rig, "s1", FIRST)).result == "applied"

    @pytest.mark.parametrize("how", ["disk-full", "read-only"])
    async def test_a_disk_that_takes_nothing(self, rig: Rig, how: str) -> None:
        await apply(rig, "s1", FIRST)
        big = {**SECOND, POLICY: b"x" * 65536, CA: b"new\n"}
        rig.fill() if how == "disk-full" else rig.read_only()
        done = await apply(rig, "s2", big)
        assert (done.result, done.reason, done.written, done.generation) == ("failed", how, (), 1)
        assert on_disk(rig, FIRST) == FIRST
        assert rig.actions() == [ACTED]
        rig.mend()
        assert (await apply(rig, "s2", big)).result == "applied"

    async def test_receipts_stay_small(self, rig: Rig) -> None:
        many = {f"/etc/docker/certs.d/registry-{n:03}.example.com/ca.crt": b"%d" % n for n in range(rig.many)}
        done = await apply(rig, "s1", many, actions=())
        assert done.result == "applied"
        assert done.manifest == manifest(many)
        assert len(done.written) + done.more == rig.many
        assert 20 < len(done.written) < 100
        assert on_disk(rig, many) == many

    async def test_paths_outside_are_refused(self, rig: Rig) -> None:
        for path in ("/etc/passwd", "/etc/containers/../passwd", "/etc/containers/a b", "/etc/containers/x.key"):
            with pytest.raises(NodeRefused, match="not a path that may be managed"):
                await apply(rig, "s1", {path: b"x"})
            with pytest.raises(NodeError):
                await observe(rig, path)
