"""How a pool's nodes are emptied before they are taken down: the fields of NodePool spec.drain.

What eviction takes along is by default what MCO's drain takes along, not what `kubectl drain` does without its flags: a
node on which nobody minds a drain under MCO must not hold up a rollout here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.registries.model import Document, Problem
from reconciler.rollout.fields import BadValue, Field, Schema, command, duration, one_of, optional, problem

COMMANDS = ("cordon", "drain", "uncordon")


def _grace(value: Any) -> int:
    seconds = duration(value)
    if seconds < 1:
        raise BadValue("wants at least 1s: with 0s a pod is gone from the API before its containers have ended")
    return seconds


DRAIN_SCHEMA: Schema = {
    "via": Field(one_of("none", "command", "kubernetes"), "none"),
    "runOn": Field(one_of("controller", "node"), "controller"),
    "cordon": Field(optional(command), None),
    "drain": Field(optional(command), None),
    "uncordon": Field(optional(command), None),
    "timeout": Field(duration, 600),
    "onTimeout": Field(one_of("abort", "skip", "force"), "abort"),
    "emptyDir": Field(one_of("delete", "abort"), "delete"),
    "unmanaged": Field(one_of("evict", "abort"), "evict"),
    "gracePeriod": Field(optional(_grace), None),
}
ONLY: Mapping[str, tuple[str, ...]] = {
    "command": ("runOn", *COMMANDS),
    "kubernetes": ("emptyDir", "unmanaged", "gracePeriod"),
}
"""What drain.via names → fields that say something with it alone."""


def check_drain(document: Document, drain: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a pool's spec.drain as a whole, beside its single fields."""
    via, problems = drain["via"], []
    if via == "command" and drain["drain"] is None:
        message, remedy = "drain.via: command needs the command", "write drain.drain: [PROGRAM, …]"
        problems.append(problem(document, "spec.drain.drain", "required", message, remedy))
    if drain["onTimeout"] == "force" and via == "command":
        message = "onTimeout: force deletes pods, which a command does not name"
        remedy = "write abort or skip, or drain.via: kubernetes"
        problems.append(problem(document, "spec.drain.onTimeout", "without-effect", message, remedy))
    for other, names in ONLY.items():
        given = [name for name in names if drain[name] != _default(name)]
        if other != via and given:
            message = f"drain.{given[0]} does nothing while drain.via is {via}"
            problems.append(
                problem(document, f"spec.drain.{given[0]}", "without-effect", message, f"write drain.via: {other}")
            )
    return problems


def _default(name: str) -> Any:
    field = DRAIN_SCHEMA[name]
    return field.default if isinstance(field, Field) else None
