"""What a pod's containers are given: files of its volumes and environment variables, read from the API."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from reconciler.kubernetes.trial import HOST
from tests.containers import PATH, Json, NotStarted, Place, expanded, selected, write_volume


@dataclass(slots=True)
class Sources:
    """Of one pod. What is not there yet, or what the test kubelet cannot do, raises NotStarted."""

    pod: Json
    server: str
    """URL of the API server."""

    request: Callable[..., Awaitable[Any]]
    """Method, path and body → the decoded answer, or None where there is no such object."""

    async def write_volumes(self, place: Place) -> None:
        for volume in self.pod["spec"].get("volumes", ()):
            directory = place.outside / "volumes" / volume["name"]
            if "emptyDir" in volume:
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(0o777)
            elif "hostPath" not in volume:
                sources = volume.get("projected", {}).get("sources") or [volume]
                mode = (volume.get("projected") or volume.get("downwardAPI") or {}).get("defaultMode", 0o644)
                files: dict[str, tuple[bytes, int]] = {}
                for source in sources:
                    files.update(await self._files(source, mode))
                write_volume(directory, files)

    async def _files(self, source: Json, mode: int) -> dict[str, tuple[bytes, int]]:
        """Path → content and mode, of one source of a volume."""
        if "downwardAPI" in source:
            items = source["downwardAPI"]["items"]
            return {each["path"]: (self._field(each["fieldRef"]).encode(), mode) for each in items}
        if token := source.get("serviceAccountToken"):
            return {token["path"]: (await self._token(token), mode)}
        kind, key = ("secrets", "secret") if "secret" in source else ("configmaps", "configMap")
        if key not in source:
            raise NotStarted("ContainerCreating", f"the test kubelet has no volumes like {sorted(source)}")
        wanted = source[key]
        name = wanted.get("secretName") or wanted["name"]
        data = await self._data(kind, name, optional=bool(wanted.get("optional")))
        return dict(selected(data, wanted, wanted.get("defaultMode", mode)))

    async def _token(self, wanted: Json) -> bytes:
        metadata, account = self.pod["metadata"], self.pod["spec"]["serviceAccountName"]
        bound = {
            "kind": "Pod",
            "apiVersion": "v1",
            "name": self.pod["metadata"]["name"],
            "uid": self.pod["metadata"]["uid"],
        }
        spec = {"boundObjectRef": bound, "expirationSeconds": wanted.get("expirationSeconds", 3600)}
        spec |= {"audiences": [wanted["audience"]]} if "audience" in wanted else {}
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self.request("POST", path, request)
        if answer is None:
            raise NotStarted("ContainerCreating", f'serviceaccount "{account}" not found')
        return str(answer["status"]["token"]).encode()

    async def _data(self, kind: str, name: str, *, optional: bool) -> dict[str, bytes]:
        """Of a Secret or a ConfigMap."""
        path = f"/api/v1/namespaces/{self.pod['metadata']['namespace']}/{kind}/{name}"
        found = await self.request("GET", path)
        if found is None:
            if optional:
                return {}
            raise NotStarted("ContainerCreating", f'{kind.removesuffix("s")} "{name}" not found')
        data, binary = found.get("data") or {}, found.get("binaryData") or {}
        if kind == "secrets":
            return {key: base64.b64decode(value) for key, value in data.items()}
        return {key: value.encode() for key, value in data.items()} | {
            key: base64.b64decode(value) for key, value in binary.items()
        }

    async def environment(self, spec: Json) -> dict[str, str]:
        port = self.server.rpartition(":")[2]
        found = {"PATH": PATH, "HOME": "/root", "HOSTNAME": self.pod["metadata"]["name"]}
        found |= {"KUBERNETES_SERVICE_HOST": HOST, "KUBERNETES_SERVICE_PORT": port}
        for source in spec.get("envFrom", ()):
            kind = "secrets" if "secretRef" in source else "configmaps"
            wanted = source.get("secretRef") or source["configMapRef"]
            data = await self._config(kind, wanted)
            found |= {source.get("prefix", "") + key: value.decode() for key, value in data.items()}
        for variable in spec.get("env", ()):
            if (value := await self._value(variable, found)) is not None:
                found[variable["name"]] = value
        return found

    async def _value(self, variable: Json, found: dict[str, str]) -> str | None:
        source = variable.get("valueFrom")
        if not source:
            return expanded(variable.get("value", ""), found)
        if "fieldRef" in source:
            return self._field(source["fieldRef"])
        wanted = source.get("secretKeyRef") or source.get("configMapKeyRef")
        if not wanted:
            raise NotStarted("CreateContainerConfigError", f"the test kubelet has no variables from {sorted(source)}")
        data = await self._config("secrets" if "secretKeyRef" in source else "configmaps", wanted)
        if wanted["key"] in data:
            return data[wanted["key"]].decode()
        if wanted.get("optional"):
            return None
        raise NotStarted("CreateContainerConfigError", f"couldn't find key {wanted['key']} in {wanted['name']}")

    async def _config(self, kind: str, wanted: Json) -> dict[str, bytes]:
        try:
            return await self._data(kind, wanted["name"], optional=bool(wanted.get("optional")))
        except NotStarted as problem:
            raise NotStarted("CreateContainerConfigError", str(problem)) from problem

    def _field(self, source: Json) -> str:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        path = source["fieldPath"]
        plain = {
            "metadata.name": self.pod["metadata"]["name"],
            "metadata.namespace": metadata["namespace"],
            "metadata.uid": self.pod["metadata"]["uid"],
            "spec.nodeName": self.pod["spec"]["nodeName"],
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "status.hostIP": HOST,
            "status.podIP": HOST,
        }
        if path in plain:
            return str(plain[path])
        kind, _, key = path.removeprefix("metadata.").removesuffix("']").partition("['")
        if kind not in {"labels", "annotations"} or not key:
            raise NotStarted("CreateContainerConfigError", f"the test kubelet knows no field {path}")
        return str(metadata.get(kind, {}).get(key, ""))
