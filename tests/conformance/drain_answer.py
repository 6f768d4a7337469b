"""MCO's decision about a change of files, in the form of drain.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.registries.disruption import FilePolicy, file_policies, mco_decision


def answer(given: Mapping[str, Any]) -> dict[str, Any]:
    """Equal to `expect` but for `first_boot`, and the text of `error`."""
    policies = (given.get("node_disruption_policy") or {}).get("files") or []
    old, new = ({path: text.encode() for path, text in (given.get(side) or {}).items()} for side in ("old", "new"))
    decision = mco_decision(old, new, [policy(entry) for entry in policies])
    found = {
        "changed": list(decision.changed),
        "actions": list(decision.actions),
        "drain": decision.drain,
        "reboot": decision.reboot,
        "registries_conf_change_safe": decision.registries_conf_change_safe,
    }
    return found | ({"error": decision.error} if decision.error else {})


def policy(entry: Mapping[str, Any]) -> FilePolicy:
    """Actions one by one: the API lets None and Reboot stand alone only, the daemon takes them beside others."""
    alone = [file_policies([{**entry, "actions": [action]}])[0] for action in entry["actions"]]
    return FilePolicy(entry["path"], tuple(action for policy in alone for action in policy.actions))
