"""What every adapter of ports.ClusterResources does: apply with field ownership, delete, look."""

from __future__ import annotations

import asyncio
import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from reconciler.errors import ClusterError, FieldConflict
from reconciler.ports import ClusterLook, ClusterResources
from reconciler.rollout.cluster_objects import IMAGE, SAYS_NOTHING, key_of, marked
from reconciler.rollout.managed_fields import differences, foreign_changes

WITHIN = 20.0
BLOCKED = ("spec", "registrySources", "blockedRegistries")


def image(*blocked: str, **spec: Any) -> dict[str, Any]:
    """Image/cluster that blocks these registries."""
    document = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}}
    return {**document, "spec": {"registrySources": {"blockedRegistries": list(blocked)}, **spec}}


def mirrors(name: str, source: str, mirror: str) -> dict[str, Any]:
    row = {"source": source, "mirrors": [mirror]}
    document = {"apiVersion": "config.openshift.io/v1", "kind": "ImageDigestMirrorSet", "metadata": {"name": name}}
    return {**document, "spec": {"imageDigestMirrors": [row]}}


def authority(host: str = "registry.example.com..5000", text: str = "a certificate") -> dict[str, Any]:
    metadata = {"name": "user-ca", "namespace": "openshift-config"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {host: text}}


def policy(name: str, namespace: str) -> dict[str, Any]:
    """An ImagePolicy that demands signatures of one repository."""
    key = base64.b64encode(b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n").decode()
    trust = {"policyType": "PublicKey", "publicKey": {"keyData": key}}
    spec = {"scopes": ["x.example.com/app"], "policy": {"rootOfTrust": trust}}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "config.openshift.io/v1", "kind": "ImagePolicy", "metadata": metadata, "spec": spec}


