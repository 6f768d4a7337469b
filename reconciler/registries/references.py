"""Image references as containers/image (docker/reference) reads them: `host[:port]/path[:tag][@digest]`."""

from __future__ import annotations

import re
from typing import NamedTuple

from reconciler.errors import InputRejected

LONGEST_NAME = 255
_LONGEST_TEXT = 1024  # name, tag and digest together cannot be longer and valid

_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"{_HOST}(?:\.{_HOST})*(?::[0-9]+)?"
# The separator is never empty here, unlike in containers/image: the same language, without backtracking.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = "sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}"
_ANY_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

DOMAIN = re.compile(_DOMAIN)
"""host[:port], to be matched in full."""
_REFERENCE = re.compile(rf"((?:{_DOMAIN}/)?{_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?")
_ANY_REFERENCE = re.compile(rf"(?:{_DOMAIN}/)?{_PATH}(?::{_TAG})?(?:@{_ANY_DIGEST})?")


class Reference(NamedTuple):
    """A reference taken apart. `name` holds host and path; `tag` and `digest` are empty when not given."""

    name: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.name + self.suffix

    @property
    def suffix(self) -> str:
        """What follows the name: `:tag`, `@digest` or both."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{tag}@{self.digest}" if self.digest else tag


def parse(text: str) -> Reference:
    """The reference as written, short names included. Raises InputRejected."""
    if len(text) > _LONGEST_TEXT:
        raise InputRejected("repository name must not be more than 255 characters")
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise InputRejected(_why_invalid(text))
    name, tag, digest = found.groups("")
    if len(name) > LONGEST_NAME:
        raise InputRejected("repository name must not be more than 255 characters")
    return Reference(name, tag, digest)


def _why_invalid(text: str) -> str:
    if _ANY_REFERENCE.fullmatch(text):
        return "unsupported digest algorithm or invalid checksum digest length"
    if _ANY_REFERENCE.fullmatch(text.lower()):
        return "invalid reference format: repository name must be lowercase"
    return "invalid reference format"


def is_short(name: str) -> bool:
    """True when the part before the first `/` is no host: it has no `.` or `:`, and is not localhost."""
    head, slash, _ = name.partition("/")
    return not slash or not _looks_like_host(head) or DOMAIN.fullmatch(head) is None


def normalize(text: str) -> Reference:
    """The reference with its host: Docker's names get docker.io and library/. Raises InputRejected."""
    head, slash, rest = text.partition("/")
    if not slash or not _looks_like_host(head):
        head, rest = "docker.io", text
    if head == "index.docker.io":
        head = "docker.io"
    if head == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    return parse(f"{head}/{rest}")


def canonical(text: str) -> Reference:
    """A reference that `normalize` would leave as it is. Raises InputRejected."""
    head, slash, rest = text.partition("/")
    if (
        not slash
        or not _looks_like_host(head)
        or head == "index.docker.io"
        or (head == "docker.io" and "/" not in rest)
    ):
        raise InputRejected("repository name must be canonical")
    return parse(text)


def _looks_like_host(head: str) -> bool:
    return "." in head or ":" in head or head == "localhost"
