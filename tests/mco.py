"""The Machine Config Operator, played for tests: what it does with registry resources, step by step.

It renders each pool's files from the cluster's resources into a MachineConfig named by its content, points the pool at
it, walks the nodes by their annotations one at a time, and reports conditions. A node can be told to fail, a pool to be
paused. What its renderer writes is what ours does, which other tests hold against MCO's own output.
"""

from __future__ import annotations

import base64
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import yaml

from reconciler.kubernetes.memory import MemoryCluster
from reconciler.kubernetes.memory_resources import MemoryResources
from reconciler.ports import ClusterNode, ManifestFile
from reconciler.registries.model import CERTS_D, RenderOptions, Resource, canonical_json
from reconciler.registries.render import render
from reconciler.stages.record import parse_manifest
from tests.cluster import ApiError, ApiServer

GROUP = "machineconfiguration.openshift.io"
PREFIX = f"{GROUP}/"
PLURALS = {
    "Image": "config.openshift.io/v1/images",
    "ImageContentSourcePolicy": "operator.openshift.io/v1alpha1/imagecontentsourcepolicies",
    "ImageDigestMirrorSet": "config.openshift.io/v1/imagedigestmirrorsets",
    "ImageTagMirrorSet": "config.openshift.io/v1/imagetagmirrorsets",
    "ClusterImagePolicy": "config.openshift.io/v1/clusterimagepolicies",
    "ImagePolicy": "config.openshift.io/v1/imagepolicies",
}


