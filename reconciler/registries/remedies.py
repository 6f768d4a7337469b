"""What would have to change so that an image can be pulled, in words: per resource field, or per line of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reconciler.registries.evidence import Evidence, Place
from reconciler.registries.model import Origin
from reconciler.registries.references import Reference
from reconciler.registries.runtime_config import RuntimeConfig


class Remedies(NamedTuple):
    """Says them for one configuration; each method is about one kind of refusal."""

    config: RuntimeConfig
    evidence: Evidence

    def no_search(self) -> Iterator[str]:
        """For a short name that no search registry serves."""
        if self.evidence.rendered:
            yield "or list the registries to search in spec.registrySources.containerRuntimeSearchRegistries"
        else:
            yield f"or set unqualified-search-registries in {self.evidence.search().file}"

    def other_form(self, name: Reference) -> str:
        """For mirrors that are not for this form of name."""
        if name.digest:
            return "pull by tag: the mirrors are tag-only; or mirror the source with an ImageDigestMirrorSet"
        return "pull by digest: the mirrors are digest-only; or mirror the source with an ImageTagMirrorSet"

    def blocked(self, place: Place | None) -> Iterator[str]:
        """For a table that is blocked."""
        if place is None:
            return
        scope = place.what.removeprefix("[[registry]] ")
        for origin in place.origins:
            if "Mirrors" in origin.field:
                yield f"set mirrorSourcePolicy: AllowContactingSource in {origin.field} of {origin.resource}"
            else:
                yield self._remove(place, origin, scope)
        if not place.origins:
            yield f"remove blocked = true from {place.what} at {place.file}:{place.line}"

    def rejected(self, place: Place, name: Reference, policy_scope: str) -> Iterator[str]:
        """For a policy that rejects, by a scope or by its default."""
        if policy_scope == "default":
            yield from self._allow(place, name)
            return
        scope = policy_scope.removeprefix("docker:")
        if place.origins:
            yield from (self._remove(place, origin, scope) for origin in place.origins)
        else:
            yield f"remove the rejecting scope {scope!r} at {place.file}:{place.line}"

    def unusable(self, place: Place | None, written: str, mirror: bool) -> Iterator[str]:
        """For a location that gives no image name."""
        what = "mirror" if mirror else "location"
        where = f" at {place.file}:{place.line}" if place else ""
        if place and place.origins:
            where = f" at {place.origins[0].field} of {place.origins[0].resource}"
        yield f"give the {what}{where} a repository path: as it is, the name becomes {written}"

    def _allow(self, place: Place, name: Reference) -> Iterator[str]:
        host, colon, _ = name.name.partition("/")[0].partition(":")
        policy = self.config.policies.get(place.file)
        near = bool(colon) and policy is not None and not isinstance(policy, str) and host in policy.scopes
        note = f" ({host} does not cover {name.name.partition('/')[0]})" if near else ""
        if place.origins:
            origin = place.origins[0]
            yield f"add {name.name} to {origin.field} of {origin.resource}{note}"
        else:
            scope = f"the docker scope {name.name!r} with insecureAcceptAnything"
            yield f"add {scope} to {place.file}{note}"

    def _remove(self, place: Place, origin: Origin, scope: str) -> str:
        entry = self.evidence.entry_of(place._replace(origins=(origin,)), scope)
        return f"remove {entry} from {origin.field.partition('[')[0]} of {origin.resource}"
