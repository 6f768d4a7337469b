"""The pods by which nodes are reached, as manifests. Values only; what runs in them is pod.sh."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from reconciler.errors import NodeRefused
from reconciler.transport.protocol import Call, packed_program, started

Json = dict[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
FLEET, LOG, NODE, STEP = "reconciler.dev/fleet", "reconciler.dev/log", "reconciler.dev/node", "reconciler.dev/step"
REQUEST = "reconciler.dev/request"
"""Label: names one pod and its Secret."""

VERB, OWNER, CONFIRM = "reconciler.dev/verb", "reconciler.dev/owner", "reconciler.dev/confirm"
"""Annotations: what the pod does, whose process made it, and the order to confirm."""

MAIN, CONFIRMER = "main", "confirm"
"""The containers: the one with the answer, and the one that waits for an order to confirm."""

SECRET_LIMIT = 1024 * 1024
"""Bytes that an API server takes as data of a Secret."""

ARGUMENT_LIMIT = 96 * 1024
"""Bytes of a request that stands in the pod itself: an argument of a program may have 128 KiB."""

PRIORITY = "system-node-critical"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose pods they are: `namespace` and `image` of the settings, fleet, its log, and the process (lease name)."""

    namespace: str
    image: str
    fleet: str
    log_id: str
    owner: str

    @property
    def labels(self) -> Mapping[str, str]:
        """On everything we make for this fleet and log, and on nothing else."""
        return {MANAGED_BY: "reconciler", FLEET: label(self.fleet), LOG: label(self.log_id)}

    @property
    def selector(self) -> str:
        return ",".join(f"{key}={value}" for key, value in self.labels.items())


@dataclass(frozen=True, slots=True)
class Errand:
    """One request to one node. `step`: of a verb that writes. `seconds` is the pod's time. With `look`, a second
    container waits `wait` seconds for an order to confirm, and looks."""

    name: str
    node: str
    call: Call
    seconds: int
    step: str = ""
    look: Call | None = None
    wait: int = 0
    verb: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verb", self.call.verb)

    @property
    def looks(self) -> bool:
        """Whether it changes nothing."""
        return self.verb in ("observe", "images")

    @property
    def in_pod(self) -> bool:
        """Whether the request stands in the pod itself: of looks, which tell paths and hashes only."""
        return self.looks and len(self._encoded) <= ARGUMENT_LIMIT

    @property
    def _encoded(self) -> str:
        return base64.b64encode(self.call.stdin).decode()

    def pod(self, origin: Origin, *, critical: bool) -> Json:
        """Bound to the node: no scheduler is asked, and no taint keeps it away."""
        metadata = self._metadata(origin)
        metadata["annotations"] = {VERB: self.verb, OWNER: origin.owner}
        containers = [self._main(origin)]
        if self.look is not None:
            containers.insert(0, self._confirmer(origin, self.look))
        spec = {
            "nodeName": self.node,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": self.seconds,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "hostPID": True,  # systemctl asks who process 1 is
            "hostNetwork": True,  # it must start where the cluster's network does not work, too
            "tolerations": [{"operator": "Exists"}],
            "containers": containers,
            "volumes": self._volumes(),
            **({"priorityClassName": PRIORITY} if critical else {}),
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def secret(self, origin: Origin) -> Json:
        """The request, owned by the pod (whose uid is to be filled in): whatever takes that away takes it, too. Raises
        NodeRefused where it is too large."""
        data = {"program": packed_program(), "payload": self.call.payload}
        if self.look is not None:
            data["look"] = self.look.payload
        if (size := sum(map(len, data.values()))) > SECRET_LIMIT:
            raise NodeRefused(
                f"the request has {size} bytes gzipped, and a Secret holds {SECRET_LIMIT} at most",
                where=f"node {self.node}",
                remedy="have fewer or shorter entries in the pool's resources, or reach the node over SSH",
            )
        owner = {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": ""}
        metadata = {**self._metadata(origin), "ownerReferences": [owner]}
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "immutable": True, "data": encoded}

    def _metadata(self, origin: Origin) -> Json:
        own = {NODE: label(self.node), REQUEST: self.name, **({STEP: label(self.step)} if self.step else {})}
        return {"name": self.name, "namespace": origin.namespace, "labels": {**origin.labels, **own}}

    def _main(self, origin: Origin) -> Json:
        proof = [self.verb, str(len(self.call.payload)), hashlib.sha256(self.call.payload).hexdigest()]
        if self.looks:
            return self._container(origin, MAIN, ["look", *proof, *([self._encoded] if self.in_pod else [])])
        return self._container(origin, MAIN, ["write", *proof, *(["wait"] if self.look else [])])

    def _confirmer(self, origin: Origin, look: Call) -> Json:
        proof = [str(len(look.payload)), hashlib.sha256(look.payload).hexdigest()]
        return self._container(origin, CONFIRMER, ["confirm", str(self.wait), *proof])

    def _container(self, origin: Origin, name: str, arguments: list[str]) -> Json:
        mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in self._volumes()]
        return {
            "name": name,
            "image": origin.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", _script(), "pod.sh", *arguments],
            "env": [{"name": "BOOTSTRAP", "value": _bootstrap()}, {"name": "PATH", "value": PATH}],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": {"privileged": True, "runAsUser": 0},
            "volumeMounts": mounts,
        }

    def _volumes(self) -> list[Json]:
        """Each is mounted at its name."""
        volumes: list[Json] = [{"name": "host", "hostPath": {"path": "/"}}]
        if not self.in_pod:
            volumes.append({"name": "request", "secret": {"secretName": self.name, "defaultMode": 0o400}})
        if self.look is not None:
            order = {"path": "confirm", "fieldRef": {"fieldPath": f"metadata.annotations['{CONFIRM}']"}}
            volumes.append({"name": "order", "downwardAPI": {"items": [order]}})
            volumes.append({"name": "shared", "emptyDir": {}})
        return volumes


def order(call: Call) -> Json:
    """The patch of a pod by which its change is confirmed."""
    payload = base64.b64encode(call.payload).decode()
    text = f"{len(call.payload)} {hashlib.sha256(call.payload).hexdigest()} {payload}\n"
    return {"metadata": {"annotations": {CONFIRM: text}}}


def label(value: str) -> str:
    """The value as a label; what cannot be one is named by its digest."""
    return value if _LABEL.fullmatch(value) else hashlib.sha256(value.encode()).hexdigest()[:32]


@cache
def _bootstrap() -> str:
    """What a shell does to read node.sh from its standard input, and to become it."""
    _, _, script, *_ = started()
    return script


@cache
def _script() -> str:
    return files("reconciler.kubernetes").joinpath("pod.sh").read_text()
