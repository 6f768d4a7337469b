"""One registries.conf or drop-in, read as containers/image's TOML decoder reads it, not yet judged.

Unknown keys are ignored, keys match in any case, a value of the wrong type is an error, an absent list differs
from an empty one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.errors import InputRejected


@dataclass(frozen=True, slots=True)
class Mirror:
    """A `[[registry.mirror]]`. `pull_from_mirror` is "", all, digest-only or tag-only."""

    location: str = ""
    insecure: bool = False
    pull_from_mirror: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """A `[[registry]]` table."""

    prefix: str = ""
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirror_by_digest_only: bool = False
    pull_from_mirror: str = ""
    mirrors: tuple[Mirror, ...] = ()

    @property
    def scope(self) -> str:
        """What the table is about: its prefix, or else its location."""
        return self.prefix or self.location


@dataclass(frozen=True, slots=True)
class RegistriesFile:
    """What a file says. `search` is None when the key is absent; `version_1` holds the lists of the old form."""

    registries: tuple[Registry, ...] = ()
    search: tuple[str, ...] | None = None
    short_name_mode: str = ""
    layer_store_helper: str = ""
    credential_helpers: tuple[str, ...] | None = None
    aliases: Mapping[str, str] | None = None
    version_1: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def meaning(self) -> tuple[Any, ...]:
        """Equal for two files that the runtime cannot tell apart: formatting and order of tables left out.

        Of several tables of one prefix the runtime takes the first.
        """
        tables = {registry.scope: registry for registry in reversed(self.registries)}
        return (
            tables,
            self.search or (),
            self.short_name_mode,
            self.layer_store_helper,
            self.credential_helpers or (),
            self.aliases or {},
            self.version_1,
        )


def read(content: bytes) -> RegistriesFile:
    """Read a file's bytes. Raises InputRejected for broken TOML and values of the wrong type."""
    try:
        table = _lower_keys(tomllib.loads(content.decode("utf-8-sig")))
    except ValueError as error:  # broken TOML or UTF-8, or an integer too long to convert
        raise InputRejected(f"toml: {error}") from error
    except RecursionError as error:
        raise InputRejected("toml: nested too deeply") from error
    return RegistriesFile(
        registries=tuple(_registry(item) for item in _tables(table, "registry")),
        search=_strings(table, "unqualified-search-registries"),
        short_name_mode=_typed(table, "short-name-mode", str),
        layer_store_helper=_typed(table, "additional-layer-store-auth-helper", str),
        credential_helpers=_strings(table, "credential-helpers"),
        aliases=_aliases(table),
        version_1=_version_1(_lower_keys(_typed(table, "registries", dict))),
    )


def _aliases(table: Mapping[str, Any]) -> dict[str, str] | None:
    if "aliases" not in table:
        return None
    aliases: dict[str, str] = _typed(table, "aliases", dict)
    if not all(isinstance(value, str) for value in aliases.values()):
        raise InputRejected("toml: aliases must be strings")
    return aliases


def _registry(table: Mapping[str, Any]) -> Registry:
    return Registry(
        prefix=_typed(table, "prefix", str),
        location=_typed(table, "location", str),
        insecure=_typed(table, "insecure", bool),
        blocked=_typed(table, "blocked", bool),
        mirror_by_digest_only=_typed(table, "mirror-by-digest-only", bool),
        pull_from_mirror=_typed(table, "pull-from-mirror", str),
        mirrors=tuple(_mirror(item) for item in _tables(table, "mirror")),
    )


def _mirror(table: Mapping[str, Any]) -> Mirror:
    return Mirror(
        location=_typed(table, "location", str),
        insecure=_typed(table, "insecure", bool),
        pull_from_mirror=_typed(table, "pull-from-mirror", str),
    )


def _version_1(registries: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The lists of `[registries.search]`, `[registries.insecure]` and `[registries.block]` that are present."""
    lists = {}
    for name in ("search", "insecure", "block"):
        entries = _strings(_lower_keys(_typed(registries, name, dict)), "registries")
        if entries is not None:
            lists[name] = entries
    return lists


def _lower_keys(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in table.items()}


def _typed(table: Mapping[str, Any], key: str, wanted: type) -> Any:
    """The value, or the type's empty value when the key is absent."""
    value = table.get(key, wanted())
    if type(value) is not wanted:
        raise InputRejected(f"toml: {key} must be {_TYPE_NAMES[wanted]}")
    return value


_TYPE_NAMES = {str: "a string", bool: "true or false", dict: "a table", list: "an array"}


def _strings(table: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    if key not in table:
        return None
    values = _typed(table, key, list)
    if not all(isinstance(value, str) for value in values):
        raise InputRejected(f"toml: {key} must be an array of strings")
    return tuple(values)


def _tables(table: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    values = _typed(table, key, list)
    if not all(isinstance(value, dict) for value in values):
        raise InputRejected(f"toml: {key} must be an array of tables")
    return [_lower_keys(value) for value in values]
