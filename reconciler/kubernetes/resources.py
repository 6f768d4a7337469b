"""The resources of a cluster that its Machine Config Operator reads, kept by watches and set by server-side apply
(ports.ClusterResources)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import gzip
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx2
from lightkube import ApiError
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import PatchType

from reconciler.errors import ClusterError, ClusterRefused, FieldConflict
from reconciler.kubernetes.client import PAGE, delete_with, errors
from reconciler.kubernetes.connection import Connection
from reconciler.kubernetes.watch import Mirror
from reconciler.ports import ClusterLook
from reconciler.registries.kinds import KEPT_METADATA
from reconciler.rollout.cluster_objects import CA_NAMESPACE, key_of
from reconciler.rollout.managed_fields import FIELD_MANAGER, ClusterObject, FieldManager

_CONFIG = ("config.openshift.io", "v1")
_MACHINES = ("machineconfiguration.openshift.io", "v1")
KINDS: Mapping[str, Any] = {
    "ConfigMap": ConfigMap,
    "Image": create_global_resource(*_CONFIG, "Image", "images"),
    "ImageContentSourcePolicy": create_global_resource(
        "operator.openshift.io", "v1alpha1", "ImageContentSourcePolicy", "imagecontentsourcepolicies"
    ),
    "ImageDigestMirrorSet": create_global_resource(*_CONFIG, "ImageDigestMirrorSet", "imagedigestmirrorsets"),
    "ImageTagMirrorSet": create_global_resource(*_CONFIG, "ImageTagMirrorSet", "imagetagmirrorsets"),
    "ClusterImagePolicy": create_global_resource(*_CONFIG, "ClusterImagePolicy", "clusterimagepolicies"),
    "ImagePolicy": create_namespaced_resource(*_CONFIG, "ImagePolicy", "imagepolicies"),
}
_POOL = create_global_resource(*_MACHINES, "MachineConfigPool", "machineconfigpools")
_MACHINE_CONFIG = create_global_resource(*_MACHINES, "MachineConfig", "machineconfigs")
_NAMESPACES = {"ConfigMap": CA_NAMESPACE, "ImagePolicy": "*"}


class OpenShiftResources:
    """The cluster at the end of `connection`, whose owner closes that."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._mirrors: dict[str, Mirror[Any]] = {}

    async def look(self) -> ClusterLook:
        mirrors = self._started()
        unserved = set(await asyncio.gather(*(_unless_served(kind, mirror) for kind, mirror in mirrors.items())))
        objects = [
            _object(kind, item)
            for kind, mirror in mirrors.items()
            if kind in KINDS and kind not in unserved
            for item in mirror.items()
        ]
        pools = () if "MachineConfigPool" in unserved else mirrors["MachineConfigPool"].items()
        return ClusterLook(
            {item.key: item for item in objects},
            {pool["metadata"]["name"]: pool for pool in map(_plain, pools)},
            frozenset(unserved - {""}),
        )

    def _started(self) -> Mapping[str, Mirror[Any]]:
        if not self._mirrors:
            client = self._connection.client()
            for kind, resource in {**KINDS, "MachineConfigPool": _POOL}.items():
                asked = f"{kind} of the cluster of fleet {self._connection.fleet}"
                self._mirrors[kind] = Mirror(client, resource, asked, namespace=_NAMESPACES.get(kind))
        for mirror in self._mirrors.values():
            mirror.start()
        return self._mirrors

    async def apply(
        self, document: Mapping[str, Any], live: ClusterObject | None, against: Collection[str] = ()
    ) -> ClusterObject:
        try:
            return await self._apply(document, live, force=False)
        except FieldConflict as error:
            if not {manager for manager, _ in error.conflicts} <= set(against):
                raise
        return await self._apply(document, live, force=True)

    async def _apply(self, document: Mapping[str, Any], live: ClusterObject | None, *, force: bool) -> ClusterObject:
        kind, metadata = str(document["kind"]), dict(document["metadata"])
        if live is not None:  # else the object is not the one that was looked at
            metadata |= {"uid": live.uid, "resourceVersion": live.resource_version}
        asked = f"{key_of(document)} of the cluster of fleet {self._connection.fleet}"
        client = self._connection.client()
        try:
            with errors(asked):
                answer = await client.patch(
                    KINDS[kind],
                    metadata["name"],
                    {**document, "metadata": metadata},
                    namespace=metadata.get("namespace"),
                    patch_type=PatchType.APPLY,
                    field_manager=FIELD_MANAGER,
                    force=force,
                )
        except ClusterError as error:
            raise _refused(error, kind) from None
        return _object(kind, answer)

    async def read(self, document: Mapping[str, Any]) -> ClusterObject | None:
        kind, metadata = str(document["kind"]), document["metadata"]
        client = self._connection.client()
        with errors(f"{key_of(document)} of the cluster of fleet {self._connection.fleet}"):
            try:
                found = await client.get(KINDS[kind], metadata["name"], namespace=metadata.get("namespace"))
            except ApiError as error:
                if error.status.code != httpx2.codes.NOT_FOUND:
                    raise
                return None
        return _object(kind, found)

    async def delete(self, live: ClusterObject) -> None:
        kind, metadata = live.key.partition("/")[0], live.document["metadata"]
        asked = f"{live.key} of the cluster of fleet {self._connection.fleet}"
        options = {"preconditions": {"uid": live.uid, "resourceVersion": live.resource_version}}
        client = self._connection.client()
        with errors(asked):
            try:
                await delete_with(client, KINDS[kind], metadata["name"], metadata.get("namespace"), options)
            except ApiError as error:
                if error.status.code != httpx2.codes.NOT_FOUND:
                    raise

    async def machine_config(self, name: str) -> Mapping[str, bytes] | None:
        client = self._connection.client()
        with errors(f"MachineConfig {name} of the cluster of fleet {self._connection.fleet}"):
            try:
                found = await client.get(_MACHINE_CONFIG, name)
            except ApiError as error:
                if error.status.code != httpx2.codes.NOT_FOUND:
                    raise
                return None
        return dict(_files(_plain(found)))

    async def images(self) -> Mapping[str, Sequence[str]]:
        client, found = self._connection.client(), dict[str, set[str]]()
        with errors(f"pods of the cluster of fleet {self._connection.fleet}"):
            async for pod in client.list(Pod, namespace="*", chunk_size=PAGE):
                if pod.spec is not None and pod.spec.nodeName:
                    parts = (*pod.spec.containers, *(pod.spec.initContainers or ()))
                    found.setdefault(pod.spec.nodeName, set()).update(part.image for part in parts if part.image)
        return {node: sorted(images) for node, images in found.items()}

    async def close(self) -> None:
        """Stop watching."""
        mirrors, self._mirrors = self._mirrors, {}
        for mirror in mirrors.values():
            await mirror.close()


