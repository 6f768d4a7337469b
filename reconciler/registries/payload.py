"""Protection of the OpenShift payload: a block must not keep nodes from pulling the release image.

Source: machine-config-operator helpers.go `getValidBlockedAndAllowedRegistries`.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.errors import InputRejected
from reconciler.registries import mirrors, references, runtime_config, scopes, toml_files
from reconciler.registries.inputs import Entry, Inputs
from reconciler.registries.model import REGISTRIES_CONF, Problem
from reconciler.registries.registries_conf import PULL_FROM, Tables, edit
from reconciler.registries.registries_file import Registry


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists that are really rendered. None: not set, empty counts as set (MCO tells nil from empty)."""

    blocked: tuple[Entry, ...] | None = None
    policy_blocked: tuple[Entry, ...] | None = None
    allowed: tuple[Entry, ...] | None = None
    payload: str = ""


def protect(inputs: Inputs, release_image: str | None) -> tuple[Lists, list[Problem]]:
    """The lists with the payload's repository kept pullable.

    Problems: `release-image` (error), the release image is not a full reference; `payload-not-blocked`
    (warning), an entry is left out because the payload has no unblocked mirror. An entry that covers the
    payload and can be mirrored around is kept, and the payload's repository is allowed by policy.
    """
    allowed, blocked = inputs.allowed or (), inputs.blocked or ()
    if release_image is None or inputs.image is None:
        return Lists(blocked or None, blocked or None, allowed or None), []
    try:
        release = references.canonical(release_image)
    except InputRejected as error:
        remedy = "set releaseImage of the NodePool to a full reference, HOST/REPOSITORY@sha256:…"
        return Lists(), [Problem("release-image", f"{release_image!r} cannot be used: {error.what}", remedy=remedy)]
    kept, in_policy, added = [], [], []
    problems: list[Problem] = []
    for entry in blocked:
        if not scopes.nested(release.name, entry.text):
            kept.append(entry)
            in_policy.append(entry)
            continue
        usable = _has_unblocked_source(inputs, release)
        if usable is None:
            return Lists(payload=release.name), []
        if not usable:
            problems.append(_not_blocked(entry, release.name))
            continue
        kept.append(entry)
        if entry.text != release.name:
            in_policy.append(entry)
        added.append(Entry(release.name, entry.resource, entry.field))
    return Lists(tuple(kept) or None, tuple(in_policy) or None, (*added, *allowed) or None, release.name), problems


def _not_blocked(entry: Entry, payload: str) -> Problem:
    return Problem(
        "payload-not-blocked",
        f"{entry.text} is not blocked: the release image {payload} comes from it and has no unblocked mirror",
        entry.resource.at(entry.field),
        entry.resource.identity,
        entry.field,
        "mirror the release repository with an ImageDigestMirrorSet, or remove the entry",
        "warning",
    )


def _has_unblocked_source(inputs: Inputs, release: references.Reference) -> bool | None:
    """Whether a source of the release image lies outside every blocked entry; None when MCO cannot tell.

    MCO writes a registries.conf of the insecure and blocked lists and the digest mirrors, and asks
    containers/image for the sources; where that fails it logs the reason and drops every list.
    """
    blocked = inputs.blocked or ()
    digest_sets = mirrors.merge(row for row in inputs.rows if not row.by_tag)
    tables = Tables()
    if edit(tables, inputs.insecure or (), blocked, digest_sets):
        return None
    config = runtime_config.load({REGISTRIES_CONF: toml_files.write_registries("", {}, tables.all, PULL_FROM)})
    registry = config.find(release.name)
    names = pull_names(registry, release) if registry else None
    if names is None:
        return None
    entries = {entry.text for entry in blocked}
    return any(scopes.covered(name, entries) is None for name in names)


def pull_names(registry: Registry, reference: references.Reference) -> list[str] | None:
    """The repositories asked for `reference`, in order; None when a mirror cannot be applied to it.

    Source: containers/image `PullSourcesFromReference`.
    """
    unwanted = "tag-only" if reference.digest else "digest-only"
    usable = () if registry.mirror_by_digest_only and not reference.digest else registry.mirrors
    locations = [mirror.location for mirror in usable if mirror.pull_from_mirror != unwanted]
    length = scopes.prefix_length(str(reference), registry.prefix)
    names: list[str] = []
    for location in [*locations, registry.location]:
        if not location:
            names.append(reference.name)  # a wildcard without location leaves the name as it is
            continue
        try:
            names.append(references.canonical(location + str(reference)[length:]).name)
        except InputRejected:
            return None
    return names
