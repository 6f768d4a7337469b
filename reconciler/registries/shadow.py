"""Files beside ours that decide otherwise: what a runtime answers with them, against what it answers with ours alone.

As measured (RUNTIME facts in docs/explanation/drift.md): root's own configuration hides that in /etc, drop-ins replace
tables of the same prefix in the order of their names, a policy of crio.conf or of a namespace replaces policy.json,
and /etc/containers/certs.d/HOST hides /etc/docker/certs.d/HOST.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping, Set
from typing import Any, NamedTuple

from reconciler.registries.disruption import Files
from reconciler.registries.evidence import Evidence, line_of_fault
from reconciler.registries.file_lines import line_of, toml_lines
from reconciler.registries.model import CERTS_D, POLICY_JSON, REGISTRIES_CONF, REGISTRIES_CONF_D
from reconciler.registries.registries_file import Registry
from reconciler.registries.runtime_config import (
    NAMESPACE_POLICIES,
    ROOT_CONFIG,
    RuntimeConfig,
    load,
    registries_paths,
)
from reconciler.registries.scopes import covered, is_wildcard
from reconciler.registries.signature_policy import Policy

SEARCH = "unqualified-search-registries"
CRIO_CONF = "/etc/crio/crio.conf"
_HIDING = ("/etc/containers/certs.d", f"{ROOT_CONFIG}/certs.d")
_SIGNATURE_POLICY = ("crio", "image", "signature_policy")


class Shadow(NamedTuple):
    """A line of a file that is not ours, and the scopes for which it makes the runtime answer otherwise."""

    file: str
    line: int
    scopes: tuple[str, ...]


def decides(path: str) -> bool:
    """Whether what a file says may shadow ours, so that its bytes are of interest."""
    drop_in = path.startswith((f"{REGISTRIES_CONF_D}/", f"{ROOT_CONFIG}/registries.conf.d/")) and path.endswith(".conf")
    policy = path.startswith(f"{NAMESPACE_POLICIES}/") and path.endswith(".json")
    main = path in (REGISTRIES_CONF, POLICY_JSON, CRIO_CONF, *(f"{ROOT_CONFIG}/{n}" for n in _MAIN))
    return drop_in or policy or main or path.startswith(f"{CRIO_CONF}.d/")


_MAIN = ("registries.conf", "policy.json")


def hides(path: str) -> str:
    """The host (`HOST[:PORT]`) whose certificates in /etc/docker/certs.d a file hides by standing there, or nothing."""
    for top in _HIDING:
        if path.startswith(f"{top}/"):
            return path[len(top) + 1 :].partition("/")[0]
    return ""


def shadows(ours: Files, others: Files, named: Mapping[str, Collection[str]]) -> tuple[Shadow, ...]:
    """What of `others` makes the runtime answer otherwise than with `ours`, for what `named` says per path of ours.

    `ours` are the files that we place and those that they were laid over; `others` all further ones of `decides` and
    `hides`, None where a file's bytes are not known. `named`: tables (by prefix), docker scopes, `default`, and the
    search list's key. Sorted.
    """
    found: dict[tuple[str, int], set[str]] = {}
    for file, line, scope in _found(ours, others, named):
        found.setdefault((file, line), set()).add(scope)
    return tuple(Shadow(file, line, tuple(sorted(scopes))) for (file, line), scopes in sorted(found.items()))


Found = tuple[str, int, str]


def _found(ours: Files, others: Files, named: Mapping[str, Collection[str]]) -> Iterator[Found]:
    expected = load(ours)
    said = {scope for path in registries_paths(ours) for scope in named.get(path, ())}
    tables = said & {*expected.registries, SEARCH}
    policies = set(named.get(POLICY_JSON, ()))
    unknown = sorted(path for path, content in others.items() if content is None and decides(path))
    for path in unknown:
        yield from ((path, 1, scope) for scope in tables | policies)
    known = {path: content for path, content in others.items() if content is not None and decides(path)}
    if known:
        both = {**known, **ours}
        actual, evidence = load(both), Evidence(both, {})
        yield from _registries(expected, actual, evidence, both, tables)
        yield from _policies(expected, actual, known, policies)
        yield from _of_crio(known, tables, policies)
    hosts = {path[len(CERTS_D) + 1 :].partition("/")[0] for path in ours if path.startswith(f"{CERTS_D}/")}
    yield from ((path, 1, hides(path)) for path in others if hides(path) in hosts)


def _registries(
    expected: RuntimeConfig, actual: RuntimeConfig, evidence: Evidence, files: Files, scopes: Set[str]
) -> Iterator[Found]:
    if actual.registries_error:
        fault = evidence.fault(actual.registries_error)
        file, line = (fault.file, fault.line) if fault else (registries_paths(files)[0], 1)
        yield from ((file, line, scope) for scope in scopes)
        return
    for scope in scopes & expected.registries.keys():
        table = _table(actual, scope)
        if _answer(table) != _answer(expected.registries[scope]):
            yield _place(evidence, files, table, scope)
    for prefix in actual.registries.keys() - expected.registries.keys():
        outer = _table(expected, prefix)
        if outer and outer.prefix in scopes and _answer(actual.registries[prefix]) != _answer(outer):
            yield _place(evidence, files, actual.registries[prefix], prefix)
    if SEARCH in scopes and expected.search != actual.search:
        place = evidence.search()
        yield place.file, place.line, SEARCH


def _place(evidence: Evidence, files: Files, table: Registry | None, scope: str) -> Found:
    """The table that decides; without one, the file that hides ours."""
    place = evidence.table(table.prefix) if table else None
    return (place.file, place.line, scope) if place else (registries_paths(files)[0], 1, scope)


def _table(config: RuntimeConfig, scope: str) -> Registry | None:
    """The table that decides for a scope; of wildcards the nearest around it."""
    if not is_wildcard(scope):
        return config.find(scope)
    suffix = scope[1:]
    while suffix and f"*{suffix}" not in config.registries:
        dot = suffix.find(".", 1)
        suffix = suffix[dot:] if dot > 0 else ""
    return config.registries.get(f"*{suffix}") if suffix else None


def _answer(table: Registry | None) -> tuple[Any, ...]:
    """What a table says of the names below it, wherever it stands."""
    if table is None:
        return (False, False, (), "")
    location = "" if table.location in ("", table.prefix) else table.location
    mirrors = () if table.blocked else (table.mirrors, table.mirror_by_digest_only and bool(table.mirrors))
    return (table.blocked, table.insecure and not table.blocked, mirrors or (), "" if table.blocked else location)


def _policies(expected: RuntimeConfig, actual: RuntimeConfig, known: Files, scopes: Collection[str]) -> Iterator[Found]:
    ours = expected.policy()
    if isinstance(ours, str):
        return
    for path in sorted(actual.policies.keys() & known.keys()):
        theirs = actual.policies[path]
        yield from ((path, 1, scope) for scope in scopes if _asked(ours, scope) != _asked(theirs, scope))
        for scope in theirs.scopes.keys() - ours.scopes.keys() if isinstance(theirs, Policy) else ():
            outer = covered(scope, ours.scopes) or "default"
            if outer in scopes and _asked(ours, outer) != _asked(theirs, scope):
                yield path, 1, scope


def _asked(policy: Policy | str, scope: str) -> tuple[str, ...] | None:
    """The requirement types of a scope; None where the policy cannot be loaded."""
    if isinstance(policy, str):
        return None
    return policy.default if scope == "default" else policy.scopes.get(scope, policy.default)


def _of_crio(known: Files, tables: Collection[str], policies: Collection[str]) -> Iterator[Found]:
    """CRI-O reads its own files before registries: one that it cannot read keeps ours from being loaded."""
    last: Found | None = None
    for path in sorted(path for path in known if path == CRIO_CONF or path.startswith(f"{CRIO_CONF}.d/")):
        text = (known[path] or b"").decode("utf-8", errors="replace")
        try:
            image: Any = tomllib.loads(text).get("crio", {}).get("image", {})
            policy = str(image.get("signature_policy", ""))
        except (tomllib.TOMLDecodeError, AttributeError) as error:
            line = line_of_fault(known[path] or b"", str(error))
            yield from ((path, line, scope) for scope in (*tables, *policies))
            continue
        if policy:
            last = (path, line_of(toml_lines(text), _SIGNATURE_POLICY), policy)
    if last and last[2] != POLICY_JSON:
        yield from ((last[0], last[1], scope) for scope in policies)
