"""The registry configuration that a container runtime has loaded, indexed for lookups.

Source: containers/image v5.35.0, pkg/sysregistriesv2. Files are read once; a name is looked up by its parents,
never by scanning the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.errors import InputRejected
from reconciler.registries.disruption import Files
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, REGISTRIES_CONF_D
from reconciler.registries.references import DOMAIN, Reference, is_short, normalize, parse
from reconciler.registries.registries_file import Mirror, RegistriesFile, Registry, read
from reconciler.registries.scopes import is_wildcard, prefix_length
from reconciler.registries.signature_policy import Policy, read_policy

ROOT_CONFIG = "/root/.config/containers"
"""root's own configuration; for CRI-O and Podman its files win over those in /etc."""
NAMESPACE_POLICIES = "/etc/crio/policies"

_PULL_FROM_MIRROR = ("", "all", "digest-only", "tag-only")
_SHORT_NAME_MODES = ("", "disabled", "permissive", "enforcing")


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """What the runtime holds. With `registries_error` it cannot load its registries and no pull works.

    `registries` maps each prefix to its table (prefix always set). An alias with an empty value is switched
    off. `policies` maps a path to the policy in it, or to the text of why it cannot be loaded.
    """

    registries: Mapping[str, Registry] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, Policy | str] = field(default_factory=dict)
    registries_error: str = ""

    def find(self, name: str) -> Registry | None:
        """The table with the longest matching prefix for a repository name (no tag, no digest).

        `host` also matches `host:port`; between a wildcard and a host of equal length the wildcard wins.
        """
        tables, best = self.registries, None
        end = len(name)
        while end >= 0 and not (best := tables.get(name[:end])):
            end = name.rfind("/", 0, end)
        host = name.partition("/")[0].partition(":")[0]
        best = best or tables.get(host)
        dot = host.find(".")
        while dot >= 0 and (best is None or len(host) - dot + 1 >= len(best.prefix)):
            wildcard = tables.get(f"*{host[dot:]}")
            if wildcard and prefix_length(name, wildcard.prefix) >= 0:
                return wildcard
            dot = host.find(".", dot + 1)
        return best

    def policy(self, namespace: str | None = None) -> Policy | str:
        """The policy for pulls, or why there is none. A namespace's own file replaces policy.json (CRI-O)."""
        return self.policies.get(self.policy_path(namespace), f"{POLICY_JSON} is missing")

    def policy_path(self, namespace: str | None = None) -> str:
        """The file that `policy` reads."""
        own = f"{NAMESPACE_POLICIES}/{namespace}.json"
        if namespace and own in self.policies:
            return own
        root = f"{ROOT_CONFIG}/policy.json"
        return root if root in self.policies else POLICY_JSON


def load(files: Files) -> RuntimeConfig:
    """The configuration that a runtime would load from these files; what cannot be loaded is said in the value."""
    policies = {
        path: _policy(path, content) for path, content in files.items() if content is not None and _is_policy(path)
    }
    try:
        registries, search, aliases = _merged(files)
    except InputRejected as error:
        return RuntimeConfig(policies=policies, registries_error=str(error))
    return RuntimeConfig(registries, search, aliases, policies)


def _is_policy(path: str) -> bool:
    return path in (POLICY_JSON, f"{ROOT_CONFIG}/policy.json") or (
        path.startswith(f"{NAMESPACE_POLICIES}/") and path.endswith(".json")
    )


def _policy(path: str, content: bytes) -> Policy | str:
    try:
        return read_policy(content)
    except InputRejected as error:
        return f"{path}: {error.what}"


def registries_paths(files: Files) -> tuple[str, ...]:
    """The paths that registries are read from: registries.conf (there or not), then the drop-ins by name."""
    own = f"{ROOT_CONFIG}/registries.conf"
    main = own if files.get(own) is not None else REGISTRIES_CONF
    directories = (f"{own}.d",) if main == own else (REGISTRIES_CONF_D, f"{own}.d")
    return main, *_drop_ins(files, directories)


def _merged(files: Files) -> tuple[dict[str, Registry], tuple[str, ...], dict[str, str]]:
    """The files of `registries_paths` in order; a later table of a prefix replaces an earlier one."""
    registries: dict[str, Registry] = {}
    search: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    for number, path in enumerate(registries_paths(files)):
        content = files.get(path)
        if content is None:
            continue
        try:
            loaded = _checked(_version_2(read(content), drop_in=number > 0))
        except InputRejected as error:
            raise InputRejected(error.what, where=path) from error
        registries |= {registry.prefix: registry for registry in reversed(loaded.registries)}
        search = search if loaded.search is None else loaded.search
        aliases |= loaded.aliases or {}
    return registries, search, aliases