async def _unless_served(kind: str, mirror: Mirror[Any]) -> str:
    """`kind` where the cluster does not know it, else nothing. Raises what keeps it from being read."""
    try:
        await mirror.synced()
        if mirror.failure is not None:
            raise mirror.failure
    except ClusterRefused as error:
        if error.status == httpx2.codes.NOT_FOUND:
            return kind
        raise
    return ""


def _refused(error: ClusterError, kind: str) -> ClusterError:
    """A conflict of field managers is told from an object that is another one by now, and a kind that is not served."""
    if conflicts := error.causes("FieldManagerConflict"):
        found = tuple((_manager(message), field.lstrip(".")) for message, field in conflicts)
        said = ", ".join(f"{field} is managed by {manager}" for manager, field in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        remedy = "let that manager give the field up, write its value into Git, or take the field: `reconciler retry`"
        raised = FieldConflict(f"{said}{more}, with another value than Git's", where=error.where, remedy=remedy)
        raised.conflicts = found
        return raised
    if error.status == httpx2.codes.CONFLICT:
        message = "somebody else changed it at the same time"
        return ClusterError(message, where=error.where, remedy="it is tried again at the next pass")
    if error.status == httpx2.codes.NOT_FOUND and kind != "ConfigMap":
        remedy = "check that its CustomResourceDefinition is there: `kubectl api-resources`"
        return ClusterRefused(f"the cluster does not serve {kind}", where=error.where, remedy=remedy)
    return error


def _manager(message: str) -> str:
    """Of `conflict with "kubectl-edit" using config.openshift.io/v1 at 2026-…`."""
    return message.partition('"')[2].partition('"')[0] or message


def _plain(item: Any) -> dict[str, Any]:
    found: dict[str, Any] = item.to_dict()
    return found


def _object(kind: str, item: Any) -> ClusterObject:
    document = _plain(item)
    metadata = document["metadata"]
    kept = {name: metadata[name] for name in KEPT_METADATA if metadata.get(name)}
    body = {name: value for name, value in document.items() if name not in ("metadata", "status")}
    body |= {"apiVersion": KINDS[kind]._api_info.resource.api_version, "kind": kind, "metadata": kept}  # noqa: SLF001
    return ClusterObject(
        key_of(body),
        body,
        str(metadata.get("uid") or ""),
        str(metadata.get("resourceVersion") or ""),
        int(metadata.get("generation") or 0),
        tuple(_managers(metadata.get("managedFields") or ())),
    )


def _managers(entries: Sequence[Mapping[str, Any]]) -> Iterator[FieldManager]:
    for entry in entries:
        if not entry.get("subresource"):  # what others say in its status is no change of it
            manager, operation, time = (str(entry.get(name) or "") for name in ("manager", "operation", "time"))
            yield FieldManager(manager, operation, time, entry.get("fieldsV1") or {})


def _files(document: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The files of an Ignition config; one whose source is no data URL is left out."""
    storage = ((document.get("spec") or {}).get("config") or {}).get("storage") or {}
    for file in storage.get("files") or ():
        contents = file.get("contents") or {}
        data = _data(str(contents.get("source") or "data:,"), str(contents.get("compression") or ""))
        if data is not None:
            yield file["path"], data


def _data(source: str, compression: str) -> bytes | None:
    """The bytes of a data URL (RFC 2397)."""
    head, comma, body = source.removeprefix("data:").partition(",")
    if not source.startswith("data:") or not comma:
        return None
    try:
        data = unquote_to_bytes(body)
        data = base64.b64decode(data) if head.endswith(";base64") else data
        return gzip.decompress(data) if compression == "gzip" else data
    except (binascii.Error, OSError, EOFError, zlib.error):
        return None
