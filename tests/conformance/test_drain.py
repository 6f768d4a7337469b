"""drain.jsonl: what MCO decides about a change of files, with no deviation."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.registries.impact import classify
from reconciler.registries.model import CERTS_D
from tests.conformance.drain_answer import answer, policy
from tests.conformance.load import cases


def _comparable(decision: dict[str, Any]) -> dict[str, Any]:
    """Without what MCO does at first boot only; the wording of an error is ours."""
    kept = {key: value for key, value in decision.items() if key != "first_boot"}
    return kept | {"actions": sorted(kept["actions"]), "error": "error" in kept}


@pytest.mark.parametrize("case", cases("drain"), ids=lambda case: str(case["name"]))
def test_drain(case: dict[str, Any]) -> None:
    assert _comparable(answer(case["input"])) == _comparable(case["expect"])


@pytest.mark.parametrize("case", cases("drain"), ids=lambda case: str(case["name"]))
def test_the_openshift_profile_predicts_it(case: dict[str, Any]) -> None:
    """Certificates apart, which reach nodes without a MachineConfig; where MCO gives up, ours takes the worst."""
    given, expected = case["input"], case["expect"]
    old, new = ({path: text.encode() for path, text in given[side].items()} for side in ("old", "new"))
    if any(path.startswith(CERTS_D) for path in (*old, *new)):
        assert classify(old, new, "openshift").disruption == "none"
        return
    policies = [policy(entry) for entry in (given.get("node_disruption_policy") or {}).get("files") or []]
    found = set(classify(old, new, "openshift", policies).actions)
    reload = "reload:crio.service"
    wanted = {reload if action.startswith("Special") else action.lower() for action in expected.get("actions", ())}
    if "error" in expected:
        wanted = {"drain", reload}
    elif expected["drain"]:
        wanted.add("drain")
    assert found == wanted - {"none"}
