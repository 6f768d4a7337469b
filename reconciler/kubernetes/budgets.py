"""Who keeps a pod: its PodDisruptionBudget, and the controller behind it, as people know them."""

from __future__ import annotations

from collections.abc import Mapping

from lightkube import ApiError, AsyncClient
from lightkube.models.meta_v1 import LabelSelector
from lightkube.resources.apps_v1 import ReplicaSet
from lightkube.resources.core_v1 import Pod
from lightkube.resources.policy_v1 import PodDisruptionBudget

from reconciler.kubernetes.client import errors
from reconciler.kubernetes.eviction import Tried, controller_of, name_of
from reconciler.ports import Blocker


class Budgets:
    """The budgets and owners of the pods that one look at a node found kept. Each is asked for once.

    Where the rights to read them are missing, the API server's own words do.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._budgets: dict[str, list[PodDisruptionBudget]] = {}
        self._owners: dict[tuple[str, str], str] = {}

    async def blocker(self, tried: Tried) -> Blocker:
        """Why a pod could not be evicted. Raises ClusterError where the API server cannot be reached."""
        namespace = name_of(tried.pod).partition("/")[0]
        labels = (tried.pod.metadata.labels if tried.pod.metadata else None) or {}
        if tried.outcome == "held":
            return Blocker(name_of(tried.pod), await self.owner(tried.pod), why=tried.said)
        found = [one for one in await self._of(namespace) if _selects(one, labels)]
        names = [f"{namespace}/{one.metadata.name}" for one in found if one.metadata]
        owner = await self.owner(tried.pod)
        status = found[0].status if len(found) == 1 else None
        if status is None or status.disruptionsAllowed is None:
            return Blocker(name_of(tried.pod), owner, ", ".join(names), None, tried.said)
        allowed = status.disruptionsAllowed
        why = f"{allowed} disruption{'' if allowed == 1 else 's'} allowed"
        health = f"{status.currentHealthy} of {status.expectedPods} pods healthy, {status.desiredHealthy} needed"
        return Blocker(name_of(tried.pod), owner, names[0], allowed, f"{why}: {health}")

    async def owner(self, pod: Pod) -> str:
        """KIND/NAME of the controller; of a ReplicaSet, that of the Deployment above it; "" where there is none."""
        controller = controller_of(pod.metadata)
        if controller is None:
            return ""
        namespace, plain = name_of(pod).partition("/")[0], f"{controller.kind}/{controller.name}"
        key = (namespace, plain)
        if controller.kind != "ReplicaSet":
            return plain
        if key not in self._owners:
            with errors(f"{plain} in {namespace}"):
                try:
                    above = controller_of(
                        (await self._client.get(ReplicaSet, controller.name, namespace=namespace)).metadata
                    )
                except ApiError as error:
                    if error.status.code not in (403, 404):
                        raise
                    above = None
            self._owners[key] = f"{above.kind}/{above.name}" if above else plain
        return self._owners[key]

    async def _of(self, namespace: str) -> list[PodDisruptionBudget]:
        if namespace not in self._budgets:
            with errors(f"PodDisruptionBudgets in {namespace}"):
                try:
                    found = [one async for one in self._client.list(PodDisruptionBudget, namespace=namespace)]
                except ApiError as error:
                    if error.status.code != 403:
                        raise
                    found = []
            self._budgets[namespace] = found
        return self._budgets[namespace]


def _selects(budget: PodDisruptionBudget, labels: Mapping[str, str]) -> bool:
    """Whether a budget is about pods with these labels: one without a selector is about none."""
    selector = budget.spec.selector if budget.spec else None
    return selector is not None and matches(selector, labels)


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (of meta/v1) selects these labels; an empty one selects all."""
    if any(labels.get(key) != value for key, value in (selector.matchLabels or {}).items()):
        return False
    for wanted in selector.matchExpressions or ():
        among = labels.get(wanted.key) in (wanted.values or ())
        holds = {
            "In": wanted.key in labels and among,
            "NotIn": not among,
            "Exists": wanted.key in labels,
            "DoesNotExist": wanted.key not in labels,
        }
        if not holds[wanted.operator]:
            return False
    return True
