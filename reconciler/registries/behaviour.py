"""Whether two sets of a host's files mean the same: one canonical form, and the proof by what `resolve` answers.

Equal canonical forms behave alike. Unequal ones may still do: then every name that a scope of either could decide
about is resolved under both, by tag and by digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.errors import InputRejected
from reconciler.registries import templates
from reconciler.registries.disruption import Files
from reconciler.registries.model import CERTS_D, POLICY_JSON, digest
from reconciler.registries.references import Reference
from reconciler.registries.registries_file import RegistriesFile, Registry, read
from reconciler.registries.resolve import Resolution, resolve, serves
from reconciler.registries.runtime_config import RuntimeConfig, load, registries_paths
from reconciler.registries.scopes import is_wildcard, tag_of

DIGEST = "sha256:" + "0" * 64
BY_DIGEST, BY_TAG = Reference("a.example/b", digest=DIGEST), Reference("a.example/b", tag="v1")
_ENDS = (":v1", f"@{DIGEST}")
_ASIDE = (CERTS_D, "/etc/containers/certs.d", "/etc/containers/registries.d")
"""What the runtime reads beside registries and policies; compared byte by byte."""


def mirrors_of(registry: Registry, form: Reference) -> tuple[tuple[str, bool], ...]:
    """Location and insecure flag of the mirrors that serve names of this form, in their order."""
    return tuple((mirror.location, mirror.insecure) for mirror in registry.mirrors if serves(registry, mirror, form))


def fingerprint(files: Files, unread: Mapping[str, str]) -> str:
    """Equal for hosts that behave alike. `unread` maps files whose bytes are not known to their hashes."""
    return digest([_canonical(files), sorted(unread.items())])


def _canonical(files: Files) -> dict[str, Any]:
    """What the runtime makes of the files; where it cannot load its registries, their bytes."""
    config = load(files)
    aside = _aside(files)
    if config.registries_error:
        paths = registries_paths(files)
        aside |= {path: content.hex() for path in paths if (content := files.get(path)) is not None}
    return {
        "registries": {scope: _table(registry) for scope, registry in config.registries.items()},
        "search": config.search,
        "aliases": dict(config.aliases),
        "settings": {} if config.registries_error else settings_of(files),
        "policies": {path: _policy(files.get(path) or b"") for path in config.policies},
        "aside": aside,
    }


def _table(registry: Registry) -> list[Any]:
    mirrors = [mirrors_of(registry, form) for form in (BY_DIGEST, BY_TAG)]
    return [registry.location, registry.insecure, registry.blocked, *mirrors]


def settings_of(files: Files) -> dict[str, Any]:
    """What registries.conf and its drop-ins set beside tables, search list and aliases; the last one counts."""
    found: dict[str, Any] = {}
    for path in registries_paths(files):
        content = files.get(path)
        file = RegistriesFile() if content is None else read(content)
        values = {
            "short-name-mode": file.short_name_mode,
            "additional-layer-store-auth-helper": file.layer_store_helper,
            "credential-helpers": file.credential_helpers,
        }
        found |= {key: value for key, value in values.items() if value}
    return found


def _policy(content: bytes) -> Any:
    """The policy as data; one that no runtime loads as its bytes."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.hex()


def _aside(files: Files) -> dict[str, str]:
    return {
        path: content.hex()
        for path, content in files.items()
        if content is not None and path.startswith(tuple(f"{directory}/" for directory in _ASIDE))
    }


def differences(before: Files, after: Files) -> tuple[str, ...]:
    """What a host would do differently with `after` in place of `before`, in words; empty when nothing.

    A host without policy.json is compared as if it accepted everything; that the file appears is a difference.
    """
    return () if _canonical(before) == _canonical(after) else tuple(_differences(before, after))


def alike(before: Files, after: Files) -> bool:
    """Whether there are no `differences`; ends at the first."""
    return _canonical(before) == _canonical(after) or next(_differences(before, after), None) is None


def _differences(before: Files, after: Files) -> Iterator[str]:
    aside = _changed_aside(before, after)
    aside += [POLICY_JSON] if (before.get(POLICY_JSON) is None) != (after.get(POLICY_JSON) is None) else []
    yield from (f"{path} would {_verb(before.get(path), after.get(path))}" for path in aside)
    yield from _changed_settings(before, after)
    old, new = (
        load({**files, POLICY_JSON: files.get(POLICY_JSON) or templates.POLICY_JSON}) for files in (before, after)
    )
    for namespace in sorted({*_namespaces(old), *_namespaces(new)}):
        for name in names(old, new):
            was, becomes = (_answer(resolve(config, name, namespace)) for config in (old, new))
            if was != becomes:
                where = f" in {namespace}" if namespace else ""
                yield f"{name}{where}: {was} → {becomes}".replace(DIGEST, "DIGEST")


