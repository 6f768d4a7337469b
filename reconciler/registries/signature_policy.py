"""policy.json as containers/image (signature/policy_config.go) reads it: strictly, as a whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from reconciler.errors import InputRejected
from reconciler.registries.policy_requirement import check_object, requirement_type
from reconciler.registries.references import Reference
from reconciler.registries.scopes import loads_in_atomic, policy_lookup

_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[^/]+)+")
_NO_SCOPE = re.compile(r"(?!)")
_SCOPES: Mapping[str, re.Pattern[str]] = {
    **dict.fromkeys(("dir", "oci", "oci-archive"), _PATH),
    **dict.fromkeys(("docker-archive", "tarball"), _NO_SCOPE),
    "containers-storage": re.compile(r"\[(?:[^]@]+@/[^]]*|/[^]@]*)\].*", re.DOTALL),
}
"""What a scope (other than "") of these transports looks like: a clean absolute path, nothing, `[DRIVER@ROOT]NAME`."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The requirement types per scope of transport docker, of the default, and per scope of every transport."""

    default: tuple[str, ...]
    scopes: Mapping[str, tuple[str, ...]]
    transports: Mapping[str, Mapping[str, tuple[str, ...]]]

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

    Whether a key is one, and image names in scopes of containers-storage and docker-daemon, are not checked.
    """
    try:
        value = json.loads(content.decode(errors="replace"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputRejected(f"not valid JSON: {error}") from error
    check_object(value, ("default", "transports"), "the policy")
    if value.get("default") is None:
        raise InputRejected("Default policy is missing")
    transports = value.get("transports", {})
    if not isinstance(transports, dict):
        raise InputRejected("transports must be an object")
    # A transport without scopes says as little as one that is not there.
    read = {name: found for name, scopes in transports.items() if (found := _scopes(name, scopes))}
    return Policy(_requirements(value["default"], "default"), read.get("docker", {}), read)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"Duplicate key {key!r}")
        table[key] = value
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _scopes(transport: str, scopes: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(scopes, dict):
        raise InputRejected(f"transports.{transport} must be an object")
    for scope in scopes:
        if scope and not _loads(transport, scope):
            raise InputRejected(f"Unknown key {scope!r}: no valid scope of transport {transport}")
    return {scope: _requirements(value, f"{transport}:{scope}") for scope, value in scopes.items()}


def _loads(transport: str, scope: str) -> bool:
    if transport == "atomic":
        return loads_in_atomic(scope)
    return transport not in _SCOPES or _SCOPES[transport].fullmatch(scope) is not None


def _requirements(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputRejected(f"{where} must be a list of requirements")
    if not value:
        raise InputRejected(f"{where}: List of verification policy requirements must not be empty")
    return tuple(requirement_type(item, where) for item in value)
