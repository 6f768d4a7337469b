"""One synchronisation of /etc/docker/certs.d, in the form of certs.jsonl.

Only placement: the certificates in the vectors are not real, so `check_config_map` is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.registries.certs import cert_files
from reconciler.registries.model import CERTS_D, Location, Resource

MODE_BEFORE = "0600"
"""The mode of the files that a vector finds in place."""


def answer(given: Mapping[str, Any]) -> dict[str, Any]:
    """The tree after our files are laid over it. No receipt shows what is there as ours: it stays."""
    image = _resource(given["image"]) if given.get("image") else None
    files, _ = cert_files(image, [_resource(config_map) for config_map in given["configmaps"]])
    tree = dict(given["tree"] or {})
    modes = {path: MODE_BEFORE for path in tree if not path.endswith("/")}
    for file in files:
        path = file.path.removeprefix(f"{CERTS_D}/")
        tree[path] = file.content.decode()
        modes[path] = f"{file.mode:04o}"
    modes |= {f"{path.rpartition('/')[0]}/": "0755" for path in tree if "/" in path}
    return {"tree": tree, "modes": modes}


def _resource(document: Mapping[str, Any]) -> Resource:
    name = document["metadata"]["name"]
    return Resource(".", document["kind"], name, document, Location("vector.yaml", 1))