def contrast(one: Files, other: Files) -> tuple[str, ...]:
    """What the files of `other` say differently from those of `one`, entry by entry, for people."""
    before, after = dict(_entries(_canonical(one))), dict(_entries(_canonical(other)))
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    return tuple(f"{key}: {before.get(key, 'nothing')} → {after.get(key, 'nothing')}" for key in changed)


def _entries(canonical: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for scope, (location, insecure, blocked, by_digest, by_tag) in canonical["registries"].items():
        flags = [word for word, yes in (("blocked", blocked), ("insecure", insecure)) if yes]
        leads = [f"leads to {location}"] if location not in ("", scope) else []
        mirrors = [
            f"mirrors by {form} {' '.join(place + ' insecure' * flag for place, flag in found)}"
            for form, found in (("digest", by_digest), ("tag", by_tag))
            if found
        ]
        yield f"registry {scope}", ", ".join([*flags, *leads, *mirrors]) or "plain"
    yield from ((f"alias {name}", value or "off") for name, value in canonical["aliases"].items())
    yield from ((key, str(value)) for key, value in canonical["settings"].items())
    yield "search list", " ".join(canonical["search"]) or "empty"
    for path, policy in canonical["policies"].items():
        yield from ((f"{path} {key}", text) for key, text in _policy_entries(policy))
    yield from ((path, f"SHA-256 {digest(content)[:12]}") for path, content in canonical["aside"].items())


def _policy_entries(policy: Any) -> Iterator[tuple[str, str]]:
    """Default and docker scopes with the types asked for, the rest whole."""
    try:
        scopes = {"default": policy["default"], **policy.get("transports", {}).get("docker", {})}
        told = [(scope, "+".join(need["type"] for need in needs)) for scope, needs in scopes.items()]
    except (LookupError, TypeError, AttributeError):
        told = []  # no policy that the runtime loads
    yield from told
    yield "content", f"SHA-256 {digest(policy)[:12]}"


def _verb(before: bytes | None, after: bytes | None) -> str:
    return "appear" if before is None else "go" if after is None else "change"


def _changed_aside(before: Files, after: Files) -> list[str]:
    old, new = _aside(before), _aside(after)
    return [path for path in sorted({*old, *new}) if old.get(path) != new.get(path)]


def _changed_settings(before: Files, after: Files) -> list[str]:
    try:
        old, new = settings_of(before), settings_of(after)
    except InputRejected:
        return []  # the answers differ then
    return [f"{key} would change" for key in sorted({*old, *new}) if old.get(key) != new.get(key)]


def _namespaces(config: RuntimeConfig) -> set[str]:
    """The namespaces with a policy of their own, and "" for all others."""
    paths = [path for path in config.policies if path.startswith("/etc/crio/policies/")]
    return {"", *(path.rpartition("/")[2].removesuffix(".json") for path in paths)}


def _answer(resolution: Resolution) -> str:
    """What would happen, without where it is written."""
    if resolution.error:
        return resolution.error
    told = []
    for candidate in resolution.candidates:
        places = [
            source.reference + (" insecure" if source.insecure else "") + (" blocked" if source.blocked else "")
            for source in candidate.sources
        ]
        told.append(f"{candidate.decision} from {', '.join(places) or candidate.sources_error}")
    return "; ".join(told)


def names(*configs: RuntimeConfig) -> list[str]:
    """Image names about which some scope of the configurations could decide, and one about which none does."""
    scopes = {scope for config in configs for scope in _scopes(config)}
    found = {f"{name}{end}" for scope in scopes for name in _below(scope) for end in _ENDS}
    found |= {scope for scope in scopes if tag_of(scope)}
    short = {name for config in configs for name in config.aliases} | {"short", "short/name"}
    found |= {f"{name}{end}" for name in short for end in _ENDS}
    return sorted({*found, "elsewhere.example/ns/app:v1", f"elsewhere.example/ns/app@{DIGEST}"})


def _scopes(config: RuntimeConfig) -> Iterator[str]:
    for scope, registry in config.registries.items():
        yield scope
        yield from (place for place in (registry.location, *(mirror.location for mirror in registry.mirrors)) if place)
    for policy in config.policies.values():
        yield from () if isinstance(policy, str) else (scope for scope in policy.scopes if scope)
    yield from config.search


def _below(scope: str) -> Iterator[str]:
    """Names at, above, below and beside a scope, with another port, and on a host of a wildcard."""
    if is_wildcard(scope):
        yield from (f"w{scope[1:]}/app", f"w.v{scope[1:]}:5000/ns/app", f"{scope[2:]}/app")
        return
    name = scope.removesuffix(tag_of(scope))
    host, slash, path = name.partition("/")
    yield from (f"{host}/app", f"{name}/app", f"{name}/app/deep", f"{host.partition(':')[0]}:5001{slash}{path}/app")
    if slash:
        yield from (name, f"{name}-beside", f"{name.rpartition('/')[0]}/beside")
