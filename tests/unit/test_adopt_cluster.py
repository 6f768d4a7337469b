"""`import --from-cluster`: the repository that a cluster's resources give, by cases."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.adoption.cluster import import_cluster
from reconciler.errors import UsageError
from reconciler.ports import ClusterLook
from reconciler.rollout.cluster_objects import key_of
from reconciler.rollout.managed_fields import ClusterObject
from tests.authorities import certificate

CASES = Path(__file__).parents[1] / "cases" / "adopt_cluster"
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def cases() -> list[dict[str, Any]]:
    return [case for file in sorted(CASES.glob("*.yaml")) for case in yaml.safe_load(file.read_text())]


class Cluster:
    """A cluster that can only be looked at: anything else would be an error."""

    def __init__(self, objects: list[Mapping[str, Any]], pools: Mapping[str, Any]) -> None:
        found = {key_of(item): ClusterObject(key_of(item), item, "uid", "1", 1) for item in objects}
        self._look = ClusterLook(found, {name: {"spec": spec} for name, spec in pools.items()})

    async def look(self) -> ClusterLook:
        return self._look


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
async def test_a_cluster_as_a_repository(case: dict[str, Any], tmp_path: Path) -> None:
    authority = certificate()
    for item in case["objects"]:
        item.get("data", {}).update({name: authority for name, text in item.get("data", {}).items() if text == "CA"})
    cluster, place = Cluster(case["objects"], case["pools"]), tmp_path / "fleet"
    if why := case.get("refused"):
        with pytest.raises(UsageError, match=why):
            await import_cluster(cluster, place, commit=False, now=NOW)  # type: ignore[arg-type]  # only looked at
        assert not place.exists()
        return
    done = await import_cluster(cluster, place, commit=True, now=NOW)  # type: ignore[arg-type]  # only looked at
    assert list(done.resources) == case["resources"]
    assert {item.key: item.why for item in done.left} == case.get("left", {})
    assert done.differs == ()
    for name, text in case["files"].items():
        assert (place / name).read_text() == text
    assert (place / ".git").is_dir()
