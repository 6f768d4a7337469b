"""One fleet's way to its cluster: a client that all parts share, made when it is first needed."""

from __future__ import annotations

from typing import Any, Literal

from lightkube import AsyncClient
from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview

from reconciler.errors import ClusterRefused, UsageError
from reconciler.kubernetes.client import connect, errors
from reconciler.ports import ClusterCheck

RIGHTS = (("list", "", "nodes"), ("watch", "", "nodes"))
"""Verb, API group and resource of each right that discovery needs; `resource/subresource` for a part of one."""


class Connection:
    """To the cluster that the settings of `fleet` name. Nothing is read, and nobody asked, before `client` is called,
    so that what needs no cluster works without its kubeconfig file."""

    def __init__(
        self, fleet: str, cluster: Literal["kubeconfig", "in-cluster"], kubeconfig: str = "", context: str = ""
    ) -> None:
        self.fleet = fleet
        self._settings = cluster, kubeconfig, context
        self._client: AsyncClient | None = None

    def client(self) -> AsyncClient:
        """The one client. Raises ClusterRefused where the settings give none."""
        if self._client is None:
            try:
                self._client = connect(self.fleet, *self._settings)
            except UsageError as error:
                raise ClusterRefused(error.what, where=error.where, remedy=error.remedy) from None
        return self._client

    async def check(self) -> ClusterCheck:
        """The cluster's version, and which of RIGHTS are missing. Raises ClusterError."""
        client = self.client()
        http: Any = client._client._client  # noqa: SLF001 - lightkube asks for objects only, and a version is none
        asked = f"the cluster of fleet {self.fleet}"
        with errors(asked):
            answer = await http.get("version")
            answer.raise_for_status()
            missing = [
                f"{verb} {resource}"
                for verb, group, resource in RIGHTS
                if not await _may(client, verb, group, resource)
            ]
        return ClusterCheck(str(answer.json()["gitVersion"]), tuple(missing))

    async def close(self) -> None:
        """Close what is open; the next call opens it anew."""
        if self._client is not None:
            await self._client.close()
            self._client = None


async def _may(client: AsyncClient, verb: str, group: str, resource: str) -> bool:
    name, _, part = resource.partition("/")
    attributes = ResourceAttributes(verb=verb, group=group, resource=name, subresource=part or None)
    review = SelfSubjectAccessReview(spec=SelfSubjectAccessReviewSpec(resourceAttributes=attributes))
    status = (await client.create(review)).status
    return status is not None and status.allowed
