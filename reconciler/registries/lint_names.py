"""Whether image names match a table or scope at all, and whether names come out of its mirrors."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.errors import InputRejected
from reconciler.registries.file_lines import Lines, line_of
from reconciler.registries.lint_catalogue import fault
from reconciler.registries.model import Problem
from reconciler.registries.references import canonical
from reconciler.registries.registries_file import Registry
from reconciler.registries.scopes import is_wildcard, prefix_length, tag_of


def check_table(path: str, lines: Lines, index: int, registry: Registry) -> Iterator[Problem]:
    """A table that loads: what it cannot match, and what cannot be pulled through it."""
    scope = registry.scope.rstrip("/")
    line = line_of(lines, ("registry", index, "prefix" if registry.prefix else "location"))
    if tag_of(scope):
        bare = scope.removesuffix(tag_of(scope))
        message = f"{scope} has a tag or digest: tables are looked up by repository, so this one never matches"
        yield fault("tag-in-location", path, line, message, f"write {bare}; policy.json can name a single tag")
        return
    why = unmatchable(scope)
    if why:
        yield fault("never-matches", path, line, f"no image name matches {scope!r}: {why}", _NAME)
        return
    yield from _mirrors(path, lines, index, registry, scope)
    only_digests = [m.pull_from_mirror == "digest-only" or registry.mirror_by_digest_only for m in registry.mirrors]
    if registry.blocked and only_digests and all(only_digests):
        message = f"{scope} is blocked and its mirrors serve digests only: no image of it can be pulled by tag"
        remedy = "name images by digest, or let a mirror serve tags too"
        yield fault("digest-only-blocked", path, line_of(lines, ("registry", index)), message, remedy)


_NAME = "write it as images are named: HOST[:PORT][/REPOSITORY] or *.example.com"


def unmatchable(scope: str) -> str:
    """Why no full image name can lie in the repository, namespace, registry or wildcard `scope`; empty if one can."""
    if is_wildcard(scope):
        if any(character in scope[2:] for character in "/@:*"):
            return "a wildcard covers whole hosts, without port and path"
        scope = f"x{scope[1:]}"
    if "://" in scope:
        return "image names have no scheme"
    if "*" in scope:
        return "a wildcard stands in front, as in *.example.com"
    if scope.endswith("/"):
        return "a name does not end in /"
    if scope.partition("/")[0] == "index.docker.io":
        return "it is read as docker.io"
    try:
        canonical(f"{scope}/x/y")
    except InputRejected:
        head = scope.partition("/")[0]
        if "." not in head and ":" not in head and head != "localhost":
            return f"{head!r} is no registry for the runtime, which expects a dot or a port in its name"
        return "it is not the beginning of an image name"
    return ""


def applied(location: str, scope: str, name: str) -> str:
    """Why the image `name` gives no name at `location`, which stands in place of `scope`; empty if it does."""
    try:
        canonical(location.rstrip("/") + name[prefix_length(name, scope) :])
    except InputRejected as error:
        return error.what
    return ""


def _mirrors(path: str, lines: Lines, index: int, registry: Registry, scope: str) -> Iterator[Problem]:
    """Each mirror, and the location where it is another than the scope."""
    for number, mirror in enumerate(registry.mirrors):
        line = line_of(lines, ("registry", index, "mirror", number, "location"))
        yield from _place(path, line, scope, f"the mirror {mirror.location}", mirror.location)
        if mirror.location.rstrip("/") == (registry.location.rstrip("/") or scope):
            message = f"the mirror {mirror.location} is the source itself, which is tried last anyway"
            yield fault("mirror-is-source", path, line, message, "remove the mirror")
    location = registry.location.rstrip("/")
    if location not in ("", scope):
        line = line_of(lines, ("registry", index, "location"))
        yield from _place(path, line, scope, f"the location {location}", location)


def _place(path: str, line: int, scope: str, what: str, location: str) -> Iterator[Problem]:
    inside = f"x{scope[1:]}" if is_wildcard(scope) else scope
    broken = applied(location, scope, f"{inside}/x/y")
    if broken:
        message = f"{what} gives no image name ({broken}): every pull through this table fails"
        yield fault("mirror-malformed", path, line, message, "write HOST[:PORT][/PATH] in lower case, without a tag")
        return
    if "/" in inside and applied(location, scope, inside):
        message = f"{what} gives no name for an image named exactly {scope}: its pull fails"
        remedy = f"write a repository behind the host, such as {location.rstrip('/')}/{inside.rpartition('/')[2]}"
        yield fault("mirror-rewrite", path, line, message, remedy)
    elif applied(location, scope, f"{inside}/x"):
        message = f"{what} gives no name for images of one path component, such as {inside}/x: their pull fails"
        yield fault(
            "mirror-rewrite", path, line, message, "write a namespace behind the host, such as docker.io/library"
        )