class Hands(ABC):
    """What the operator reads and writes in its cluster."""

    @abstractmethod
    def documents(self) -> Sequence[Mapping[str, Any]]:
        """The registry resources."""

    @abstractmethod
    def pool(self, name: str) -> dict[str, Any]: ...

    @abstractmethod
    def set_pool(self, document: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def put_config(self, name: str, files: Mapping[str, bytes]) -> None: ...

    @abstractmethod
    def node(self, name: str) -> dict[str, str]:
        """Its annotations, without the prefix."""

    @abstractmethod
    def annotate(self, name: str, config: Mapping[str, str]) -> None: ...


class MemoryHands(Hands):
    def __init__(self, resources: MemoryResources, cluster: MemoryCluster) -> None:
        self.resources, self.cluster = resources, cluster

    def documents(self) -> Sequence[Mapping[str, Any]]:
        return [self.resources.document(key) for key in self.resources.stored()]

    def pool(self, name: str) -> dict[str, Any]:
        return dict(self.resources.pools.get(name) or {"metadata": {"name": name}, "spec": {}, "status": {}})

    def set_pool(self, document: Mapping[str, Any]) -> None:
        self.resources.pools[document["metadata"]["name"]] = dict(document)

    def put_config(self, name: str, files: Mapping[str, bytes]) -> None:
        self.resources.machine_configs[name] = dict(files)

    def node(self, name: str) -> dict[str, str]:
        return dict(self.cluster.node(name).machine_config)

    def annotate(self, name: str, config: Mapping[str, str]) -> None:
        self.cluster.put(replace(self.cluster.node(name), machine_config=dict(config)))

    def add_node(self, name: str, labels: Mapping[str, str]) -> None:
        self.cluster.put(ClusterNode(name, f"uid-{name}", labels, ready=True))


class ServerHands(Hands):
    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def documents(self) -> Sequence[Mapping[str, Any]]:
        found = [item for plural in PLURALS.values() for item in self.server.api("GET", f"/apis/{plural}")["items"]]
        maps = self.server.api("GET", "/api/v1/namespaces/openshift-config/configmaps")["items"]
        return [*found, *({"apiVersion": "v1", "kind": "ConfigMap", **item} for item in maps)]

    def pool(self, name: str) -> dict[str, Any]:
        path = f"/apis/{GROUP}/v1/machineconfigpools"
        try:
            found: dict[str, Any] = self.server.api("GET", f"{path}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            body = {"apiVersion": f"{GROUP}/v1", "kind": "MachineConfigPool", "metadata": {"name": name}, "spec": {}}
            found = self.server.api("POST", path, body)
        return found

    def set_pool(self, document: Mapping[str, Any]) -> None:
        path = f"/apis/{GROUP}/v1/machineconfigpools/{document['metadata']['name']}"
        changed = self.server.api("PATCH", path, {"spec": document["spec"]})
        status = {**document["status"], "observedGeneration": changed["metadata"]["generation"]}
        self.server.api("PATCH", f"{path}/status", {"status": status})

    def put_config(self, name: str, files: Mapping[str, bytes]) -> None:
        def file(path: str, data: bytes) -> dict[str, Any]:
            return {"path": path, "contents": {"source": f"data:;base64,{base64.b64encode(data).decode()}"}}

        storage = {"files": [file(path, data) for path, data in files.items()]}
        config = {"ignition": {"version": "3.4.0"}, "storage": storage}
        body = {"apiVersion": f"{GROUP}/v1", "kind": "MachineConfig", "metadata": {"name": name}}
        path = f"/apis/{GROUP}/v1/machineconfigs"
        if not self.server.exists(f"{path}/{name}"):
            self.server.api("POST", path, {**body, "spec": {"config": config}})

    def node(self, name: str) -> dict[str, str]:
        annotations = self.server.api("GET", f"/api/v1/nodes/{name}")["metadata"].get("annotations") or {}
        return {key.removeprefix(PREFIX): value for key, value in annotations.items() if key.startswith(PREFIX)}

    def annotate(self, name: str, config: Mapping[str, str]) -> None:
        annotations = {f"{PREFIX}{key}": value for key, value in config.items()}
        self.server.api("PATCH", f"/api/v1/nodes/{name}", {"metadata": {"annotations": annotations}})


@dataclass
class Mco:
    """One operator. `pools` maps each pool to its nodes; `failing`: node → why it cannot apply what it is to get."""

    hands: Hands
    pools: Mapping[str, Sequence[str]]
    failing: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    def install(self) -> None:
        """A cluster as its installer leaves it: every node has the first rendered config."""
        for name, nodes in self.pools.items():
            target = self._render(name)
            for node in nodes:
                self.hands.annotate(node, {"currentConfig": target, "desiredConfig": target, "state": "Done"})
            self._report(name, target)

    def step(self) -> bool:
        """One look at everything; whether anything changed."""
        changed = [self._step(name, nodes) for name, nodes in self.pools.items()]
        return any(changed)

    def settle(self) -> None:
        """As many as it takes."""
        for _ in range(100):
            if not self.step():
                return
        raise AssertionError("the operator comes to no end")

    def _step(self, pool: str, nodes: Sequence[str]) -> bool:
        target = self._render(pool)
        before = {node: self.hands.node(node) for node in nodes}
        if pool not in self.paused:
            self._start(target, before)
        for node in nodes:
            self._work(node, before[node])
        after = {node: self.hands.node(node) for node in nodes}
        return self._report(pool, target) or before != after

    def _render(self, pool: str) -> str:
        files = {file.path: file.content for file in render(self._resources(), RenderOptions("openshift")).files}
        files = {path: data for path, data in files.items() if not path.startswith(CERTS_D)}
        files = {path: _as_mco_writes(path, data) for path, data in files.items()}
        texts = {path: data.decode() for path, data in files.items()}
        name = f"rendered-{pool}-{hashlib.sha256(canonical_json(texts).encode()).hexdigest()[:32]}"
        self.hands.put_config(name, files)
        return name

    def _resources(self) -> list[Resource]:
        found = []
        for number, document in enumerate(self.hands.documents()):
            body = {key: value for key, value in document.items() if key != "status"}
            parsed = parse_manifest(ManifestFile(f"{number}.yaml", "", yaml.safe_dump(body).encode()))
            for manifest in parsed.manifests:
                resource, problems = parsed.validated(manifest, "default", datetime.now(UTC))
                assert resource is not None, problems
                found.append(resource)
        return found

    def _start(self, target: str, nodes: Mapping[str, Mapping[str, str]]) -> None:
        """Tell the next node, unless one is under way or has failed: maxUnavailable is 1."""
        busy = [
            name for name, config in nodes.items() if config["state"] != "Done" and config["desiredConfig"] == target
        ]
        waiting = [name for name, config in nodes.items() if config["desiredConfig"] != target]
        if not busy and waiting:
            self.hands.annotate(waiting[0], {**nodes[waiting[0]], "desiredConfig": target})

    def _work(self, node: str, before: Mapping[str, str]) -> None:
        """The node's daemon: it begins, and is done at the next look."""
        now = self.hands.node(node)
        if now["currentConfig"] == now["desiredConfig"]:
            return
        if why := self.failing.get(node):
            self.hands.annotate(node, {**now, "state": "Degraded", "reason": why})
        elif before["state"] == "Working":
            self.hands.annotate(node, {**now, "currentConfig": now["desiredConfig"], "state": "Done", "reason": ""})
        else:
            self.hands.annotate(node, {**now, "state": "Working", "reason": ""})

    def _report(self, pool: str, target: str) -> bool:
        nodes = {node: self.hands.node(node) for node in self.pools[pool]}
        updated = [name for name, config in nodes.items() if _has(config, target)]
        degraded = {name: config for name, config in nodes.items() if config["state"] == "Degraded"}
        before, complete = self.hands.pool(pool), len(updated) == len(nodes)
        last = (before.get("status") or {}).get("configuration") or {"name": target}
        document = {
            "metadata": before["metadata"],
            "spec": {**before["spec"], "configuration": {"name": target}, "paused": pool in self.paused},
            "status": {
                "configuration": {"name": target} if complete else last,
                "machineCount": len(nodes),
                "updatedMachineCount": len(updated),
                "readyMachineCount": len(updated),
                "unavailableMachineCount": sum(config["state"] != "Done" for config in nodes.values()),
                "degradedMachineCount": len(degraded),
                "conditions": _conditions(degraded, target, complete=complete, paused=pool in self.paused),
            },
        }
        names = ("spec", "status")
        if all(_within(document[name], before.get(name) or {}) for name in names):
            return False
        self.hands.set_pool(document)
        return True


def _as_mco_writes(path: str, data: bytes) -> bytes:
    """Without our comments, and its JSON in one line."""
    if path.endswith(".json"):
        return json.dumps(json.loads(data)).encode()
    return b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(b"#"))


def _has(config: Mapping[str, str], target: str) -> bool:
    return config["currentConfig"] == config["desiredConfig"] == target and config["state"] == "Done"


def _conditions(
    degraded: Mapping[str, Mapping[str, str]], target: str, *, complete: bool, paused: bool
) -> list[dict[str, str]]:
    waits = paused and not complete
    reports = ", ".join(f'Node {name} is reporting: "{config["reason"]}"' for name, config in degraded.items())
    told = {
        "Updated": (complete, f"All nodes are updated with MachineConfig {target}" if complete else ""),
        "Updating": (not complete and not paused, f"Pool is paused; will not update to {target}" if waits else ""),
        "NodeDegraded": (bool(degraded), reports),
        "RenderDegraded": (False, ""),
        "Degraded": (bool(degraded), ""),
    }
    return [
        {
            "type": kind,
            "status": str(status),
            "reason": "",
            "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, (status, message) in told.items()
    ]


def _within(wanted: Any, found: Any) -> bool:
    """Whether `found` says all of `wanted`: the API adds to it."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return all(_within(value, found.get(name)) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(_within, wanted, found))
    return bool(wanted == found)