def ours(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return marked(document, "default", "log-1")


class ResourcesRig(ABC):
    """A cluster, and hands to change it behind the adapter's back."""

    resources: ClusterResources

    @abstractmethod
    def put(self, document: Mapping[str, Any], manager: str) -> None:
        """Create or replace an object, as an editor does."""

    @abstractmethod
    def remove(self, key: str) -> None: ...

    async def seen(self, holds: Callable[[ClusterLook], bool]) -> ClusterLook:
        """The first look for which `holds`: a watch brings what changed a moment later."""
        async with asyncio.timeout(WITHIN):
            while True:
                with suppress(ClusterError):
                    if holds(found := await self.resources.look()):
                        return found
                await asyncio.sleep(0.02)

    async def blocked(self, *registries: str) -> ClusterLook:
        """The look at an Image that blocks these."""
        wanted = list(registries)

        def holds(found: ClusterLook) -> bool:
            spec = found.objects[IMAGE].document["spec"] if IMAGE in found.objects else {}
            return bool(spec.get("registrySources", {}).get("blockedRegistries") == wanted)

        return await self.seen(holds)


class ResourcesConformance:
    async def test_what_is_applied_is_there_as_sent(self, rig: ResourcesRig) -> None:
        for document in (image("a.example.com"), mirrors("apps", "a.example.com/x", "b.example.com/x"), authority()):
            sent = ours(document)
            answer = await rig.resources.apply(sent, None)
            assert (answer.key, differences(sent, answer.document)) == (key_of(sent), ())
            assert answer.uid
            assert answer.resource_version
            found = await rig.seen(lambda look, key=answer.key: key in look.objects)  # type: ignore[misc]  # bound now
            assert found.objects[answer.key] == answer
            assert foreign_changes(answer.document, found.objects[answer.key]) == ()

    async def test_applying_twice_changes_nothing(self, rig: ResourcesRig) -> None:
        first = await rig.resources.apply(ours(image("a.example.com")), None)
        again = await rig.resources.apply(ours(image("a.example.com")), first)
        assert (again.resource_version, again.generation) == (first.resource_version, first.generation)

    async def test_a_field_that_is_no_longer_sent_is_taken_away(self, rig: ResourcesRig) -> None:
        first = await rig.resources.apply(ours(image("a.example.com", additionalTrustedCA={"name": "user-ca"})), None)
        second = await rig.resources.apply(ours(image("a.example.com")), first)
        assert "additionalTrustedCA" not in second.document["spec"]
        assert second.generation > first.generation

    async def test_an_image_can_be_made_to_say_nothing(self, rig: ResourcesRig) -> None:
        first = await rig.resources.apply(ours(image("a.example.com")), None)
        emptied = ours({**image(), "spec": {"registrySources": {}}})
        second = await rig.resources.apply(emptied, first)
        assert second.document["spec"] == SAYS_NOTHING
        assert foreign_changes(second.document, second) == ()

    async def test_a_policy_of_a_namespace(self, rig: ResourcesRig) -> None:
        sent = ours(policy("signed", "default"))
        answer = await rig.resources.apply(sent, None)
        assert (answer.key, differences(sent, answer.document)) == ("ImagePolicy/default/signed", ())
        await rig.seen(lambda look: answer.key in look.objects)
        await rig.resources.delete(answer)
        assert await rig.resources.read(sent) is None

    async def test_who_edits_a_field_is_known_and_has_it(self, rig: ResourcesRig) -> None:
        answer = await rig.resources.apply(ours(image("a.example.com")), None)
        rig.put({**answer.document, "spec": image("b.example.com")["spec"]}, "kubectl-edit")
        live = (await rig.blocked("b.example.com")).objects[IMAGE]
        [change] = foreign_changes(answer.document, live)
        assert (change.path, change.kind) == ("spec.registrySources.blockedRegistries", "changed")
        assert (change.manager, change.operation) == ("kubectl-edit", "Update")
        assert change.time.endswith("Z")
        with pytest.raises(FieldConflict) as caught:
            await rig.resources.apply(ours(image("a.example.com")), live)
        assert caught.value.conflicts == (("kubectl-edit", "spec.registrySources.blockedRegistries"),)
        assert "kubectl-edit" in str(caught.value)
        with pytest.raises(FieldConflict):
            await rig.resources.apply(ours(image("a.example.com")), live, against=["oc"])
        again = await rig.resources.apply(ours(image("a.example.com")), live, against=["kubectl-edit"])
        assert foreign_changes(answer.document, again) == ()

    async def test_the_same_value_is_no_conflict(self, rig: ResourcesRig) -> None:
        rig.put(image("a.example.com"), "oc")
        live = (await rig.blocked("a.example.com")).objects[IMAGE]
        answer = await rig.resources.apply(ours(image("a.example.com")), live)
        assert foreign_changes(answer.document, answer) == ()

    async def test_fields_of_others_stay(self, rig: ResourcesRig) -> None:
        rig.put(image("a.example.com", additionalTrustedCA={"name": "theirs"}), "oc")
        live = (await rig.blocked("a.example.com")).objects[IMAGE]
        answer = await rig.resources.apply(ours(image("a.example.com")), live)
        assert answer.document["spec"]["additionalTrustedCA"] == {"name": "theirs"}

    async def test_what_somebody_changed_since_the_look_is_not_overwritten(self, rig: ResourcesRig) -> None:
        live = await rig.resources.apply(ours(image("a.example.com")), None)
        rig.put({**live.document, "metadata": {**live.document["metadata"], "labels": {"theirs": "1"}}}, "oc")
        with pytest.raises(ClusterError, match="at the same time"):
            await rig.resources.apply(ours(image("c.example.com")), live, against=["oc"])
        with pytest.raises(ClusterError):
            await rig.resources.delete(live)
        await rig.blocked("a.example.com")

    async def test_delete(self, rig: ResourcesRig) -> None:
        live = await rig.resources.apply(ours(mirrors("apps", "a.example.com/x", "b.example.com/x")), None)
        await rig.seen(lambda look: live.key in look.objects)
        assert await rig.resources.read(live.document) == live
        await rig.resources.delete(live)
        assert await rig.resources.read(live.document) is None
        await rig.seen(lambda look: live.key not in look.objects)
        await rig.resources.delete(live)

    async def test_one_made_anew_under_the_same_name_is_not_deleted(self, rig: ResourcesRig) -> None:
        document = mirrors("apps", "a.example.com/x", "b.example.com/x")
        live = await rig.resources.apply(ours(document), None)
        rig.remove(live.key)
        rig.put(document, "oc")
        with pytest.raises(ClusterError):
            await rig.resources.delete(live)
        found = await rig.seen(lambda look: live.key in look.objects and look.objects[live.key].uid != live.uid)
        assert found.objects[live.key].document["spec"] == document["spec"]

    async def test_what_is_not_there(self, rig: ResourcesRig) -> None:
        found = await rig.resources.look()
        assert (found.objects, found.pools, found.unserved) == ({}, {}, frozenset())
        assert await rig.resources.machine_config("rendered-worker-1") is None
        assert await rig.resources.images() == {}
