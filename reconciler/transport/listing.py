"""What `crictl` and `podman` list as JSON: which images a node's containers were made of. Pure.

`crictl ps -a` and `crictl images` (CRI ListContainers, ListImages), `podman ps -a` and `podman images`. A container
may name its image by id only; the names are then those of the image, tags and digests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})")
_LOCAL = "localhost/"
LONGEST = 1024
"""Characters; no image reference is longer."""


def images_in_use(containers: Any, images: Any) -> tuple[str, ...]:
    """Every name that the containers' images are asked for under, sorted. Raises ValueError for another form."""
    names = {_id(item.get("id") or item.get("Id")): tuple(_names(item)) for item in _items(images, "images")}
    found: set[str] = set()
    for container in _items(containers, "containers"):
        for name in _asked(container):
            found |= set(names.get(_id(name), ())) if _ID.fullmatch(name) else {name}
    return tuple(sorted(name for name in found if may_be_asked(name)))


def may_be_asked(name: str) -> bool:
    """Whether a registry could be asked for it: not for what was built on the node, nor for what is no text."""
    return name.isprintable() and 0 < len(name) <= LONGEST and not name.startswith(_LOCAL)


def _items(listing: Any, key: str) -> Sequence[Mapping[str, Any]]:
    """crictl lists under a key, podman at the top."""
    items = listing.get(key) or [] if isinstance(listing, dict) else listing
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"no list of {key}")
    return items


def _asked(container: Mapping[str, Any]) -> Iterator[str]:
    """As the pod names it, where the runtime tells; else as the container does."""
    image = container.get("image", container.get("Image"))
    if isinstance(image, dict):
        image = image.get("userSpecifiedImage") or image.get("image")
    if isinstance(image, str) and image:
        yield image


def _names(image: Mapping[str, Any]) -> Iterator[str]:
    for field in ("repoTags", "repoDigests", "RepoTags", "RepoDigests"):
        listed = image.get(field)
        for name in listed if isinstance(listed, list) else ():
            if isinstance(name, str) and name and "<none>" not in name:
                yield name


def _id(name: Any) -> str:
    """Image ids compared by what every listing shows of them."""
    found = _ID.fullmatch(name) if isinstance(name, str) else None
    return found[1][:12] if found else ""
