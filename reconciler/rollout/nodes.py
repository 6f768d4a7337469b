"""Node: the inventory document of one node (group reconciler.dev/v1alpha1), and how the node is reached."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.registries.model import Document, Location, Problem
from reconciler.rollout.fields import (
    Field,
    Schema,
    complete,
    integer,
    labels,
    one_of,
    problem,
    read_fields,
    text,
    texts,
)

NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")

NODE_SCHEMA: Schema = {
    "transport": Field(one_of("ssh", "local", "kubernetes", "memory"), "ssh"),
    "address": Field(text, ""),
    "port": Field(integer(1, 65535), 22),
    "user": Field(text, "root"),
    "become": Field(one_of("", "sudo"), ""),
    "hostKeys": Field(texts, []),
    "root": Field(text, ""),
    "nodeName": Field(text, ""),
}


@dataclass(frozen=True)
class Node:
    """A Node. `spec` is as recorded in the log: every field (filled in as for a Pool), and the labels.

    `cluster` is what its cluster last said of it (NodeConditionChanged; empty: it is in none), `discovered` that it is
    there and no document names it.
    """

    name: str
    spec: Mapping[str, Any]
    location: Location | None = None
    pool: str | None = None
    cluster: Mapping[str, Any] = field(default_factory=dict)
    discovered: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", {**complete(NODE_SCHEMA, self.spec), "labels": self.spec["labels"]})

    @property
    def labels(self) -> Mapping[str, str]:
        """Its document's, and those of the cluster that the document lacks."""
        return {**self.cluster.get("labels", {}), **self.spec["labels"]}

    @property
    def node_name(self) -> str:
        """Its name in the cluster, if it is there."""
        return str(self.spec["nodeName"] or self.name)

    @property
    def unavailable(self) -> str:
        """Why its cluster lets nothing be begun on it: it is NotReady, or somebody else cordoned it; or nothing."""
        if not self.cluster:
            return ""
        if not self.cluster["ready"]:
            return f"NotReady in its cluster: {self.cluster['reason']}"
        foreign = self.cluster["unschedulable"] and not self.cluster["cordoned_by"]
        return "cordoned by somebody else" if foreign else ""


def read_node(document: Document, spec: Any) -> tuple[Node, list[Problem]]:
    """A Node as its document has it, and what is wrong."""
    values, problems = read_fields(document, spec, NODE_SCHEMA, "spec")
    metadata = document.value.get("metadata", {})
    try:
        found_labels = labels(metadata.get("labels", {}))
    except ValueError as error:
        found_labels = {}
        problems.append(problem(document, "metadata.labels", "type", f"labels {error}"))
    transport, root = values.get("transport"), str(values.get("root", ""))
    if transport == "ssh" and not values["address"]:
        problems.append(problem(document, "spec.address", "required", "an ssh node needs an address"))
    if transport == "local" and (not root.startswith("/") or not root.strip("/.")):
        message = "a local node needs root, the absolute directory that stands for /, and never / itself"
        problems.append(problem(document, "spec.root", "required", message))
    if (node_name := str(values.get("nodeName", ""))) and not NODE_NAME.fullmatch(node_name):
        message = f"nodeName {node_name!r} is no name of a Node"
        problems.append(problem(document, "spec.nodeName", "name", message))
    return Node(document.name, {**values, "labels": found_labels}, document.location), problems
