"""policy.json: which names may be pulled, and what signatures they need.

Source: machine-config-operator helpers.go `updatePolicyJSON`, `updateNamespacedPolicyJSONs`. Laying the result
over a host's own policy is ours; the rule is that the result accepts nothing that either of the two refuses,
save where a resource names a scope that the host rejects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.errors import InputRejected
from reconciler.registries import scopes
from reconciler.registries.inputs import Entry
from reconciler.registries.model import POLICY_JSON, Origin, Problem
from reconciler.registries.payload import Lists
from reconciler.registries.signature_policy import read_policy
from reconciler.registries.sigstore import Signatures
from reconciler.registries.toml_files import RenderError, unreadable

Requirements = list[dict[str, Any]]
ACCEPT: Mapping[str, Any] = {"type": "insecureAcceptAnything"}
REJECT: Mapping[str, Any] = {"type": "reject"}
_TRANSPORTS = ("docker", "atomic")


@dataclass(slots=True)
class Wanted:
    """What the resources ask for: requirements by scope, and whether all else is rejected or accepted."""

    scopes: dict[str, Requirements] = field(default_factory=dict)
    default: Requirements | None = None
    origins: dict[str, list[Origin]] = field(default_factory=dict)

    def of(self, transport: str) -> dict[str, Requirements]:
        if transport == "docker":
            return self.scopes
        return {scope: needs for scope, needs in self.scopes.items() if scopes.belongs_in_atomic(scope)}


def check(lists: Lists, signatures: Signatures) -> Iterator[Problem]:
    """What MCO refuses, in its order.

    `allowed-and-blocked`: both lists (unless only the payload is allowed, to serve it from a mirror).
    `policy-scope-not-allowed`, `policy-scope-blocked`: an image policy outside the allow list or inside a
    blocked entry. `blocked-entry`, `allowed-entry`: not a usable scope.
    """
    allowed, blocked = lists.allowed or (), lists.policy_blocked or ()
    if allowed and blocked and [entry.text for entry in allowed] != [lists.payload]:
        yield blocked[0].problem(
            "allowed-and-blocked",
            "registries are both allowed and blocked; only one of the two lists can be in force",
            "keep one of the two lists",
        )
    yield from _check_scopes(signatures.cluster_scopes, allowed, blocked)
    for name, entries in (("blocked-entry", blocked), ("allowed-entry", allowed)):
        yield from check_entries(entries, name)
    yield from _check_scopes(signatures.namespace_scopes, allowed, blocked)


def check_entries(entries: Sequence[Entry], name: str) -> Iterator[Problem]:
    """Entries that MCO does not take: empty, or `*` anywhere but in front of a domain."""
    for entry in entries:
        if not scopes.is_usable(entry.text):
            message = f"{entry.text!r} is not a registry, namespace, repository or *.DOMAIN"
            yield entry.problem(name, message, "write HOST[:PORT][/PATH] or *.DOMAIN")


def _check_scopes(entries: Sequence[Entry], allowed: Sequence[Entry], blocked: Sequence[Entry]) -> Iterator[Problem]:
    allowed_scopes = {entry.text for entry in allowed}
    blocked_scopes = {entry.text for entry in blocked}
    for entry in entries:
        if allowed_scopes and scopes.covered(entry.text, allowed_scopes) is None:
            message = f"{entry.text} lies in no entry of allowedRegistries"
            yield entry.problem("policy-scope-not-allowed", message, f"allow {entry.text}, or remove the scope")
    for entry in entries:
        outer = scopes.covered(entry.text, blocked_scopes)
        if outer is not None:
            message = f"{entry.text} lies in {outer}, which blockedRegistries blocks"
            yield entry.problem("policy-scope-blocked", message, f"do not block {outer}, or remove the scope")


def wanted(lists: Lists, signatures: Signatures) -> Wanted:
    """The scopes that lists and ClusterImagePolicies ask for."""
    result = Wanted()
    allowed, blocked = lists.allowed or (), lists.policy_blocked or ()
    for entry in allowed:
        if entry.text not in signatures.cluster:
            result.scopes[entry.text] = [dict(ACCEPT)]
        result.origins.setdefault(entry.text, []).append(entry.origin)
    for entry in blocked:
        result.scopes[entry.text] = [dict(REJECT)]
        result.origins.setdefault(entry.text, []).append(entry.origin)
    for scope, needs in signatures.cluster.items():
        result.scopes[scope] = [*result.scopes.get(scope, ()), *needs]
    for entry in signatures.cluster_scopes:
        result.origins.setdefault(entry.text, []).append(entry.origin)
    if allowed and not blocked:
        result.default = [dict(REJECT)]
        field_name = allowed[0].field.partition("[")[0]
        result.origins["default"] = [Origin(allowed[0].origin.resource, field_name)]
    elif blocked:
        result.default = [dict(ACCEPT)]
    return result


def over_template(template: Mapping[str, Any], ours: Wanted) -> dict[str, Any]:
    """MCO's result: its own scopes take the place of the template's."""
    transports = dict(template.get("transports", {}))
    if ours.scopes:
        transports.update({transport: ours.of(transport) for transport in _TRANSPORTS})
    return {**template, "default": ours.default or template["default"], "transports": transports}


def over_host(captured: Mapping[str, Any], ours: Wanted) -> dict[str, Any]:
    """A host's own policy with our scopes laid over it.

    With an allow list the default becomes reject, and host scopes outside the list go unless they reject.
    Otherwise the host's default stays. Inside our scopes host scopes stay as far as they do not loosen them.
    """
    closed = ours.default == [REJECT]
    default = [dict(REJECT)] if closed else captured["default"]
    transports = dict(captured.get("transports", {}))
    for transport in _TRANSPORTS:
        present = transports.get(transport, {})
        own = ours.of(transport)
        kept = {
            scope: needs
            for scope, before in present.items()
            if scope not in own and (needs := _fitted(scope, before, own, closed)) is not None
        }
        added = {scope: _tightened(needs, _in_force(captured, present, scope)) for scope, needs in own.items()}
        transports[transport] = {**kept, **added}
    return {**captured, "default": default, "transports": {k: v for k, v in transports.items() if v}}


def _in_force(captured: Mapping[str, Any], present: Mapping[str, Requirements], scope: str) -> Requirements:
    """What the host asks for at `scope`: the nearest scope of its own, or its default."""
    found = next((present[outer] for outer in scopes.policy_lookup(scope) if outer in present), None)
    return captured["default"] if found is None else found


def _tightened(needs: Requirements, before: Requirements) -> Requirements:
    """Our requirements and the signatures that the host demanded there already."""
    if REJECT in needs:
        return needs
    demands = [need for need in before if need["type"] not in ("insecureAcceptAnything", "reject")]
    if not demands:
        return needs
    return [need for need in needs if need != ACCEPT] + [need for need in demands if need not in needs]


def _fitted(scope: str, before: Requirements, own: Mapping[str, Requirements], closed: bool) -> Requirements | None:
    """What stays of a host scope that no resource names; None when it goes."""
    if REJECT in before:
        return before
    outer = next((own[name] for name in scopes.policy_lookup(scope) if name in own), None)
    if outer is None:
        return None if closed else before
    if outer == [ACCEPT]:
        return before
    demands = [need for need in before if need != ACCEPT]
    if REJECT in outer or not demands:
        return None  # the wider scope of ours takes over
    return demands + [need for need in outer if need not in demands]


def origins_of(before: Mapping[str, Any], policy: Mapping[str, Any], ours: Wanted) -> dict[str, tuple[Origin, ...]]:
    """Scope → the fields behind it in `policy`, which was laid over `before`.

    Behind a scope of the host's own that was tightened are those of the wider scope of ours that it lies in.
    """
    found = {scope: tuple(by) for scope, by in ours.origins.items()}
    for transport in _TRANSPORTS:
        own, present = ours.of(transport), before.get("transports", {}).get(transport, {})
        for scope, needs in policy.get("transports", {}).get(transport, {}).items():
            if scope not in own and needs != present.get(scope):
                outer = next(name for name in scopes.policy_lookup(scope) if name in own)
                found.setdefault(scope, tuple(ours.origins.get(outer, ())))
    return found


def says_the_same(captured: Mapping[str, Any], policy: Mapping[str, Any]) -> bool:
    """Whether a host's own policy answers as `policy` does, so that its text can stay.

    That `atomic` is not there counts for nothing: CRI-O and Podman pull by `docker` alone.
    """
    own, wanted = captured["transports"], policy["transports"]
    if "atomic" not in own:
        wanted = {name: scopes for name, scopes in wanted.items() if name != "atomic"}
    return {**policy, "transports": wanted} == {**captured, "transports": own}


def with_namespace(policy: Mapping[str, Any], namespaced: Wanted) -> dict[str, Any]:
    """The policy of one namespace: the node's, with the requirements of its ImagePolicies appended."""
    transports = {name: dict(present) for name, present in policy.get("transports", {}).items()}
    for transport in _TRANSPORTS:
        present = transports.setdefault(transport, {})
        for scope, needs in namespaced.of(transport).items():
            present[scope] = [*present.get(scope, ()), *needs]
    return {**policy, "transports": transports}


def write(policy: Mapping[str, Any]) -> bytes:
    """Canonical JSON text: two spaces, sorted keys. Raises RenderError."""
    text = json.dumps(policy, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if json.loads(text) != policy:
        raise RenderError("a rendered policy does not say what was meant")
    return text.encode()


def read_base(content: bytes, owner: str = "host") -> tuple[dict[str, Any], list[Problem]]:
    """The policy.json of a base, as `toml_files.read_base`. Problem: `base-unreadable`, the runtime would refuse it."""
    try:
        read_policy(content)
    except InputRejected as error:
        return {}, [unreadable(owner, POLICY_JSON, f"cannot be loaded: {error.what}")]
    policy: dict[str, Any] = json.loads(content)
    return {**policy, "transports": policy.get("transports") or {}}, []
