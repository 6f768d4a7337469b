"""A cluster's resources as a config repository, and the proof that its first sync finds nothing to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from reconciler.adoption.repository import MESSAGE, as_yaml, check_place, write
from reconciler.errors import InputRejected, UsageError
from reconciler.kubernetes.parts import lone_resources
from reconciler.ports import ClusterLook, ClusterResources, ManifestFile
from reconciler.registries.model import digest
from reconciler.rollout.cluster_objects import (
    APPLY_ORDER,
    CA_NAMESPACE,
    IMAGE,
    LOG_MARK,
    MIRROR_KINDS,
    POLICY_KINDS,
    key_of,
)
from reconciler.rollout.managed_fields import ClusterObject, differences
from reconciler.rollout.pools import API_VERSION
from reconciler.stages.preview import judge_manifests
from reconciler.starter import commit_all

_FILES = {
    "Image": "image.yaml",
    "ConfigMap": "registry-cas.yaml",
    **dict.fromkeys(MIRROR_KINDS, "mirrors.yaml"),
    **dict.fromkeys(POLICY_KINDS, "policies.yaml"),
}
_PLAIN_POOLS = ("master", "worker")
"""MachineConfigPools whose nodes go to a custom pool that selects them, too."""


@dataclass(frozen=True)
class Left:
    """An object that is not taken into Git, and why."""

    key: str
    why: str


@dataclass(frozen=True)
class Import:
    """What was read of a cluster and written. `resources` are named as in the cluster, `pools` by their names;
    `differs`: fields that the repository would say otherwise than the cluster does."""

    resources: tuple[str, ...]
    pools: tuple[str, ...]
    left: tuple[Left, ...]
    differs: tuple[str, ...]
    warnings: tuple[str, ...]
    commit: str = ""

    def data(self) -> dict[str, Any]:
        """For JSON and YAML."""
        return {
            "resources": list(self.resources),
            "pools": list(self.pools),
            "left": [{"object": item.key, "why": item.why} for item in self.left],
            "differs": list(self.differs),
            "warnings": list(self.warnings),
            "commit": self.commit,
        }


async def adopt_cluster(kubeconfig: str, context: str, to: Path | None, *, commit: bool) -> Import:
    """`import_cluster` of the cluster that a context of a kubeconfig file names; `` each: as kubectl would take it."""
    async with lone_resources(kubeconfig, context) as cluster:
        return await import_cluster(cluster, to, commit=commit, now=datetime.now(UTC))


async def import_cluster(cluster: ClusterResources, to: Path | None, *, commit: bool, now: datetime) -> Import:
    """Read the cluster's resources and pools, and write the repository that says the same. Nothing is changed there.

    Raises UsageError for a cluster without OpenShift's resources, InputRejected where what stands there would be
    rejected as a commit, ClusterError.
    """
    if to is not None:
        check_place(to)
    look = await cluster.look()
    if not look.pools:
        what = "the cluster has no MachineConfigPools, so it is no OpenShift cluster"
        remedy = "import the files of its nodes instead: --from-node"
        raise UsageError(what, where="--from-cluster", remedy=remedy)
    taken, left = _taken(look)
    pools, narrowed = _pools(look.pools)
    files = _repository(taken, pools)
    differs, warnings = _prove(files, taken, now)
    made = ""
    if to is not None:
        write(to, files)
        made = commit_all(to, "main", MESSAGE) if commit else ""
    return Import(tuple(taken), tuple(sorted(look.pools)), (*left, *narrowed), differs, warnings, made)


def _taken(look: ClusterLook) -> tuple[dict[str, ClusterObject], list[Left]]:
    """The objects that go into Git, in the order in which they are applied; and those that do not."""
    authority = _authority(look.objects.get(IMAGE))
    taken: dict[str, ClusterObject] = {}
    left: list[Left] = []
    names: dict[tuple[str, str], str] = {}
    for key in sorted(look.objects, key=lambda key: (APPLY_ORDER.index(key.partition("/")[0]), key)):
        found = look.objects[key]
        if key.startswith("ConfigMap/") and key != f"ConfigMap/{authority}":
            continue  # of openshift-config's many, the Image names one
        if LOG_MARK in (found.document["metadata"].get("annotations") or {}):
            left.append(Left(key, "reconciler applied it: it stands in a config repository already"))
        elif (other := names.setdefault((found.document["kind"], found.document["metadata"]["name"]), key)) != key:
            left.append(Left(key, f"a config repository has one object of a kind and name, and {other} is taken"))
        else:
            taken[key] = found
    return taken, left


def _authority(image: ClusterObject | None) -> str:
    spec = image.document.get("spec") or {} if image else {}
    return str((spec.get("additionalTrustedCA") or {}).get("name") or "")


def _pools(machine_pools: Mapping[str, Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Left]]:
    """A NodePool for each MachineConfigPool, and what its selector cannot say."""
    documents, left = [], []
    for name, found in sorted(machine_pools.items()):
        selector = (found.get("spec") or {}).get("nodeSelector") or {}
        labels = dict(selector.get("matchLabels") or {})
        if selector.get("matchExpressions") or not labels:
            labels = labels or {f"node-role.kubernetes.io/{name}": ""}
            left.append(Left(f"MachineConfigPool/{name}", "a NodePool selects by labels alone: check its nodeSelector"))
        spec: dict[str, Any] = {"manage": "cluster", "mode": "observe", "nodeSelector": {"matchLabels": labels}}
        if name not in _PLAIN_POOLS:
            spec["priority"] = 1  # as MCO has it: a custom pool takes its nodes from worker
        documents.append({"apiVersion": API_VERSION, "kind": "NodePool", "metadata": {"name": name}, "spec": spec})
    return documents, left


def _repository(taken: Mapping[str, ClusterObject], pools: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The files of the repository, path → text."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for item in taken.values():
        found.setdefault(_FILES[item.document["kind"]], []).append(_as_written(item.document))
    files = {file: as_yaml(documents) for file, documents in sorted(found.items())}
    files["pools.yaml"] = as_yaml(pools)
    files["README.md"] = _README.format(rows="\n".join(f"- `{key}`" for key in taken) or "Nothing.")
    return files


def _as_written(document: Mapping[str, Any]) -> dict[str, Any]:
    """As a person would write it: of metadata the name, the namespace of an ImagePolicy, and labels."""
    given = document["metadata"]
    kept = {"name": given["name"]}
    if given.get("namespace"):
        kept["namespace"] = given["namespace"]
    if given.get("labels"):
        kept["labels"] = dict(given["labels"])
    rest = {name: value for name, value in document.items() if name not in ("apiVersion", "kind", "metadata")}
    return {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": kept, **rest}


def _prove(
    files: Mapping[str, str], taken: Mapping[str, ClusterObject], now: datetime
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Judge the repository as a commit, and hold what it says against the cluster: fields that differ, warnings."""
    texts = sorted((path, text) for path, text in files.items() if path.endswith(".yaml"))
    manifests = [ManifestFile(path, digest(text), text.encode()) for path, text in texts]
    judgement, _ = judge_manifests(manifests, "default", now)
    if judgement.problems:
        raise InputRejected("\n".join(str(problem) for problem in judgement.problems))
    said = [document for _, text in texts for document in yaml.safe_load_all(text) if document["kind"] != "NodePool"]
    by_key = {key_of(document): document for document in said}
    differs = [
        f"{key}: {item.text}" for key, found in taken.items() for item in differences(by_key[key], found.document)
    ]
    return tuple(differs), tuple(str(warning) for warning in judgement.warnings)


_README = f"""\
# Registry configuration of the cluster

Written by `reconciler import --from-cluster` from the cluster's own resources. Every pool is in `mode: observe`:
nothing is applied until it says `enforce`, and nothing that stood in the cluster before is touched until a person
adopts it.

ConfigMaps are those of the namespace {CA_NAMESPACE}.

## What was taken

{{rows}}
"""
