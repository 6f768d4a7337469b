"""ClusterImagePolicy and ImagePolicy: requirements by scope, and where the runtime looks for signatures.

Source: machine-config-operator container_runtime_config_controller.go `getValidScopePolicies`, helpers.go
`policyItemFromSpec`, `generateSigstoreRegistriesdConfig`. The order of several policies on one scope is that
of their names, where MCO's changes from sync to sync.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from reconciler.errors import InputRejected
from reconciler.registries import references, scopes
from reconciler.registries.inputs import Entry, Inputs
from reconciler.registries.model import Problem
from reconciler.registries.payload import pull_names
from reconciler.registries.registries_file import Registry
from reconciler.registries.runtime_config import RuntimeConfig

ATTACHMENTS = "/etc/containers/registries.d/sigstore-registries.yaml"
NAMESPACE_POLICIES = "/etc/crio/policies"
_DUMMY_PATH = "/a"
_DUMMY_DIGEST = f"sha256:{'a' * 64}"

Requirement = dict[str, Any]


@dataclass(slots=True)
class Signatures:
    """The requirements of all image policies: for the node by scope, for a namespace by namespace and scope."""

    cluster: dict[str, list[Requirement]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, list[Requirement]]] = field(default_factory=dict)
    cluster_scopes: list[Entry] = field(default_factory=list)
    namespace_scopes: list[Entry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cluster or self.namespaces)


def collect(inputs: Inputs) -> tuple[Signatures, list[Problem]]:
    """The requirements. Problem: `policy-scope-conflict` (warning), an ImagePolicy below a ClusterImagePolicy."""
    result = Signatures()
    problems: list[Problem] = []
    for policy in inputs.cluster_policies:
        for entry in policy.scopes:
            result.cluster.setdefault(entry.text, []).append(requirement(policy.policy))
            result.cluster_scopes.append(entry)
    for policy in inputs.namespace_policies:
        for entry in policy.scopes:
            outer = scopes.covered(entry.text, result.cluster)
            if outer is not None:
                problems.append(_conflict(entry, outer))
                continue
            by_scope = result.namespaces.setdefault(policy.namespace, {})
            by_scope.setdefault(entry.text, []).append(requirement(policy.policy))
            result.namespace_scopes.append(entry)
    return result, problems


def _conflict(entry: Entry, outer: str) -> Problem:
    return Problem(
        "policy-scope-conflict",
        f"{entry.text} has no effect: a ClusterImagePolicy has the scope {outer}, and only that one counts",
        entry.resource.at(entry.field),
        entry.resource.identity,
        entry.field,
        "remove the scope here, or narrow the ClusterImagePolicy",
        "warning",
    )


def requirement(policy: Mapping[str, Any]) -> Requirement:
    """One `sigstoreSigned` requirement of containers-policy.json(5)."""
    root = policy.get("rootOfTrust") or {}
    result: Requirement = {"type": "sigstoreSigned"}
    match root.get("policyType"):
        case "PublicKey":
            key = root.get("publicKey") or {}
            result["keyData"] = _encoded(key.get("keyData"))
            if key.get("rekorKeyData"):
                result["rekorPublicKeyData"] = _encoded(key["rekorKeyData"])
        case "FulcioCAWithRekor":
            fulcio = root.get("fulcioCAWithRekor") or {}
            subject = fulcio.get("fulcioSubject") or {}
            result["fulcio"] = {
                "caData": _encoded(fulcio.get("fulcioCAData")),
                "oidcIssuer": subject.get("oidcIssuer", ""),
                "subjectEmail": subject.get("signedEmail", ""),
            }
            result["rekorPublicKeyData"] = _encoded(fulcio.get("rekorKeyData"))
        case "PKI":
            result["pki"] = _pki(root.get("pki") or {})
    result["signedIdentity"] = _identity(policy.get("signedIdentity") or {})
    return result


def _pki(pki: Mapping[str, Any]) -> dict[str, str]:
    subject = pki.get("pkiCertificateSubject") or {}
    result = {"caRootsData": _encoded(pki.get("caRootsData"))}
    if pki.get("caIntermediatesData"):
        result["caIntermediatesData"] = _encoded(pki["caIntermediatesData"])
    if subject.get("email"):
        result["subjectEmail"] = subject["email"]
    if subject.get("hostname"):
        result["subjectHostname"] = subject["hostname"]
    return result


def _identity(identity: Mapping[str, Any]) -> dict[str, str]:
    match identity.get("matchPolicy"):
        case "RemapIdentity":
            remap = identity.get("remapIdentity") or {}
            prefixes = {name: str(remap.get(name, "")) for name in ("prefix", "signedPrefix")}
            return {"type": "remapIdentity", **prefixes}
        case "ExactRepository":
            exact = identity.get("exactRepository") or {}
            return {"type": "exactRepository", "dockerRepository": str(exact.get("repository", ""))}
        case "MatchRepository":
            return {"type": "matchRepository"}
    return {"type": "matchRepoDigestOrExact"}


def _encoded(value: Any) -> str:
    """Base64 as Go writes it, whatever line breaks the manifest had."""
    try:
        return base64.b64encode(base64.b64decode(str(value or ""))).decode()
    except (binascii.Error, ValueError):
        return str(value)


def attachments(signatures: Signatures, config: RuntimeConfig | None) -> tuple[bytes, list[Problem]]:
    """registries.d/sigstore-registries.yaml: the scopes, and the places their images are pulled from.

    `config` is the registries.conf in force, None when none of ours is. Problem: `mirror-rewrite`, a mirror
    cannot be applied to a scope.
    """
    entries = {entry.text: entry for entry in [*signatures.cluster_scopes, *signatures.namespace_scopes]}
    docker = set(entries)
    problems: list[Problem] = []
    for scope, entry in _looked_up(entries, config) if config else ():
        registry = config.find(scope) if config else None
        places = _places(scope, registry) if registry else set()
        if places is None:
            message = f"a mirror cannot be applied to {scope}: no full repository name comes out"
            remedy = "give the mirror a path, or name a narrower scope"
            problems.append(entry.problem("mirror-rewrite", message, remedy))
        else:
            docker |= places
    data = {"docker": {place: {"use-sigstore-attachments": True} for place in sorted(docker)}}
    return yaml.safe_dump(data).encode(), problems


def _looked_up(entries: Mapping[str, Entry], config: RuntimeConfig) -> Iterator[tuple[str, Entry]]:
    """The policy scopes, and every table below one of them."""
    yield from entries.items()
    for scope in config.registries:
        for outer in scopes.enclosing(scope):
            if outer in entries and outer != scope:
                yield scope, entries[outer]


def _places(scope: str, registry: Registry) -> set[str] | None:
    name = f"matched{scope[1:]}" if scopes.is_wildcard(scope) else scope
    added = "" if "/" in name else _DUMMY_PATH
    try:
        repository = references.parse(name + added).name
    except InputRejected:
        return None
    places: set[str] = set()
    for reference in (references.Reference(repository, digest=_DUMMY_DIGEST), references.Reference(repository, "aaa")):
        names = pull_names(registry, reference)
        if names is None:
            return None
        # A table without location ends in the name asked for, which is the dummy: only its mirrors count.
        places.update(names if registry.location else names[:-1])
    return {place.removesuffix(added) for place in places}
