"""Whether every blob is what its address says, and every blob that the log needs is there."""

from __future__ import annotations

import hashlib

from reconciler.errors import ReconcilerError
from reconciler.events.blobs import NAMING_TYPES, blobs_in_file_set, blobs_named, file_set_of
from reconciler.events.catalogue import BlobRedacted
from reconciler.events.chain import Content, RawRecord
from reconciler.events.codec import decode


class BlobCheck:
    """Shown every row of the log, then every blob; holds digests, never contents."""

    def __init__(self) -> None:
        self.blobs = 0
        self._needed: dict[str, int] = {}
        self._file_sets: dict[str, int] = {}
        self._present: set[str] = set()
        self._damaged: list[str] = []
        self._redacted: dict[str, int] = {}

    def event(self, position: int, content: Content | RawRecord) -> None:
        """Remember what the event names. One that cannot be decoded is the chain's to report."""
        if content.type not in NAMING_TYPES and content.type != BlobRedacted.__name__:
            return
        try:
            body = decode(content.type, content.schema_version, content.data)
        except ReconcilerError:
            return
        if isinstance(body, BlobRedacted):
            self._redacted.setdefault(body.blob, position)
        for digest in blobs_named(body):
            self._needed.setdefault(digest, position)
        if file_set := file_set_of(body):
            self._file_sets.setdefault(file_set, position)

    def wanted(self) -> list[str]:
        """The blobs that were named and not shown yet."""
        return sorted(self._needed.keys() - self._present - self._redacted.keys())

    def blob(self, digest: str, content: bytes | None) -> None:
        """`content` is None where the bytes were taken away."""
        self.blobs += 1
        self._present.add(digest)
        if content is None:
            if digest not in self._redacted:
                self._damaged.append(f"blob {digest}: its bytes were taken away, and no event says why")
            return
        if digest in self._redacted:
            what = f"the blob {digest} that it redacts still has its bytes"
            self._damaged.append(f"event #{self._redacted[digest]}: {what}")
        if hashlib.sha256(content).hexdigest() != digest:
            self._damaged.append(f"blob {digest}: the content does not match its address")
        if digest in self._file_sets:
            for inner in blobs_in_file_set(content):
                self._needed.setdefault(inner, self._file_sets[digest])

    def problems(self) -> list[str]:
        missing = [
            f"event #{position}: the blob {digest} that it needs is missing"
            for digest, position in self._needed.items()
            if digest not in self._present and digest not in self._redacted
        ]
        return [*self._damaged, *missing]
