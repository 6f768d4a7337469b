"""What a change of files does to a node, by profile, with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import InputRejected
from reconciler.registries.disruption import file_policies
from reconciler.registries.impact import Profile, classify
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, SEARCH_REGISTRIES
from reconciler.registries.resolve import resolve
from reconciler.registries.runtime_config import load
from tests.unit.runtime_files import REFERENCES, file_sets, rewritten

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "impact" / "changes.yaml").read_text())
PROFILES: tuple[Profile, ...] = ("default", "minimal", "openshift")


def _bytes(files: Mapping[str, str]) -> dict[str, bytes | None]:
    return {path: text.encode() for path, text in files.items()}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_change(case: dict[str, Any], profile: Profile) -> None:
    policies = file_policies(case.get("policies", []))
    impact = classify(_bytes(case["old"]), _bytes(case["new"]), profile, policies)
    found = [impact.disruption, list(impact.actions), list(impact.reasons)]
    assert found == case.get(profile, case["default"])


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"path": "etc/foo", "actions": [{"type": "None"}]}, "files[0].path"),
        ({"path": "/etc/foo"}, "files[0].actions"),
        ({"path": "/etc/foo", "actions": []}, "files[0].actions"),
        ({"path": "/etc/foo", "actions": [{"type": "Special"}]}, "files[0].actions[0]"),
        ({"path": "/etc/foo", "actions": [{"type": "Reload"}]}, "files[0].actions[0]"),
        ({"path": "/etc/foo", "actions": [{"type": "Reload", "reload": {"serviceName": ""}}]}, "files[0].actions[0]"),
        ({"path": "/etc/foo", "actions": [{"type": "Drain"}, {"type": "Reboot"}]}, "files[0].actions"),
        ({"path": "/etc/foo", "actions": ["None"]}, "files[0].actions[0]"),
    ],
)
def test_policy_of_wrong_form(entry: dict[str, Any], where: str) -> None:
    with pytest.raises(InputRejected) as caught:
        file_policies([entry])
    assert caught.value.where == where


@given(file_sets(), st.sampled_from(PROFILES))
def test_no_change_is_no_impact(files: dict[str, bytes | None], profile: Profile) -> None:
    impact = classify(files, dict(files), profile)
    assert (impact.disruption, impact.actions, impact.reasons) == ("none", (), ())


@given(file_sets(), st.randoms(use_true_random=False))
def test_formatting_and_order_disrupt_nothing(files: dict[str, bytes | None], random: Any) -> None:
    """Also shows that the property below is not empty: such pairs are `none` and differ in bytes."""
    other = rewritten(files, random)
    assert classify(files, other).disruption == "none"
    assert classify(files, other, "minimal").disruption == "none"
    _assert_same_answers(files, other)


@given(file_sets(), file_sets())
def test_none_changes_no_answer(old: dict[str, bytes | None], new: dict[str, bytes | None]) -> None:
    impact = classify(old, new)
    assert impact.disruption != "reboot"
    if impact.disruption == "none":
        _assert_same_answers(old, new)


@given(file_sets(), file_sets())
def test_minimal_reloads_wherever_registries_change(old: dict[str, bytes | None], new: dict[str, bytes | None]) -> None:
    """CRI-O reads policy.json at each pull by itself, registries only when told."""
    impact = classify(old, new, "minimal")
    assert impact.disruption in ("none", "reload")
    if impact.disruption == "none":
        _assert_same_answers(old, {**new, POLICY_JSON: old[POLICY_JSON]})


@given(st.binary(), st.binary(), st.sampled_from([REGISTRIES_CONF, SEARCH_REGISTRIES, POLICY_JSON]))
def test_any_bytes_get_an_answer(old: bytes, new: bytes, path: str) -> None:
    for profile in PROFILES:
        impact = classify({path: old}, {path: new}, profile)
        assert bool(impact.reasons) == (old != new)


def _assert_same_answers(old: Mapping[str, bytes | None], new: Mapping[str, bytes | None]) -> None:
    before, after = load(old), load(new)
    for reference in REFERENCES:
        assert resolve(before, reference) == resolve(after, reference)
