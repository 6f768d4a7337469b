"""MachineConfigPools and nodes as the Machine Config Operator reports them, and how far a change of ours has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.registries.model import CERTS_D

LONGEST_MESSAGE = 1000
"""Characters of a message that are kept."""

CONDITIONS = ("Updated", "Updating", "Degraded", "NodeDegraded", "RenderDegraded")
FAILED_STATES = ("Degraded", "Unreconcilable")
BUSY_STATES = ("Working", "Rebooting")

Stage = Literal["rendering", "rolling", "updated"]


@dataclass(frozen=True)
class MachinePool:
    """A MachineConfigPool. `target` is the rendered config that its nodes are to have, `current` the last one that all
    of them had. `conditions` maps each of CONDITIONS to (status, reason, message)."""

    name: str
    target: str = ""
    current: str = ""
    paused: bool = False
    machines: int = 0
    ready: int = 0
    updated: int = 0
    unavailable: int = 0
    degraded: int = 0
    settled: bool = True
    """MCO has seen the object's newest spec."""
    conditions: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> MachinePool:
        """Of the object as the API has it."""
        spec, status = document.get("spec") or {}, document.get("status") or {}
        seen, generation = status.get("observedGeneration"), document["metadata"].get("generation")
        return cls(
            document["metadata"]["name"],
            str((spec.get("configuration") or {}).get("name") or ""),
            str((status.get("configuration") or {}).get("name") or ""),
            bool(spec.get("paused")),
            machines=int(status.get("machineCount") or 0),
            ready=int(status.get("readyMachineCount") or 0),
            updated=int(status.get("updatedMachineCount") or 0),
            unavailable=int(status.get("unavailableMachineCount") or 0),
            degraded=int(status.get("degradedMachineCount") or 0),
            settled=seen is None or seen == generation,
            conditions={c["type"]: _condition(c) for c in status.get("conditions") or () if c["type"] in CONDITIONS},
        )

    def as_data(self) -> dict[str, Any]:
        """As MachineConfigPoolChanged has it."""
        names = ("target", "current", "paused", "machines", "ready", "updated", "unavailable", "degraded", "settled")
        told = {
            name: {"status": status, "reason": reason, "message": message}
            for name, (status, reason, message) in sorted(self.conditions.items())
        }
        return {**{name: getattr(self, name) for name in names}, "conditions": told}

    @classmethod
    def from_data(cls, name: str, data: Mapping[str, Any]) -> MachinePool:
        """The inverse of `as_data`."""
        conditions = {
            kind: (told["status"], told["reason"], told["message"]) for kind, told in data["conditions"].items()
        }
        return cls(name, **{**data, "conditions": conditions})

    def holds(self, condition: str) -> bool:
        return self.conditions.get(condition, ("",))[0] == "True"

    @property
    def is_updated(self) -> bool:
        """All machines have the target, as MCO says it of the newest spec."""
        return self.settled and self.holds("Updated") and self.current == self.target

    @property
    def trouble(self) -> str:
        """What is degraded and why, in MCO's words; empty where nothing is."""
        for condition in ("RenderDegraded", "NodeDegraded", "Degraded"):
            if self.holds(condition):
                _, reason, message = self.conditions[condition]
                return f"{condition}: {message or reason or 'no reason given'}"
        return ""

    @property
    def pause(self) -> str:
        """That the pool is paused, in MCO's words, with what it keeps back; empty where it is not."""
        if not self.paused:
            return ""
        message = self.conditions.get("Updating", ("", "", ""))[2] or self.conditions.get("Updated", ("", "", ""))[2]
        if "paused" in message:
            return message
        waits = f"; will not update to {self.target}" if self.target != self.current else ""
        return f"Pool is paused{waits}"


def _condition(found: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(found.get("status")), str(found.get("reason") or ""), _short(str(found.get("message") or ""))


def _short(message: str) -> str:
    return message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"


@dataclass(frozen=True)
class Machine:
    """What MCO's annotations say of a node: which rendered config it has and is to get, and how it is getting on."""

    name: str
    current: str
    desired: str
    state: str
    reason: str = ""

    @classmethod
    def of(cls, name: str, config: Mapping[str, str]) -> Machine | None:
        """Of a ClusterNode's machine_config; None where MCO does not manage it."""
        if not config.get("currentConfig") and not config.get("desiredConfig"):
            return None
        current, desired, state = (config.get(key, "") for key in ("currentConfig", "desiredConfig", "state"))
        return cls(name, current, desired, state, _short(config.get("reason", "")))

    def as_data(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("current", "desired", "state", "reason")}


def brings_new_config(before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether MCO renders another MachineConfig for files (path → digest) that differ so: certs.d is in none."""
    paths = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    return any(not path.startswith(f"{CERTS_D}/") for path in paths)


def stage(pool: MachinePool, before: str, *, has_files: bool | None) -> Stage:
    """How far a change has come that was applied when the pool's target was `before`.

    `has_files`: whether the target's MachineConfig has the files that the change was to bring; None where nobody can
    tell. Then any other target counts, since MCO renders all that has changed at once.
    """
    ours = has_files if has_files is not None else pool.target != before
    if not ours or not pool.target:
        return "rendering"
    return "updated" if pool.is_updated else "rolling"
