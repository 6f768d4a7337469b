"""The header lines of requests to node.sh, checked as it checks them: paths, actions, health checks, commands.

Pure. What a node would refuse is refused here, by name. The form is described in docs/reference/node-protocol.md.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence

from reconciler.errors import NodeRefused
from reconciler.ports import ApplyRequest, HealthCheck, HookRequest, ReleaseRequest, RevertRequest, StepRequest

_MANAGED = re.compile(r"/etc/(?:containers|docker/certs\.d|crio/policies)/[\]A-Za-z0-9/._:@%+,=~\[-]+")
_READABLE = re.compile(
    r"/etc/(?:crio/crio\.conf|crio/crio\.conf\.d/PART+|sysconfig/crio|default/crio"
    r"|systemd/system/crio\.service\.d/PART+\.conf)|/PART+/\.config/containers/PART+".replace(
        "PART", r"[\]A-Za-z0-9/._:@%+,=~\[-]"
    )
)
_DOTS = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")
_UNIT = r"[A-Za-z0-9:_.@][A-Za-z0-9:_.@-]*\.(?:service|socket|target|path|timer|mount)"
_ACTION = re.compile(rf"daemon-reload|(?:reload|restart):{_UNIT}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REFERENCE = re.compile(r"[A-Za-z0-9\[][\]A-Za-z0-9._:@/\[-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def checked(path: str) -> str:
    """`path`, if node.sh accepts it as a managed path; else raises NodeRefused."""
    if not _MANAGED.fullmatch(path) or not _is_plain(path):
        raise NodeRefused(f"{path!r} is not a path that may be managed")
    return path


def readable(path: str) -> str:
    """`path`, if node.sh may look at it: a managed one, or one that it lists as effective; else raises NodeRefused.

    Whether a home is one whose files the runtime reads, only the node knows.
    """
    if not (_MANAGED.fullmatch(path) or _READABLE.fullmatch(path)) or not _is_plain(path):
        raise NodeRefused(f"{path!r} is not a path that may be managed or looked at")
    return path


def heading(request: StepRequest) -> list[str]:
    """The lines that every request for a step begins with. Raises NodeRefused for an action that no node would do."""
    lines = [
        f"log_id {request.log_id}",
        f"epoch {request.epoch}",
        f"fence {request.fence}",
        f"step {request.step}",
        f"runtime {request.runtime}",
    ]
    if request.head.position:
        lines.append(f"head {request.head.position} {request.head.hash}")
    if isinstance(request, ApplyRequest | RevertRequest | ReleaseRequest):
        lines += [f"action {_action(action)}" for action in request.actions]
    return lines


def check_lines(checks: Iterable[HealthCheck]) -> list[str]:
    """Raises NodeRefused for a health check that is no command and no image, or has no usable name."""
    return [_check_line(check) for check in checks]


def hook_lines(request: HookRequest) -> list[str]:
    """Raises NodeRefused for a command or a variable that cannot be handed to a program."""
    if request.timeout < 1:
        raise NodeRefused(f"a hook needs at least one second, not {request.timeout}")
    lines = [f"log_id {request.log_id}", f"step {request.step}", f"timeout {request.timeout}"]
    for name, value in sorted(request.environment.items()):
        if not _VARIABLE.fullmatch(name):
            raise NodeRefused(f"{name!r} is no name of an environment variable")
        lines.append(f"environment {name} {_packed([value])}")
    return [*lines, f"command {_command(request.command)}"]


def _is_plain(path: str) -> bool:
    return len(path) <= 512 and not path.endswith((".key", ".reconciler")) and not _DOTS.search(path.removeprefix("/"))


def _action(action: str) -> str:
    if not _ACTION.fullmatch(action) or len(action) > 128:
        raise NodeRefused(f"{action!r} is no action", remedy="reload:UNIT, restart:UNIT or daemon-reload")
    return action


def _check_line(check: HealthCheck) -> str:
    if not _WORD.fullmatch(check.name):
        raise NodeRefused(f"{check.name!r} is no name of a health check", remedy="1 to 64 of A-Za-z0-9._-")
    if bool(check.command) == bool(check.image):
        raise NodeRefused(f"the health check {check.name} needs a command or an image, and not both")
    if check.command:
        return f"check {check.name} command {_command(check.command)}"
    if not _REFERENCE.fullmatch(check.image) or len(check.image) > 512:
        raise NodeRefused(f"the health check {check.name} names no image: {check.image!r}")
    return f"check {check.name} image {check.image}"


def _command(words: Sequence[str]) -> str:
    if not words or not words[0]:
        raise NodeRefused("a command needs a program")
    return _packed(words)


def _packed(words: Sequence[str]) -> str:
    """Words of any text, each in base64 behind a colon, so that an empty one is one too."""
    if any("\0" in word for word in words):
        raise NodeRefused("a command and its environment cannot hold the character NUL")
    return " ".join(":" + base64.b64encode(word.encode()).decode() for word in words)