def _drop_ins(files: Files, directories: Iterable[str]) -> Iterable[str]:
    for directory in directories:
        inside = [path for path in files if path.startswith(f"{directory}/") and path.endswith(".conf")]
        yield from sorted(path for path in inside if "/" not in path[len(directory) + 1 :])


def _version_2(file: RegistriesFile, *, drop_in: bool) -> RegistriesFile:
    """The lists of the old form as tables (ConvertToV2)."""
    if not file.version_1:
        return file
    if drop_in:
        raise InputRejected("registry must be in v2 format but is in v1")
    if replace(file, version_1={}) != RegistriesFile():
        raise InputRejected("mixing sysregistry v1/v2 is not supported")
    blocked, insecure = (
        [entry.rstrip("/") for entry in file.version_1.get(name, ())] for name in ("block", "insecure")
    )
    tables = tuple(
        Registry(entry, entry, insecure=entry in insecure, blocked=entry in blocked)
        for entry in dict.fromkeys([*blocked, *insecure])
    )
    return RegistriesFile(tables, search=file.version_1.get("search"))


def _checked(file: RegistriesFile) -> RegistriesFile:
    """The file with locations trimmed and prefixes filled in. Raises InputRejected as the runtime does."""
    if file.short_name_mode not in _SHORT_NAME_MODES:
        raise InputRejected(f"invalid short-name mode: {file.short_name_mode!r}")
    registries = tuple(map(_registry, file.registries))
    flags: dict[str, Registry] = {}
    for registry in registries:
        other = flags.setdefault(registry.location or registry.prefix, registry)
        for name in ("insecure", "blocked"):
            if getattr(registry, name) != getattr(other, name):
                place = registry.location or registry.prefix
                raise InputRejected(f"registry '{place}' is defined multiple times with conflicting '{name}' setting")
    search = None if file.search is None else tuple(map(_search_entry, file.search))
    aliases = {name: _alias(name, value) for name, value in (file.aliases or {}).items()}
    return replace(file, registries=registries, search=search, aliases=aliases)


def _registry(registry: Registry) -> Registry:
    location = _location(registry.location)
    prefix = _location(registry.prefix) if registry.prefix else location
    if not registry.prefix and not location:
        raise InputRejected("invalid condition: both location and prefix are unset")
    if not is_wildcard(prefix) and not location:
        raise InputRejected("invalid condition: location is unset and prefix is not in the format: *.example.com")
    if is_wildcard(prefix) and any(character in prefix for character in "/@:"):
        raise InputRejected(f"wildcarded prefix should be in the format: *.example.com, not {prefix!r}")
    if registry.pull_from_mirror:
        raise InputRejected(f"pull-from-mirror must not be set for a non-mirror registry {prefix!r}")
    mirrors = tuple(_mirror(mirror, registry.mirror_by_digest_only) for mirror in registry.mirrors)
    return replace(registry, prefix=prefix, location=location, mirrors=mirrors)


def _mirror(mirror: Mirror, by_digest_only: bool) -> Mirror:
    location = _location(mirror.location)
    if not location:
        raise InputRejected("invalid condition: mirror location is unset")
    if by_digest_only and mirror.pull_from_mirror:
        raise InputRejected(f"mirror {location!r}: pull-from-mirror beside mirror-by-digest-only of its registry")
    if mirror.pull_from_mirror not in _PULL_FROM_MIRROR:
        raise InputRejected(f"mirror {location!r}: unsupported pull-from-mirror value {mirror.pull_from_mirror!r}")
    return replace(mirror, location=location)


def _location(text: str) -> str:
    if text.startswith(("http://", "https://")):
        raise InputRejected(f"invalid location '{text}': URI schemes are not supported")
    return text.rstrip("/")


def _search_entry(text: str) -> str:
    entry = _location(text)
    if not DOMAIN.fullmatch(entry):
        raise InputRejected(f"Invalid unqualified-search-registries entry {entry!r}")
    return entry


def _alias(name: str, value: str) -> str:
    """The full name that a short name stands for; empty where the file switches the alias off."""
    if parse(name) != Reference(name) or not is_short(name):
        raise InputRejected(f"invalid short name {name!r}: must hold no registry, tag or digest")
    if not value:
        return ""
    if parse(value) != Reference(value) or is_short(value):
        raise InputRejected(f"invalid alias {value!r}: must hold a registry, and no tag or digest")
    return normalize(value).name
