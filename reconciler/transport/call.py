"""A request on its way to node.sh: as the input of a command of its own, or as text for one that is kept running.

Pure but for reading node.sh from the package. Both forms are described in docs/reference/node-protocol.md.
"""

from __future__ import annotations

import gzip
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from typing import Literal

from reconciler.errors import NodeRefused
from reconciler.ports import PROTOCOL

Verb = Literal["observe", "images", "apply", "revert", "confirm", "release", "hook"]

LOOKS: tuple[Verb, ...] = ("observe", "images")
"""Verbs that change nothing."""

PAYLOAD_LIMIT = 99_999_999
"""Bytes of a packed payload."""

_READABLE = bytes(range(0x20, 0x7F)) + b"\t\n\r"

_BOOTSTRAP = 'node_sh=$(dd bs={length} count=1 iflag=fullblock 2>/dev/null | gzip -dc) && eval "$node_sh"'


@dataclass(frozen=True)
class Call:
    """A request ready to be sent: run `argv`, give it `stdin`, read one line. `bodies` are those of the header's lines
    `file`, in order."""

    verb: Verb
    header: bytes
    bodies: tuple[bytes, ...] = ()
    patience: int = 0
    """Seconds by which the answer may come later than usual."""

    @cached_property
    def payload(self) -> bytes:
        """Raises NodeRefused for files that are too large to send."""
        payload = _packed(self.header) + (_packed(bodies) if (bodies := b"".join(self.bodies)) else b"")
        if len(payload) > PAYLOAD_LIMIT:
            raise NodeRefused(f"the files are too large to send: {len(payload)} bytes")
        return payload

    @cached_property
    def stdin(self) -> bytes:
        return packed_program() + self.payload

    @cached_property
    def text(self) -> bytes | None:
        """The request as lines, each body behind its line `file`; None where a shell cannot read one."""
        bodies = [_lines_of(body) for body in self.bodies]
        lines, following = [f"{self.verb}\n".encode()], iter(bodies)
        for line in self.header.splitlines(keepends=True):
            lines += [line, next(following) or b""] if line.startswith(b"file ") else [line]
        return None if None in bodies else b"".join(lines)

    def argv(self, root: str = "", shell: Sequence[str] = ("sh",)) -> list[str]:
        """The command and its arguments; `root` is the directory that stands for / on the node."""
        digest = hashlib.sha256(self.payload).hexdigest()
        return started(self.verb, str(len(self.payload)), digest, *([root] if root else []), shell=shell)

    def command(self, prefix: str = "") -> str:
        """The same as one line for a remote login shell; `prefix` is for sudo."""
        return prefix + shlex.join(self.argv())


def started(*arguments: str, shell: Sequence[str] = ("sh",)) -> list[str]:
    """The command that reads `packed_program` and runs it."""
    return [*shell, "-c", _BOOTSTRAP.format(length=len(packed_program())), "node.sh", str(PROTOCOL), *arguments]


@cache
def program() -> bytes:
    """node.sh as shipped with the package, behind a line that says by its hash which it is."""
    text = files("reconciler.transport").joinpath("node.sh").read_bytes()
    return b"# sha256 %s\n%s" % (hashlib.sha256(text).hexdigest().encode(), text)


@cache
def packed_program() -> bytes:
    return gzip.compress(program(), mtime=0)


@lru_cache(maxsize=64)
def _lines_of(body: bytes) -> bytes | None:
    """A bar before each of its lines, so that none is empty and the last may be; None for other bytes than every shell
    reads as they are."""
    if body.translate(None, _READABLE):
        return None
    return b"".join(b"|%s\n" % line for line in body.split(b"\n"))


@lru_cache(maxsize=16)
def _packed(part: bytes) -> bytes:
    """A gzip member. Header and bodies are one each: many nodes are sent the same bodies, or asked the same."""
    return gzip.compress(part, mtime=0)
