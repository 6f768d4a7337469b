"""The config repository that an adoption writes: a common directory, one per group with its pool and nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from reconciler.adoption.grouping import COMMON, Group, Layout
from reconciler.adoption.hosts import Host
from reconciler.errors import UsageError
from reconciler.registries.facts import Facts, documents
from reconciler.rollout.pools import API_VERSION

MESSAGE = "Adopt the fleet as it is"
"""Message of the first commit."""
GROUP_LABEL = "reconciler.dev/group"
"""Label by which a NodePool finds the Nodes of its group."""
KEYS_ANNOTATION = "reconciler.dev/host-keys"
"""Says of a Node that nobody vouched for its host keys: they were seen at first contact."""
_FILES = {"Image": "image.yaml", "ConfigMap": "registry-cas.yaml"}


class _Dumper(yaml.SafeDumper):
    """Certificates as blocks of lines, as people paste them."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def as_yaml(items: Sequence[Mapping[str, Any]]) -> str:
    """Documents, as people write them."""
    return yaml.dump_all(items, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def repository(layout: Layout, hosts: Mapping[str, Host], runtime: str) -> dict[str, str]:
    """The files of the repository, path → text; `hosts` by name."""
    files = _resources(COMMON, COMMON, layout.common)
    for group in layout.groups:
        files |= _resources(group.directory, group.name, group.own)
        files[f"{group.directory}/pool.yaml"] = as_yaml([_pool(group, runtime)])
        nodes = [_node(hosts[name], group.name) for name in group.hosts]
        files[f"{group.directory}/nodes.yaml"] = as_yaml(nodes)
    files["README.md"] = _readme(layout)
    return files


def _resources(directory: str, name: str, facts: Facts) -> dict[str, str]:
    found: dict[str, list[dict[str, Any]]] = {}
    for document in documents(facts, name):
        found.setdefault(_FILES.get(document["kind"], "mirrors.yaml"), []).append(document)
    return {f"{directory}/{file}": as_yaml(items) for file, items in found.items()}


def _pool(group: Group, runtime: str) -> dict[str, Any]:
    spec = {
        "mode": "observe",
        "nodeSelector": {"matchLabels": {GROUP_LABEL: group.name}},
        "paths": group.paths,
        "runtime": runtime,
        "base": "host",
    }
    return {"apiVersion": API_VERSION, "kind": "NodePool", "metadata": {"name": group.name}, "spec": spec}


def _node(host: Host, group: str) -> dict[str, Any]:
    target = host.target
    metadata: dict[str, Any] = {"name": host.name, "labels": {**host.labels, GROUP_LABEL: group}}
    if host.keys == "first contact":
        metadata["annotations"] = {KEYS_ANNOTATION: "seen at first contact, not verified"}
    spec: dict[str, Any] = {"transport": target.transport}
    for key, value in (("address", target.address), ("root", target.root), ("user", target.user)):
        spec |= {key: value} if value else {}
    spec |= {"port": target.port} if target.transport == "ssh" else {}
    spec |= {"become": target.become} if target.become else {}
    spec |= {"hostKeys": list(target.host_keys)} if target.host_keys else {}
    return {"apiVersion": API_VERSION, "kind": "Node", "metadata": metadata, "spec": spec}


def _readme(layout: Layout) -> str:
    """What is where, and what stays in the hosts' own files."""
    rows = [f"| `{group.directory}` | {len(group.hosts)} | {', '.join(group.paths)} |" for group in layout.groups]
    stays = [
        f"- `{group.name}`: {item.path}: {item.what} — {item.why}"
        for group in layout.groups
        for item in group.adoption.stays
    ]
    return _README.format(rows="\n".join(rows), stays="\n".join(stays) or "Nothing.")


_README = """\
# Registry configuration of the fleet

Written by `reconciler import` from the hosts' own files. Every pool is in `mode: observe`: nothing is written to a node
until a pool says `enforce`.

| directory | hosts | paths |
| --- | --- | --- |
{rows}

With `base: host` our files are laid over each host's own: what the host's own file says too does not go away by being
removed here.

## What stays in the hosts' own files

{stays}
"""


def check_place(directory: Path) -> None:
    """Raises UsageError when there is something at `directory` already."""
    if directory.is_symlink() or (directory.exists() and (not directory.is_dir() or any(directory.iterdir()))):
        raise UsageError("is there already, and not empty", where=str(directory), remedy="choose another directory")


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Write the repository's files below a directory that `check_place` took. Raises UsageError."""
    try:
        for name, text in files.items():
            place = directory / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(error.filename)) from None
