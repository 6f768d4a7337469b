"""The state in force: Git's layer with the holds laid over it, and when two contents are one wish."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.projections.desired import Desired, base_digest, meaning, render_inputs, shadowed_out
from reconciler.projections.tables import HOLDS, NODES, POOLS, RESOURCES
from reconciler.rollout.pools import Pool

F = "default"
T0 = datetime(2026, 1, 1, tzinfo=UTC)


def _version(content: str) -> dict[str, Any]:
    return {
        "content": content,
        "meaning": f"m-{content}",
        "text": "t",
        "lines": "l",
        "file": "image.yaml",
        "line": 1,
        "commit": "c",
    }


def _pool(paths: list[str]) -> dict[str, Any]:
    return {"spec": {**Pool.with_defaults().spec, "paths": paths}}


def _hold(name: str, minutes: int, *entries: tuple[str, str, str, str | None]) -> dict[str, Any]:
    return {
        "hold": name,
        "since": T0 + timedelta(minutes=minutes),
        "files": [],
        "entries": [
            {
                "id": number,
                "resource": resource,
                "scope": {"kind": kind, "name": scope},
                "restored": _version(content) if content else None,
                "refused": [],
            }
            for number, (kind, scope, resource, content) in enumerate(entries)
        ],
    }


def _desired(resources: dict[tuple[str, str], str], *holds: dict[str, Any]) -> Desired:
    return Desired(
        F,
        {
            RESOURCES.name: {(F, pool, name): _version(content) for (pool, name), content in resources.items()},
            POOLS.name: {(F, "a"): _pool(["."]), (F, "b"): _pool(["site-b"])},
            NODES.name: {(F, "w1"): {"pool": "a", "spec": {"labels": {}}, "cluster": None, "discovered": False}},
            HOLDS.name: {(F, hold["hold"]): hold for hold in holds},
        },
    )


def _in_force(desired: Desired, pool: str, node: str = "") -> dict[str, str]:
    return {name: version.content for name, version in desired.in_force(pool, node).items()}


GIT = {("a", "Image/cluster"): "new", ("b", "site-b:Image/cluster"): "other"}


@pytest.mark.parametrize(
    ("holds", "pool", "node", "expected"),
    [
        ([], "a", "", {"Image/cluster": "new"}),
        ([_hold("h1", 0, ("fleet", "", "Image/cluster", "old"))], "a", "", {"Image/cluster": "old"}),
        # a fleet entry is no business of a pool that does not take the directory
        ([_hold("h1", 0, ("fleet", "", "Image/cluster", "old"))], "b", "", {"site-b:Image/cluster": "other"}),
        # restored to absent
        ([_hold("h1", 0, ("pool", "a", "Image/cluster", None))], "a", "", {}),
        # absent in Git, restored by the hold
        (
            [_hold("h1", 0, ("pool", "a", "Image/extra", "old"))],
            "a",
            "",
            {"Image/cluster": "new", "Image/extra": "old"},
        ),
        # the narrower scope wins, also when it is older
        (
            [_hold("h1", 0, ("pool", "a", "Image/cluster", "p")), _hold("h2", 5, ("fleet", "", "Image/cluster", "f"))],
            "a",
            "",
            {"Image/cluster": "p"},
        ),
        # of one scope the newer hold wins
        (
            [_hold("h1", 5, ("pool", "a", "Image/cluster", "2")), _hold("h2", 0, ("pool", "a", "Image/cluster", "1"))],
            "a",
            "",
            {"Image/cluster": "2"},
        ),
        # a node's hold is the node's alone
        ([_hold("h1", 0, ("node", "w1", "Image/cluster", "n"))], "a", "w1", {"Image/cluster": "n"}),
        ([_hold("h1", 0, ("node", "w1", "Image/cluster", "n"))], "a", "", {"Image/cluster": "new"}),
    ],
)
def test_in_force(holds: list[dict[str, Any]], pool: str, node: str, expected: dict[str, str]) -> None:
    assert _in_force(_desired(GIT, *holds), pool, node) == expected


def test_a_held_version_names_its_hold() -> None:
    desired = _desired(GIT, _hold("h1", 0, ("fleet", "", "Image/cluster", "old")))
    assert desired.in_force("a")["Image/cluster"].hold == "h1"
    assert desired.git("a")["Image/cluster"].hold == ""
    assert desired.held_nodes("a") == []
    assert _desired(GIT, _hold("h1", 0, ("node", "w1", "x", None))).held_nodes("a") == ["w1"]


def test_a_later_path_replaces_the_same_kind_and_name_whole() -> None:
    pool = Pool("a", {**Pool.with_defaults().spec, "paths": ["common", "site-a"]})
    desired = _desired(
        {("a", "common:Image/cluster"): "1", ("a", "site-a/x:Image/cluster"): "2", ("a", "common:X/y"): "3"}
    )
    used = shadowed_out(desired.git("a"), pool)
    assert [version.resource for version in used] == ["common:X/y", "site-a/x:Image/cluster"]


def _image(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": spec}


def test_contents_compare_by_meaning() -> None:
    blocked = _image(registrySources={"blockedRegistries": ["a.com", "b.com"]})
    reordered = _image(registrySources={"blockedRegistries": ["b.com", "a.com"]})
    labelled = {**blocked, "metadata": {"name": "cluster", "labels": {"x": "y"}, "annotations": {"z": ""}}}
    assert meaning(blocked) == meaning(reordered) == meaning(labelled)
    assert meaning(blocked) != meaning(_image(registrySources={"blockedRegistries": ["a.com"]}))
    search = _image(registrySources={"containerRuntimeSearchRegistries": ["a.com", "b.com"]})
    other = _image(registrySources={"containerRuntimeSearchRegistries": ["b.com", "a.com"]})
    assert meaning(search) != meaning(other), "the runtime tries search registries in order"


def test_render_inputs_are_the_bodies_the_settings_and_the_base() -> None:
    pool = Pool("a", Pool.with_defaults().spec)
    inputs = render_inputs(pool, [("x", "1"), ("y", "2")], "base")
    assert inputs == render_inputs(Pool("other", pool.spec), [("y", "2"), ("x", "1")], "base")
    assert inputs != render_inputs(pool, [("x", "1"), ("y", "3")], "base")
    assert inputs != render_inputs(pool, [("x", "1"), ("y", "2")], "other base")
    assert inputs != render_inputs(Pool("a", {**pool.spec, "base": "openshift"}), [("x", "1"), ("y", "2")], "base")
    assert inputs == render_inputs(Pool("a", {**pool.spec, "maxParallel": 5}), [("x", "1"), ("y", "2")], "base")


def test_a_base_path_that_is_absent_does_not_count() -> None:
    known = {"/etc/containers/policy.json": "a" * 64}
    assert base_digest({**known, "/etc/containers/later.yaml": None}) == base_digest(known)
    assert base_digest({**known, "/etc/containers/later.yaml": "b" * 64}) != base_digest(known)
