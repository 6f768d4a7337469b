"""What stays in a host's own files because no resource says it, or none that would leave all else as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.registries import templates
from reconciler.registries.behaviour import BY_DIGEST, BY_TAG, mirrors_of
from reconciler.registries.disruption import Files
from reconciler.registries.facts import Facts
from reconciler.registries.model import BASE_PATHS, CERTS_D, POLICY_JSON, REGISTRIES_CONF, SEARCH_REGISTRIES
from reconciler.registries.registries_file import RegistriesFile, Registry, read
from reconciler.registries.runtime_config import load
from reconciler.registries.scopes import covered

REMAINDERS = {
    "unloadable": "the runtime cannot load the file: mend it on the host, then import again",
    "version-1": "the file has the old form [registries.search] and the like, which nothing can be laid over",
    "search-list": "the search list stands in another file than the drop-in that an Image writes",
    "setting": "no resource sets short-name-mode, credential-helpers or additional-layer-store-auth-helper",
    "alias": "no resource gives a short name a meaning of its own",
    "rewritten-location": "no resource leads a prefix to another location",
    "blocked-only-in-registries": "an Image's blockedRegistries would reject the scope in policy.json too",
    "insecure-mirror": "a mirror is insecure and its own scope is not, which no resource can tell apart",
    "shadowing-table": "a table without flags and mirrors only hides a wider one, which no resource does",
    "table": "no resource says this and leaves everything else as it is",
    "signed-scope": "the scope demands signatures by requirements that a host's file keeps",
    "policy-scope": "allowedRegistries or blockedRegistries cannot say this and leave all else as it is",
    "policy-default": "a default that demands signatures has no field",
    "other-transport": "resources speak of transport docker only",
    "drop-in": "resources write no other drop-in",
    "certificate": "only a ca.crt of PEM certificates for HOST[:PORT] below /etc/docker/certs.d can be a ConfigMap",
    "other-file": "the runtime reads the file, and no resource writes it",
}
"""Why something stays, by name."""

_OF_A_USER = "/.config/containers/"


@dataclass(frozen=True, slots=True)
class Remainder:
    """One thing that stays: `what` (a scope, key or file) in the file `path`, and the name of the reason."""

    path: str
    what: str
    name: str

    @property
    def why(self) -> str:
        return REMAINDERS[self.name]


def remainder(files: Files, facts: Facts) -> tuple[Remainder, ...]:
    """What of `files` the resources of `facts` do not say, sorted by file."""
    found = [
        *_registries(files, facts),
        *_policy(files, facts),
        *_drop_ins(files),
        *_certificates(files, facts),
        *_others(files),
    ]
    return tuple(sorted(found, key=lambda item: (item.path, item.name, item.what)))


def _registries(files: Files, facts: Facts) -> Iterator[Remainder]:
    for path in (REGISTRIES_CONF, SEARCH_REGISTRIES):
        content = files.get(path)
        if content is None:
            continue
        config = load({path: content})
        if config.registries_error:
            yield Remainder(path, "the whole file", "unloadable")
            continue
        file = read(content)
        if file.version_1:
            yield Remainder(path, "the whole file", "version-1")
            continue
        yield from _keys(path, file, facts)
        for scope, table in sorted(config.registries.items()):
            yield from (Remainder(path, scope, name) for name in _of_table(table, facts, path))


def _keys(path: str, file: RegistriesFile, facts: Facts) -> Iterator[Remainder]:
    if file.search is not None and not facts.search:
        yield Remainder(path, "unqualified-search-registries", "search-list")
    for key, value in (
        ("short-name-mode", file.short_name_mode),
        ("credential-helpers", file.credential_helpers),
        ("additional-layer-store-auth-helper", file.layer_store_helper),
    ):
        if value:
            yield Remainder(path, key, "setting")
    yield from (Remainder(path, alias, "alias") for alias in sorted(file.aliases or {}))


def _of_table(table: Registry, facts: Facts, path: str) -> Iterator[str]:
    """The names of what a table says and resources do not."""
    scope = table.prefix
    if table.location not in ("", scope):
        yield "rewritten-location"
        return
    forms = ((BY_DIGEST, facts.digest_rows), (BY_TAG, facts.tag_rows))
    said = {form: any(row.source == scope for row in rows) for form, rows in forms}
    never = any(row.source == scope and row.never for _, rows in forms for row in rows)
    left = any(mirrors_of(table, form) and not said[form] for form, _ in forms)
    if path != REGISTRIES_CONF or (table.insecure and scope not in facts.insecure):
        yield "table"
    elif table.blocked and not never and scope not in facts.blocked:
        yield "table" if table.mirrors else "blocked-only-in-registries"
    elif left:
        flagged = {location for form, _ in forms for location, insecure in mirrors_of(table, form) if insecure}
        yield "insecure-mirror" if any(covered(place, facts.insecure) is None for place in flagged) else "table"
    elif not (table.insecure or table.blocked or table.mirrors):
        yield "shadowing-table"


def _policy(files: Files, facts: Facts) -> Iterator[Remainder]:
    content = files.get(POLICY_JSON)
    if content is None:
        return
    if isinstance(load({POLICY_JSON: content}).policy(), str):
        yield Remainder(POLICY_JSON, "the whole file", "unloadable")
        return
    policy = json.loads(content)
    transports = policy.get("transports") or {}
    types = {need["type"] for need in policy["default"]}
    if not types <= {"insecureAcceptAnything", "reject"}:
        yield Remainder(POLICY_JSON, "default", "policy-default")
    elif types == {"reject"} and not facts.allowed:
        yield Remainder(POLICY_JSON, "default", "policy-scope")
    for scope, needs in sorted((transports.get("docker") or {}).items()):
        yield from _of_scope(scope, needs, facts)
    known = json.loads(templates.POLICY_JSON)["transports"]
    for name, scopes in sorted(transports.items()):
        if name not in ("docker", "atomic") and scopes != known.get(name):
            yield Remainder(POLICY_JSON, f"transports.{name}", "other-transport")


def _of_scope(scope: str, needs: list[dict[str, Any]], facts: Facts) -> Iterator[Remainder]:
    types = {need["type"] for need in needs}
    if not types <= {"insecureAcceptAnything", "reject"}:
        yield Remainder(POLICY_JSON, scope, "signed-scope")
    elif scope not in (facts.blocked if "reject" in types else facts.allowed):
        yield Remainder(POLICY_JSON, scope, "policy-scope")


def _drop_ins(files: Files) -> Iterator[Remainder]:
    for path in files:
        if path.startswith(f"{REGISTRIES_CONF}.d/") and path.endswith(".conf") and path not in BASE_PATHS:
            yield Remainder(path, "the whole file", "drop-in")


def _certificates(files: Files, facts: Facts) -> Iterator[Remainder]:
    said = {f"{CERTS_D}/{host}/ca.crt" for host, _ in facts.certificates}
    for path in files:
        if "/certs.d/" in path and _OF_A_USER not in path and path not in said:
            yield Remainder(path, "the whole file", "certificate")


def _others(files: Files) -> Iterator[Remainder]:
    for path in files:
        if path.startswith(("/etc/crio/policies/", "/etc/containers/registries.d/")) or _OF_A_USER in path:
            yield Remainder(path, "the whole file", "other-file")
