"""Scopes: the names by which registries, namespaces and repositories are listed, and how they nest.

A scope is `HOST[:PORT][/PATH]*` or a wildcard `*.DOMAIN`. Three readers of a scope disagree in details, and
each has its own function here: MCO's nesting (runtime-utils `ScopeIsNestedInsideScope`), the lookup of tables
in registries.conf (containers/image `refMatchingSubdomainPrefix`), the lookup in policy.json
(containers/image `DockerReferenceNamespaces`). All of them answer by walking up from the name, never by
comparing pairs, so that thousands of scopes stay cheap.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

# The API's patterns (openshift/api types_image.go, types_image_digest_mirror_set.go), rewritten without the
# nested repetition that makes Python's `re` take exponential time; the language is the same.
_LABEL = r"[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PLAIN = rf"{_HOST}(?:/{_COMPONENT})*"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

WILDCARD = re.compile(rf"\*(?:\.{_LABEL})+")
SOURCE = re.compile(rf"{WILDCARD.pattern}|{_PLAIN}")
"""A mirrored source, and an entry of registrySources: use `fullmatch`."""
MIRROR = re.compile(_PLAIN)
"""A mirror location: a source that is no wildcard."""
REGISTRY = SOURCE
SEARCH = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
"""An entry of unqualified-search-registries that containers/image loads (`anchoredDomainRegexp`)."""
TAGGED = re.compile(rf"(?P<name>{_HOST}(?:/{_COMPONENT})+)(?P<tag>:{_TAG})?(?P<digest>@{_DIGEST})?")
"""A repository with tag or digest, as the documentation's examples have them in lists."""
_QUALIFIED_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})+|localhost)(?::[0-9]+)?"
QUALIFIED = re.compile(rf"{_QUALIFIED_HOST}(?:/{_COMPONENT})*")
"""A repository or prefix whose host cannot be taken for a path: with a dot, or localhost."""
POLICY = re.compile(rf"{WILDCARD.pattern}|{QUALIFIED.pattern}(?::{_TAG})?(?:@{_DIGEST})?")
"""A scope of an image policy (openshift/api types_cluster_image_policy.go)."""
_ATOMIC = re.compile(r"[^/]*(?:/[^:/]*(?:/[^:/]*(?::[^:/]*)?)?)?")


def is_wildcard(scope: str) -> bool:
    return scope.startswith("*.")


def is_usable(scope: str) -> bool:
    """What MCO takes as an entry: anything without `*`, or `*.` followed by none of `/ @ : *`.

    Source: runtime-utils `IsValidRegistriesConfScope`.
    """
    if "*" not in scope:
        return bool(scope)
    return is_wildcard(scope) and not any(character in scope[2:] for character in "/@:*")


def loads_in_atomic(scope: str) -> bool:
    """Whether policy.json may hold `scope` under `atomic`; one that may not makes the whole file unloadable.

    Source: containers/image `openshift.ValidatePolicyConfigurationScope`.
    """
    return _ATOMIC.fullmatch(scope) is not None


def belongs_in_atomic(scope: str) -> bool:
    """`atomic` knows no more than two levels below the host; MCO leaves deeper scopes out (helpers.go)."""
    return scope.count("/") < 3


def tag_of(entry: str) -> str:
    """The `:tag` and `@digest` part of a list entry, or nothing."""
    found = TAGGED.fullmatch(entry)
    return (found["tag"] or "") + (found["digest"] or "") if found else ""


def _wildcards(host: str) -> Iterator[str]:
    for index, character in enumerate(host):
        if character == ".":
            yield f"*{host[index:]}"


def enclosing(scope: str) -> Iterator[str]:
    """Every scope that MCO takes to cover `scope`, itself first, then parent paths, then wildcards.

    `*.a.com` covers `x.a.com`, `*.x.a.com` and `x.a.com:5000/ns`, not `a.com`; `a.com` does not cover
    `a.com:5000`. Source: runtime-utils `ScopeIsNestedInsideScope`.
    """
    yield scope
    end = scope.rfind("/")
    while end >= 0:
        yield scope[:end]
        end = scope.rfind("/", 0, end)
    host, colon, _ = scope.partition(":")
    if not colon:
        yield from _wildcards(scope.partition("/")[0])
    elif "/" not in host:
        yield from _wildcards(host)


def nested(scope: str, inside: str) -> bool:
    """Whether MCO takes `scope` to lie in `inside` (equal counts)."""
    return inside in enclosing(scope)


def covered(scope: str, scopes: Collection[str]) -> str | None:
    """The first of `scopes` (a set or mapping) that covers `scope` for MCO, nearest first."""
    return next((outer for outer in enclosing(scope) if outer in scopes), None)


def table_lookup(scope: str) -> Iterator[str]:
    """The scopes of every table in registries.conf that could match names in `scope`, nearest first.

    Unlike for MCO, `host` matches `host:port` too. Source: containers/image `refMatchingPrefix`.
    """
    yield scope
    for index in range(len(scope) - 1, 0, -1):
        if scope[index] in ":/@":
            yield scope[:index]
    yield from (wildcard for wildcard in _wildcards(re.split("[:/@]", scope, maxsplit=1)[0]) if wildcard != scope)


def policy_lookup(scope: str) -> Iterator[str]:
    """The scopes that policy.json is asked for, in order: itself, without tag, parents, wildcards, `""`.

    `host` does not cover `host:port` here, unlike in registries.conf; a wildcard covers any port.
    Source: containers/image docker/policyconfiguration `DockerReferenceNamespaces`.
    """
    yield scope
    found = TAGGED.fullmatch(scope)
    name = found["name"] if found else scope
    if name != scope:
        yield name
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name
    yield from (wildcard for wildcard in _wildcards(name.partition(":")[0]) if wildcard != scope)
    yield ""


def prefix_length(name: str, scope: str) -> int:
    """How many characters of `name` a table for `scope` replaces; -1 when the table does not match.

    `host` matches `host:port` too. Source: containers/image sysregistriesv2 `refMatchingPrefix`.
    """
    if is_wildcard(scope):
        index = name.find(scope[1:])
        if index < 0 or "/" in name[:index]:
            return -1
        end = index + len(scope) - 1
    else:
        if not name.startswith(scope):
            return -1
        end = len(scope)
    return end if end == len(name) or name[end] in ":/@" else -1
