"""The pods of requests: what every one has, and where a request stands that is too long for it."""

from __future__ import annotations

import base64
import os

import httpx2
import pytest
from lightkube import AsyncClient, KubeConfig
from lightkube.config.models import Cluster, User

from reconciler.errors import NodeRefused
from reconciler.kubernetes.pod_runner import PodRunner
from reconciler.kubernetes.pod_spec import SECRET_LIMIT, Errand, Origin, label, order
from reconciler.ports import ApplyRequest, ConfirmRequest, FileContent, ObserveRequest
from reconciler.transport.call import Call, packed_program
from reconciler.transport.protocol import apply_call, confirm_call, observe_call

ORIGIN = Origin("nodes", f"a.corp/helper@sha256:{'1' * 64}", "prod", "log-1", "host:1:aa")
PATH = "/etc/containers/registries.conf"


def look(paths: int = 1) -> Call:
    return observe_call(
        ObserveRequest("log-1", "crio", {f"{PATH}.d/{n:05}.conf": os.urandom(32).hex() for n in range(paths)})
    )


def change(content: bytes = b"x", confirm: int = 0) -> Call:
    files = (FileContent(PATH, content),)
    return apply_call(ApplyRequest("log-1", 1, 1, "s1", "crio", files, confirm=confirm))


def test_every_pod_is_bound_to_its_node_and_to_nothing_else() -> None:
    for errand in (Errand("p", "w1", look(), 300), Errand("p", "w1", change(), 300, "s1", look(), 90)):
        pod = errand.pod(ORIGIN, critical=True)
        spec = pod["spec"]
        assert (spec["nodeName"], spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("w1", "Never", 300)
        assert spec["automountServiceAccountToken"] is False
        assert spec["tolerations"] == [{"operator": "Exists"}]
        assert spec["priorityClassName"] == "system-node-critical"
        assert "priorityClassName" not in errand.pod(ORIGIN, critical=False)["spec"]
        for container in spec["containers"]:
            assert container["image"] == ORIGIN.image
            assert container["imagePullPolicy"] == "IfNotPresent"
            assert container["securityContext"]["privileged"] is True
        labels = pod["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "reconciler"
        assert (labels["reconciler.dev/fleet"], labels["reconciler.dev/node"]) == ("prod", "w1")
        assert labels.get("reconciler.dev/step") == (errand.step or None)


def test_a_look_stands_in_its_pod_and_a_change_in_a_secret_of_the_pod() -> None:
    assert Errand("p", "w1", look(), 300).in_pod
    errand = Errand("p", "w1", change(), 300, "s1", look(), 90)
    assert not errand.in_pod
    secret = errand.secret(ORIGIN)
    assert {key: base64.b64decode(value) for key, value in secret["data"].items()} == {
        "program": packed_program(),
        "payload": errand.call.payload,
        "look": errand.look.payload if errand.look else b"",
    }
    assert secret["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}]
    assert secret["metadata"]["labels"] == errand.pod(ORIGIN, critical=True)["metadata"]["labels"]


def test_a_long_look_stands_in_a_secret() -> None:
    errand = Errand("p", "w1", look(3000), 300)
    assert not errand.in_pod
    assert "payload" in errand.secret(ORIGIN)["data"]


def test_what_a_secret_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(NodeRefused, match=f"a Secret holds {SECRET_LIMIT} at most"):
        Errand("p", "w1", change(os.urandom(SECRET_LIMIT)), 300, "s1").secret(ORIGIN)


def test_an_order_is_an_annotation_of_three_words() -> None:
    call = confirm_call(ConfirmRequest("log-1", 1, 1, "s1", "crio"))
    length, digest, payload = order(call)["metadata"]["annotations"]["reconciler.dev/confirm"].split()
    assert (int(length), base64.b64decode(payload)) == (len(call.payload), call.payload)
    assert call.argv()[-1] == digest


@pytest.mark.parametrize("value", ["worker-1.example.com", "a" * 63, "x" * 64, "-a", "a_", "host:1:aa", "A.b_c-d"])
def test_any_value_can_be_a_label(value: str) -> None:
    told = label(value)
    assert len(told) <= 63
    assert told[0].isalnum()
    assert told[-1].isalnum()
    assert (told == value) == (value in ("worker-1.example.com", "a" * 63, "A.b_c-d"))


async def test_a_namespace_that_permits_no_critical_pods_is_asked_once() -> None:
    asked: list[bool] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        critical = b"priorityClassName" in request.content
        asked.append(critical)
        if not critical:
            return httpx2.Response(201, json={"metadata": {"name": "p", "uid": "u"}})
        said = "insufficient quota to match these scopes: [{PriorityClass In [system-node-critical]}]"
        status = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": said}
        return httpx2.Response(403, json=status)

    async def living() -> tuple[str, ...]:
        return ()

    config = KubeConfig.from_one(cluster=Cluster(server="http://cluster.example"), user=User(token="t"))
    client = AsyncClient(config, transport=httpx2.MockTransport(answer), trust_env=False)
    runner = PodRunner(client, ORIGIN, living)
    for _ in range(2):
        await runner._create(Errand("p", "w1", look(), 300))
    assert asked == [True, False, False]
    await client.close()
