"""What is applied to a cluster and in which order, who changed what there, and how far MCO has come: by cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.registries.model import CERTS_D, REGISTRIES_CONF
from reconciler.rollout.cluster_objects import (
    APPLY_ORDER,
    FLEET_MARK,
    IMAGE,
    LOG_MARK,
    SAYS_NOTHING,
    Action,
    Comparison,
    Known,
    Wanted,
    compare,
    in_order,
    key_of,
    marked,
)
from reconciler.rollout.machine_pools import Machine, MachinePool, brings_new_config, stage
from reconciler.rollout.managed_fields import ClusterObject, FieldManager, foreign_changes, owns, path_text

CASES = Path(__file__).parents[1] / "cases" / "cluster"
LOG = "log-1"


def _cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    return found


def _document(key: str, blocked: str = "a.example.com", log: str | None = LOG) -> Mapping[str, Any]:
    kind, name = key.split("/")
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}
    spec = {"registrySources": {"blockedRegistries": [blocked]}}
    return marked({**document, "spec": spec}, "default", log) if log else {**document, "spec": spec}


def _live(text: str) -> tuple[str, ClusterObject]:
    """`KEY [unmarked|LOG] [FLEET] [other] [new-uid]`."""
    key, *words = text.split()
    log = next((word for word in words if word.startswith("log-")), LOG)
    document = _document(
        key, "b.example.com" if "other" in words else "a.example.com", None if "unmarked" in words else log
    )
    if fleet := next((word for word in words if word.startswith("fleet-")), ""):
        document["metadata"]["labels"][FLEET_MARK] = fleet
    uid = "uid-2" if "new-uid" in words else "uid-1"
    return key, ClusterObject(key, document, uid, "7", 1, (FieldManager("oc", "Update", "", {}),))


def _said(action: Action) -> str:
    emptied = " empty" if action.document.get("spec") == SAYS_NOTHING else ""
    against = f" from {', '.join(sorted(action.against))}" if action.against else ""
    return f"{action.verb} {action.key}{emptied}{against}"


def _unadopted(found: Comparison) -> list[str]:
    return [
        f"{item.key} by {', '.join(item.managers)}: "
        + (", ".join(f"{d.text} {d.kind}" for d in item.differs if d.path[0] != "metadata") or "same")
        for item in found.unadopted
    ]


@pytest.mark.parametrize("case", _cases("compare"), ids=lambda case: str(case["name"]))
def test_what_is_done(case: dict[str, Any]) -> None:
    found = compare(
        {key: Wanted(key, _document(key)) for key in case.get("wanted", ())},
        {key: Known(key, _document(key), _document(key), "uid-1") for key in case.get("known", ())},
        dict(map(_live, case.get("live", ()))),
        log_id=LOG,
        fleet="default",
        heal={key: frozenset(names) for key, names in case.get("heal", {}).items()},
        adopted={key: frozenset(names) for key, names in case.get("adopted", {}).items()},
    )
    assert [_said(action) for action in found.actions] == case.get("actions", [])
    assert _unadopted(found) == case.get("unadopted", [])
    assert list(found.foreign) == case.get("foreign", [])
    assert dict(found.others) == case.get("others", {})


@pytest.mark.parametrize("case", _cases("drift"), ids=lambda case: str(case["name"]))
def test_who_changed_what(case: dict[str, Any]) -> None:
    answer = {
        "metadata": {"labels": {"mine": "1"}},
        "spec": {"registrySources": {"blockedRegistries": ["a.example.com"]}},
    }
    live = {"metadata": {"labels": {"mine": "1"}}, **case["live"]}
    managers = tuple(FieldManager(**entry) for entry in case.get("managers", ()))
    found = foreign_changes(answer, ClusterObject(IMAGE, live, "uid-1", "8", 2, managers))
    said = [
        f"{item.path} {item.kind} by {' '.join((item.manager, item.operation, item.time)).strip() or 'nobody known'}"
        for item in found
    ]
    assert said == case.get("changes", [])


def _pool(case: Mapping[str, Any]) -> MachinePool:
    messages = case.get("messages", {})
    conditions = [
        {"type": kind, "status": status, "message": messages.get(kind, "")}
        for kind, status in case.get("conditions", {}).items()
    ]
    return MachinePool.of(
        {
            "metadata": {"name": "worker", "generation": 3},
            "spec": {"configuration": {"name": case["target"]}, "paused": case.get("paused", False)},
            "status": {
                "configuration": {"name": case["current"]},
                "observedGeneration": 2 if case.get("unseen") else 3,
                "machineCount": 3,
                "degradedMachineCount": 1,
                "conditions": conditions,
            },
        }
    )


@pytest.mark.parametrize("case", _cases("rollouts"), ids=lambda case: str(case["name"]))
def test_how_far_a_change_has_come(case: dict[str, Any]) -> None:
    pool = _pool(case)
    assert (pool.machines, pool.degraded) == (3, 1)
    assert stage(pool, "rendered-worker-1", has_files=case.get("has_files")) == case["stage"]
    assert (pool.trouble, pool.pause) == (case.get("trouble", ""), case.get("pause", ""))
    assert MachinePool.from_data("worker", pool.as_data()) == pool


def test_a_node_outside_of_the_machine_config_operator_is_no_machine() -> None:
    assert Machine.of("w1", {"state": "Done"}) is None
    config = {"currentConfig": "rendered-1", "desiredConfig": "rendered-2", "state": "Degraded", "reason": "x" * 2000}
    found = Machine.of("w1", config)
    assert found is not None
    assert (found.current, found.desired, found.state, len(found.reason)) == (
        "rendered-1",
        "rendered-2",
        "Degraded",
        1000,
    )


def test_certificates_are_in_no_machine_config() -> None:
    certificate = f"{CERTS_D}/registry.example.com/ca.crt"
    assert not brings_new_config({REGISTRIES_CONF: "1"}, {REGISTRIES_CONF: "1", certificate: "2"})
    assert brings_new_config({REGISTRIES_CONF: "1", certificate: "1"}, {REGISTRIES_CONF: "2"})


def test_a_policy_is_named_with_its_namespace() -> None:
    document = {"kind": "ImagePolicy", "metadata": {"name": "signed", "namespace": "apps"}}
    assert key_of(document) == "ImagePolicy/apps/signed"


def test_what_other_tools_keep_in_annotations_is_not_applied() -> None:
    kept = "kubectl.kubernetes.io/last-applied-configuration"
    document = {"kind": "ConfigMap", "metadata": {"name": "ca", "annotations": {kept: "{}", "why": "1"}}}
    assert marked(document, "default", LOG)["metadata"] == {
        "name": "ca",
        "namespace": "openshift-config",
        "labels": {"app.kubernetes.io/managed-by": "reconciler", "reconciler.dev/fleet": "default"},
        "annotations": {"why": "1", LOG_MARK: LOG},
    }


@pytest.mark.parametrize(
    ("spec", "sent"),
    [
        ({}, SAYS_NOTHING),
        ({"registrySources": {}}, SAYS_NOTHING),
        ({"registrySources": {"allowedRegistries": []}}, {"registrySources": {"allowedRegistries": []}}),
        ({"registrySources": {}, "additionalTrustedCA": {"name": "ca"}}, {"additionalTrustedCA": {"name": "ca"}}),
    ],
)
def test_an_image_never_has_nothing_to_say(spec: Mapping[str, Any], sent: Mapping[str, Any]) -> None:
    document = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": spec}
    assert marked(document, "default", LOG)["spec"] == sent


def test_a_key_with_dots_stands_in_brackets() -> None:
    assert path_text(("data", "registry.example.com..5000")) == "data[registry.example.com..5000]"


@given(st.lists(st.tuples(st.sampled_from(("apply", "delete")), st.sampled_from(APPLY_ORDER), st.integers(0, 3))))
def test_the_order_never_takes_away_before_it_gives(wanted: list[tuple[Any, str, int]]) -> None:
    actions = [Action(verb, f"{kind}/n{number}", "", {}, None) for verb, kind, number in wanted]
    found = in_order(actions)
    assert sorted(found, key=repr) == sorted(actions, key=repr)
    verbs = [action.verb for action in found]
    assert verbs == sorted(verbs), "every removal comes after every change"
    ranks = [APPLY_ORDER.index(action.key.partition("/")[0]) for action in found]
    changes = verbs.count("apply")
    assert ranks[:changes] == sorted(ranks[:changes])
    assert ranks[changes:] == sorted(ranks[changes:], reverse=True)


_FIELDS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.just({}), lambda below: st.dictionaries(st.sampled_from(("f:a", "f:b", "f:c")), below, max_size=3), max_leaves=8
)


@given(_FIELDS, st.lists(st.sampled_from("abc"), max_size=4))
def test_who_owns_a_field_owns_what_is_above_it(fields: dict[str, Any], path: list[str]) -> None:
    if path and owns(fields, path):
        assert owns(fields, path[:-1])
