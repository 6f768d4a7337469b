"""Which blobs an event cannot do without: the contents that a rollback, a rendering or a question needs again."""

from __future__ import annotations

import json
from collections.abc import Iterator

from reconciler.events.catalogue import (
    BaselineCaptured,
    ClusterBaselineCaptured,
    ClusterCompared,
    ClusterDriftDetected,
    ClusterResourceApplied,
    ClusterResourceRefused,
    Event,
    FilesRendered,
    PoolConfigured,
    ResourceAdded,
    ResourceChanged,
)

_NAMING = (
    ResourceAdded, ResourceChanged, PoolConfigured, FilesRendered, BaselineCaptured,
    ClusterBaselineCaptured, ClusterCompared, ClusterResourceApplied, ClusterResourceRefused, ClusterDriftDetected,
)  # fmt: skip
NAMING_TYPES = frozenset(body.__name__ for body in _NAMING)
"""Types whose events are the first to name a blob; others only repeat a name."""


def blobs_named(body: Event) -> Iterator[str]:
    """The digests of blobs in a body."""
    match body:
        case ResourceAdded() | ResourceChanged():
            yield from (body.content, body.text, body.lines)
        case FilesRendered():
            yield from (body.files, body.origins)
        case PoolConfigured():
            yield from body.base_files.values()
        case BaselineCaptured():
            yield from (digest for digest in body.files.values() if digest is not None)
        case ClusterBaselineCaptured():
            yield from filter(None, (*body.objects.values(), *body.files.values()))
        case ClusterCompared():
            yield from filter(None, (*body.foreign.values(), *(item["content"] for item in body.unadopted)))
        case ClusterResourceApplied():
            yield from filter(None, (body.sent, body.answer, body.before))
        case ClusterResourceRefused():
            yield body.sent
        case ClusterDriftDetected() if body.observed:
            yield body.observed


def file_set_of(body: Event) -> str | None:
    """The digest of the file set that a body introduces: a blob that names further ones."""
    return body.files if isinstance(body, FilesRendered) else None


def blobs_in_file_set(content: bytes) -> Iterator[str]:
    """The digests of the files in a file set, `{"files": [{"mode", "path", "sha256"}]}`; none if it is not one."""
    try:
        yield from [file["sha256"] for file in json.loads(content)["files"]]
    except (KeyError, TypeError, ValueError):
        return
