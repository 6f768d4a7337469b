"""What a drain does with each kind of pod, and which pods a budget is about: tests/cases/drain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from lightkube import AsyncClient, SingleConfig
from lightkube.config.models import Cluster, Context, User
from lightkube.models.meta_v1 import LabelSelector
from lightkube.resources.core_v1 import Pod

from reconciler.errors import ClusterError
from reconciler.kubernetes.budgets import matches
from reconciler.kubernetes.eviction import Tried, Verdict, evict, judge, name_of
from reconciler.rollout.pools import Pool

CASES = Path(__file__).parents[1] / "cases/drain"
PLAIN: dict[str, Any] = {
    "metadata": {
        "namespace": "n",
        "name": "p",
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web-1", "controller": True}],
    },
    "spec": {"containers": [{"name": "c"}]},
    "status": {"phase": "Running"},
}


def settings(**given: Any) -> dict[str, Any]:
    """The drain of a pool that says this and `via: kubernetes`."""
    return {**Pool("", {"drain": {"via": "kubernetes"}}).spec["drain"], **given}


def pod_of(case: dict[str, Any]) -> Any:
    differs = case.get("pod", {})
    full = {part: {**PLAIN[part], **differs.get(part, {})} for part in PLAIN}
    for owner in full["metadata"]["ownerReferences"]:
        owner.update(apiVersion="v1", uid="u")
    return Pod.from_dict(full)


@pytest.mark.parametrize("case", yaml.safe_load((CASES / "pods.yaml").read_text()), ids=lambda case: case["name"])
def test_what_becomes_of_a_pod(case: dict[str, Any]) -> None:
    pod = pod_of(case)
    assert judge(pod, settings(**case.get("settings", {}))) == Verdict(case["fate"], case.get("why", ""))
    assert name_of(pod) == "n/p"


@pytest.mark.parametrize(
    "case", yaml.safe_load((CASES / "selectors.yaml").read_text()), ids=lambda c: str(c["selector"])
)
def test_which_pods_a_selector_is_about(case: dict[str, Any]) -> None:
    selector: Any = LabelSelector.from_dict(case["selector"])
    for labels in case["selects"]:
        assert matches(selector, labels), labels
    for labels in case["not"]:
        assert not matches(selector, labels), labels


def answer_of(case: dict[str, Any]) -> httpx2.Response:
    details = {"causes": case.get("causes", []), "retryAfterSeconds": case.get("seconds", 0)}
    said = {"kind": "Status", "status": "Failure", "code": case["status"], "message": case.get("message", "")}
    headers = {"Content-Type": "application/json", **({"Retry-After": case["header"]} if "header" in case else {})}
    return httpx2.Response(case["status"], headers=headers, json={**said, "details": details})


@pytest.mark.parametrize("case", yaml.safe_load((CASES / "answers.yaml").read_text()), ids=lambda case: case["name"])
async def test_what_an_answer_to_an_eviction_means(case: dict[str, Any]) -> None:
    config = SingleConfig("test", Context("test", "test"), Cluster("https://api.example.com"), User())
    transport = httpx2.MockTransport(lambda _: answer_of(case))
    client, pod = AsyncClient(config, transport=transport), pod_of({})
    try:
        if "raises" in case:
            with pytest.raises(ClusterError) as raised:
                await evict(client, pod, None)
            assert raised.value.where == "eviction of pod n/p"
            assert type(raised.value).__name__ == case["raises"]
        else:
            assert await evict(client, pod, None) == Tried(pod, **{"said": "", "after": 0.0, **case["means"]})
    finally:
        await client.close()
