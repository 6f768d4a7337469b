"""What a change of files does to a node: the disruption class, the actions, and a reason per entry in words.

Three profiles: `openshift` says what would happen there, byte for byte; `default` takes MCO's judgement but leaves
alone what means the same, and never reboots; `minimal` does what the runtime was measured to need. Prediction
only: on a pool that cannot drain, the planner shows class and effective action.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from reconciler.errors import InputRejected
from reconciler.registries.disruption import (
    DEFAULT_POLICIES,
    DRAIN,
    MINIMAL_POLICIES,
    NONE,
    OPENSHIFT_POLICIES,
    REBOOT,
    RELOAD,
    SPECIAL,
    FilePolicy,
    Files,
    by_path,
    changed_paths,
    policy_for,
    read_or_empty,
)
from reconciler.registries.model import (
    DISRUPTION_ORDER,
    POLICY_JSON,
    REGISTRIES_CONF,
    REGISTRIES_CONF_D,
    DisruptionClass,
    Impact,
)
from reconciler.registries.registries_change import Change, compare

Profile = Literal["default", "minimal", "openshift"]

_PROFILES = {"default": DEFAULT_POLICIES, "minimal": MINIMAL_POLICIES, "openshift": OPENSHIFT_POLICIES}
_CLASSES: dict[str, DisruptionClass] = {
    NONE: "none",
    "Reload": "reload",
    "DaemonReload": "reload",
    "Restart": "restart",
    DRAIN: "drain",
    REBOOT: "reboot",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    """One reason: what changed, the actions for it (MCO's names), the word for that, and what would disturb less."""

    text: str
    actions: tuple[str, ...]
    verdict: str = ""
    advice: str = ""


def classify(old: Files, new: Files, profile: Profile = "default", policies: Sequence[FilePolicy] = ()) -> Impact:
    """The impact of putting `new` in place of `old` on a running node.

    Both should name every managed file: a file in neither is unknown, and its search list is then not
    relied on. `policies` replace the profile's policy of the same path. Unparsable registries files
    count as unsafe.
    """
    table = by_path((*_PROFILES[profile], *policies))
    entries: list[_Entry] = []
    for path in changed_paths(old, new):
        entries += _entries(path, old, new, profile, policy_for(path, table))
    actions = {action for entry in entries for action in entry.actions} - {NONE}
    if profile == "openshift" and REBOOT in actions:
        actions = {DRAIN, REBOOT}
    ordered = sorted(actions, key=lambda action: (_ORDER.index(action.partition(":")[0]), action))
    classes = {_CLASSES[action.partition(":")[0]] for action in ordered}
    worst = max((DISRUPTION_ORDER.index(disruption) for disruption in classes), default=0)
    return Impact(DISRUPTION_ORDER[worst], tuple(map(str.lower, ordered)), tuple(map(_reason, entries)))


_ORDER = (DRAIN, "DaemonReload", "Restart", "Reload", REBOOT)


def _entries(path: str, old: Files, new: Files, profile: Profile, policy: FilePolicy | None) -> Iterable[_Entry]:
    verb = "added" if old.get(path) is None else "removed" if new.get(path) is None else "changed"
    try:
        changes = _changes(path, old, new)
    except InputRejected as error:
        changes = (Change(f"{path} {verb} and cannot be parsed ({error.what})", safe=False),)
    if changes == () and profile != "openshift":
        return [_Entry(f"{path} says the same to the runtime", (NONE,))]
    described = changes or (Change(f"{path} {verb}", safe=True),)
    if policy is None:
        return [_Entry(f"{path} {verb}, and no policy covers it", (DRAIN, REBOOT))]
    if SPECIAL in policy.actions:
        return [_judged(change) for change in described]
    return [_Entry(change.text, policy.actions) for change in described]


def _judged(change: Change) -> _Entry:
    if change.safe:
        return _Entry(change.text, (RELOAD,))
    return _Entry(change.text, (DRAIN, RELOAD), "unsafe, drain", change.advice)


def _reason(entry: _Entry) -> str:
    words = [action.removesuffix(":crio.service").replace(":", " ").lower() for action in entry.actions]
    advice = f"; {entry.advice}" if entry.advice else ""
    return f"{entry.text}: {entry.verdict or ', '.join(words)}{advice}"


def _changes(path: str, old: Files, new: Files) -> tuple[Change, ...]:
    """What a changed file says differently; nothing when only its formatting changed. Raises InputRejected."""
    if path == REGISTRIES_CONF:
        before, after = read_or_empty(old, path), read_or_empty(new, path)
        changes = compare(before, after)
        if before.version_1 != after.version_1:
            changes += (Change("lists of the old form [registries.*] changed", safe=False),)
        return changes
    if path.startswith(f"{REGISTRIES_CONF_D}/"):
        return _drop_in_changes(path, old, new) if path.endswith(".conf") else ()
    if path == POLICY_JSON or path.startswith("/etc/crio/policies/"):
        return tuple(_policy_changes(path, old.get(path), new.get(path)))
    verb = "added" if old.get(path) is None else "removed" if new.get(path) is None else "changed"
    return (Change(f"{path} {verb}", safe=True),)


def _drop_in_changes(path: str, old: Files, new: Files) -> tuple[Change, ...]:
    """A drop-in's search list replaces that of registries.conf, so what was and will be in force is compared."""
    before, after = read_or_empty(old, path), read_or_empty(new, path)
    if before.search == after.search:
        return compare(before, after)
    lists = [_in_force(before.search, old), _in_force(after.search, new)]
    if None in lists:
        unknown = Change("search list changed, and the list of registries.conf is not known", safe=False)
        return (unknown, *compare(replace(before, search=()), replace(after, search=())))
    return compare(replace(before, search=lists[0]), replace(after, search=lists[1]))


def _in_force(own: tuple[str, ...] | None, files: Files) -> tuple[str, ...] | None:
    if own is not None or REGISTRIES_CONF not in files:
        return own
    return read_or_empty(files, REGISTRIES_CONF).search or ()


def _policy_changes(path: str, old: bytes | None, new: bytes | None) -> Iterator[Change]:
    """One entry per scope of transport docker; anything else in one."""
    if old is None or new is None:
        yield Change(f"{path} {'added' if old is None else 'removed'}", safe=True)
        return
    try:
        before, after = json.loads(old), json.loads(new)
        if before == after:
            return
        told = list(_scope_changes(_by_scope(before), _by_scope(after)))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        told = []  # no policy that the runtime would load; that it changed is all there is to say
    yield from told or [Change(f"{path} changed", safe=True)]


def _by_scope(policy: Any) -> dict[str, Any]:
    return {"default": policy["default"], **policy.get("transports", {}).get("docker", {})}


def _scope_changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    for scope in sorted({*before, *after}):
        was, becomes = _requirement(before.get(scope)), _requirement(after.get(scope))
        if was != becomes:
            yield Change(f"policy of {scope} changed from {was} to {becomes}", safe=True)
        elif before.get(scope) != after.get(scope):
            yield Change(f"policy of {scope} changed in the details of {was}", safe=True)


def _requirement(requirements: Any) -> str:
    if requirements is None:
        return "unset"
    return "+".join(str(requirement["type"]) for requirement in requirements)
