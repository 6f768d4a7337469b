"""What changed between two registries.conf files, entry by entry, and whether MCO takes it to be safe.

The rules are those of the Machine Config Operator (pkg/daemon/drain.go, isSafeContainerRegistryConfChanges): a
change is safe when no running workload can lose an image by it, and MCO then reloads without a drain. They say
nothing about how the runtime looks images up: a change of mirror order is "safe".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.registries.registries_file import Mirror, RegistriesFile, Registry

DIGEST_ONLY = "digest-only"
_APPEND_MIRROR = "append the new mirror first: reload only"
_APPEND_SEARCH = "append new search registries at the end: reload only"
_BY_DIGEST = "mirror by digest (ImageDigestMirrorSet): reload only"
_TRUST_CA = "trust its CA instead (additionalTrustedCA): no reload, no drain"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference in words. `safe`: MCO does not drain for it; else `advice` may say how not to need it."""

    text: str
    safe: bool
    advice: str = ""


def compare(old: RegistriesFile, new: RegistriesFile) -> tuple[Change, ...]:
    """Every difference that MCO or the runtime could see; empty when the files say the same.

    Of several tables of one scope the last one counts, as in MCO.
    """
    before = {registry.scope: registry for registry in old.registries}
    after = {registry.scope: registry for registry in new.registries}
    changes = list(_search(old.search or (), new.search or ()))
    changes += (Change(f"registry {scope} removed", safe=False) for scope in before if scope not in after)
    for scope, registry in after.items():
        if scope not in before:
            changes.append(_added(registry))
        elif before[scope] != registry:
            changes += _modified(before[scope], registry)
    changes += _settings(old, new)
    if not changes and old.meaning() != new.meaning():
        changes.append(Change("tables of one scope changed", safe=True))
    return tuple(changes)


def _search(old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    if new[: len(old)] == old:
        yield from (Change(f"search registry {name} appended", safe=True) for name in new[len(old) :])
        return
    removed = [name for name in old if name not in new]
    yield from (Change(f"search registry {name} removed", safe=False) for name in removed)
    if not removed:
        advice = _APPEND_SEARCH if len(new) > len(old) else ""
        yield Change(f"search registries reordered to {', '.join(new)}", safe=False, advice=advice)


def _added(registry: Registry) -> Change:
    """A new table must serve pulls by digest only (MCO looks at each mirror, or without any at the registry)."""
    flags = [name for name in ("blocked", "insecure") if getattr(registry, name)]
    mirrors = ", ".join(mirror.location for mirror in registry.mirrors)
    text = f"{' '.join([*flags, 'registry'])} {registry.scope} added"
    if registry.mirrors:
        safe = all(mirror.pull_from_mirror == DIGEST_ONLY for mirror in registry.mirrors)
        return Change(f"{text} with mirrors {mirrors}", safe, _BY_DIGEST)
    return Change(text, registry.mirror_by_digest_only, _TRUST_CA if flags == ["insecure"] else "")


def _modified(old: Registry, new: Registry) -> Iterator[Change]:
    scope = new.scope
    for name in ("prefix", "location"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Change(f"{name} of registry {scope} changed from {before!r} to {after!r}", safe=False)
    for name in ("blocked", "insecure"):
        if getattr(old, name) != getattr(new, name):
            verb = "now" if getattr(new, name) else "no longer"
            advice = _TRUST_CA if name == "insecure" and new.insecure else ""
            yield Change(f"registry {scope} {verb} {name}", safe=False, advice=advice)
    yield from _mirrors(old, new)
    if old.mirror_by_digest_only != new.mirror_by_digest_only:
        yield Change(f"mirror-by-digest-only of registry {scope} changed", safe=True)
    if old.pull_from_mirror != new.pull_from_mirror:
        yield Change(f"pull-from-mirror of registry {scope} changed", safe=True)


def _mirrors(old: Registry, new: Registry) -> Iterator[Change]:
    scope = new.scope
    before = _first_of_each(old.mirrors)
    after = _first_of_each(new.mirrors)
    replaced = any(mirror.pull_from_mirror == DIGEST_ONLY for place, mirror in after.items() if place not in before)
    for location in before:
        if location not in after:
            advice = _APPEND_MIRROR if replaced else ""
            yield Change(f"mirror {location} removed from {scope}", safe=False, advice=advice)
    for mirror in new.mirrors:
        location, pulls = mirror.location, mirror.pull_from_mirror
        previous = before.get(location)
        if previous is None:
            safe = pulls == DIGEST_ONLY or new.mirror_by_digest_only
            yield Change(f"mirror {location}{_restriction(pulls)} added to {scope}", safe, _BY_DIGEST)
        elif previous.pull_from_mirror != pulls:
            # Also where a location stands twice and only something else changed: MCO looks at the first alone.
            yield Change(
                f"mirror {location} of {scope} is{_restriction(pulls) or ' for all pulls'}", pulls == DIGEST_ONLY
            )
        elif previous.insecure != mirror.insecure:
            yield Change(
                f"mirror {location} of {scope} {'now' if mirror.insecure else 'no longer'} insecure", safe=True
            )
    if old.mirrors != new.mirrors and sorted(map(repr, old.mirrors)) == sorted(map(repr, new.mirrors)):
        yield Change(f"mirrors of {scope} reordered", safe=True)


def _first_of_each(mirrors: tuple[Mirror, ...]) -> dict[str, Mirror]:
    return {mirror.location: mirror for mirror in reversed(mirrors)}


def _restriction(pull_from_mirror: str) -> str:
    return f" ({pull_from_mirror})" if pull_from_mirror not in ("", "all") else ""


def _settings(old: RegistriesFile, new: RegistriesFile) -> Iterator[Change]:
    """The rest of the file, which MCO does not look at."""
    for name, key in (
        ("short_name_mode", "short-name-mode"),
        ("layer_store_helper", "additional-layer-store-auth-helper"),
        ("credential_helpers", "credential-helpers"),
        ("aliases", "aliases"),
    ):
        if (getattr(old, name) or None) != (getattr(new, name) or None):
            yield Change(f"{key} changed", safe=True)
