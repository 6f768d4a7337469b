"""policy.json as containers/image (signature/policy_config.go) reads it: strictly, as a whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from reconciler.errors import InputRejected
from reconciler.registries.references import Reference
from reconciler.registries.scopes import loads_in_atomic, policy_lookup

_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki")
_REKOR = ("rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "insecureAcceptAnything": (),
    "reject": (),
    "signedBy": ("keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"),
    "signedBaseLayer": ("baseLayerIdentity",),
    "sigstoreSigned": (*_KEYS, *_REKOR, "signedIdentity"),
}
"""Requirement types and the fields that each may have besides `type`."""
_KEY_TYPES = ("GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs")


@dataclass(frozen=True, slots=True)
class Policy:
    """The requirement types per scope of transport docker, and of the default."""

    default: tuple[str, ...]
    scopes: Mapping[str, tuple[str, ...]]

    def requirements(self, reference: Reference) -> tuple[tuple[str, ...], str | None]:
        """What is asked of an image, and the scope that says so (None: the default).

        Asked for are name:tag or name@digest, the name, each parent path, host[:port], the wildcards of the host
        without its port, and the scope "" (docker/policyconfiguration/naming.go).
        """
        scopes, exact = self.scopes, str(reference)
        if exact in scopes:
            return scopes[exact], exact
        parent = reference.name
        while "/" in parent:
            if parent in scopes:
                return scopes[parent], parent
            parent = parent.rpartition("/")[0]
        for scope in policy_lookup(parent):
            if scope in scopes:
                return scopes[scope], scope
        return self.default, None


def read_policy(content: bytes) -> Policy:
    """Read the bytes of a policy file. Raises InputRejected where the runtime would refuse every pull.

    Scopes of transports other than docker and atomic are not checked, nor the contents of keys.
    """
    try:
        value = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputRejected(f"not valid JSON: {error}") from error
    _object(value, ("default", "transports"), "the policy")
    if value.get("default") is None:
        raise InputRejected("Default policy is missing")
    transports = value.get("transports", {})
    if not isinstance(transports, dict):
        raise InputRejected("transports must be an object")
    read = {name: _scopes(name, scopes) for name, scopes in transports.items()}
    return Policy(_requirements(value["default"], "default"), read.get("docker", {}))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"Duplicate key {key!r}")
        table[key] = value
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _object(value: Any, fields: tuple[str, ...], what: str) -> None:
    if not isinstance(value, dict):
        raise InputRejected(f"{what} must be an object")
    unknown = [key for key in value if key not in fields]
    if unknown:
        raise InputRejected(f"Unknown key {unknown[0]!r} in {what}")


def _scopes(transport: str, scopes: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(scopes, dict):
        raise InputRejected(f"transports.{transport} must be an object")
    for scope in scopes:
        if transport == "atomic" and scope and not loads_in_atomic(scope):
            raise InputRejected(f"Unknown key {scope!r}: no valid scope of transport atomic")
    return {scope: _requirements(value, f"{transport}:{scope}") for scope, value in scopes.items()}


def _requirements(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputRejected(f"{where} must be a list of requirements")
    if not value:
        raise InputRejected(f"{where}: List of verification policy requirements must not be empty")
    return tuple(_requirement(item, where) for item in value)


def _requirement(value: Any, where: str) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise InputRejected(f"{where}: Unknown policy requirement type {kind!r}")
    _object(value, ("type", *_FIELDS[kind]), where)
    keys = [key for key in _KEYS if key in value]
    if kind == "signedBy":
        if value.get("keyType") not in _KEY_TYPES:
            raise InputRejected(f"{where}: invalid keyType")
        if len(keys) != 1:
            raise InputRejected(f"{where}: exactly one of keyPath, keyPaths and keyData must be specified")
    if kind == "sigstoreSigned":
        _check_sigstore(value, keys, where)
    if kind == "signedBaseLayer" and "baseLayerIdentity" not in value:
        raise InputRejected(f"{where}: baseLayerIdentity not specified")
    return kind


def _check_sigstore(value: Mapping[str, Any], keys: list[str], where: str) -> None:
    if len(keys) != 1:
        raise InputRejected(f"{where}: exactly one of {', '.join(_KEYS)} must be specified")
    rekor = [key for key in _REKOR if key in value]
    if len(rekor) > 1:
        raise InputRejected(f"{where}: at most one of {', '.join(_REKOR)} can be used")
    if keys == ["fulcio"] and not rekor:
        raise InputRejected(f"{where}: fulcio needs one of {', '.join(_REKOR)}")
    if keys == ["pki"] and rekor:
        raise InputRejected(f"{where}: {rekor[0]} is not supported for pki")
