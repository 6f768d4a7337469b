"""How a container runtime treats an image name under given files: what it pulls from, in which order, and whether.

Source: containers/image v5.35.0 (pkg/shortnames, pkg/sysregistriesv2, docker/policyconfiguration). Short names are
resolved as with short-name mode `disabled`, which is how CRI-O asks: every search registry in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from reconciler.errors import InputRejected
from reconciler.registries.references import Reference, canonical, is_short, normalize, parse
from reconciler.registries.registries_file import Mirror, Registry
from reconciler.registries.runtime_config import RuntimeConfig
from reconciler.registries.scopes import is_wildcard, prefix_length
from reconciler.registries.signature_policy import Policy

Verdict = Literal["pull", "pull_if_signed", "rejected_by_policy", "blocked", "error"]


class PullSource(NamedTuple):
    """A place that the runtime tries. `insecure`: TLS is not verified, plain HTTP is allowed."""

    reference: str
    mirror: bool = False
    insecure: bool = False
    blocked: bool = False


class Candidate(NamedTuple):
    """A full name that is tried. `registry_prefix` is the scope of its table ("" without one).

    `policy` holds requirement types joined by `+`, `policy_scope` is `docker:SCOPE` or `default`.
    """

    reference: str
    registry_prefix: str
    sources: tuple[PullSource, ...]
    sources_error: str
    policy: str
    policy_scope: str
    decision: Verdict


class Resolution(NamedTuple):
    """The answer for one name: its candidates in the order tried, or why it cannot be used at all."""

    reference: str
    candidates: tuple[Candidate, ...] = ()
    error: str = ""

    @property
    def pullable(self) -> bool:
        """Whether some candidate may be pulled (where signatures are asked for: if it is signed)."""
        return any(candidate.decision in ("pull", "pull_if_signed") for candidate in self.candidates)


def resolve(config: RuntimeConfig, text: str, namespace: str | None = None) -> Resolution:
    """What happens when a pod of `namespace` asks for the image `text`. Never raises for any text."""
    policy = config.policy(namespace)
    if config.registries_error or isinstance(policy, str):
        return Resolution(text, error=config.registries_error or str(policy))
    try:
        names = tuple(_full_names(config, text))
    except InputRejected as error:
        return Resolution(text, error=error.what)
    return Resolution(text, tuple(_candidate(config, policy, name) for name in names))


def _full_names(config: RuntimeConfig, text: str) -> Iterator[Reference]:
    """The name itself with its host, or for a short name its alias, or each search registry's name for it."""
    written = parse(text)
    if not is_short(written.name):
        docker = written.name.startswith(("docker.io/", "index.docker.io/"))
        yield _pullable(normalize(text) if docker else written)
        return
    alias = config.aliases.get(written.name)
    if alias:
        yield _pullable(Reference(alias, written.tag, written.digest))
        return
    # An alias that is switched off counts as none here.
    if not config.search:
        raise InputRejected("a short name without alias, and there are no unqualified-search registries")
    for registry in config.search:
        yield _pullable(normalize(f"{registry}/{text}"))


def _pullable(name: Reference) -> Reference:
    """With `:latest` where nothing is said; CRI-O and Podman drop the tag where a digest stands too."""
    if name.digest:
        return Reference(name.name, digest=name.digest) if name.tag else name
    return name if name.tag else Reference(name.name, tag="latest")


def _candidate(config: RuntimeConfig, policy: Policy, name: Reference) -> Candidate:
    registry = config.find(name.name)
    error = ""
    sources: tuple[PullSource, ...] = ()
    if registry is None:
        sources = (PullSource(str(name)),)
    else:
        try:
            sources = tuple(_sources(config, registry, name))
        except InputRejected as problem:
            error = f"rewriting reference: {problem.what}"
    requirements, scope = policy.requirements(name)
    return Candidate(
        reference=str(name),
        registry_prefix=registry.prefix if registry else "",
        sources=sources,
        sources_error=error,
        policy="+".join(requirements),
        policy_scope="default" if scope is None else f"docker:{scope}",
        decision="error" if error else _decision(sources, requirements),
    )


def _sources(config: RuntimeConfig, registry: Registry, name: Reference) -> Iterator[PullSource]:
    """The mirrors that fit, then the location itself. One name that cannot be rewritten fails the pull.

    A source is refused when the table for its own name is blocked; that table's other flags do not count.
    """
    kept = name.name[prefix_length(name.name, registry.prefix) :] + name.suffix
    for mirror in registry.mirrors:
        if serves(registry, mirror, name):
            yield _source(config, canonical(mirror.location + kept), mirror=True, insecure=mirror.insecure)
    location = registry.location
    if not location or (location == registry.prefix and not is_wildcard(location)):
        # The name stays as it is, and so does its table.
        yield PullSource(str(name), insecure=registry.insecure, blocked=registry.blocked)
    else:
        own = canonical(location + kept)
        yield _source(config, own, mirror=False, insecure=registry.insecure)


def serves(registry: Registry, mirror: Mirror, name: Reference) -> bool:
    """Whether the mirror is for names of this form: by digest, by tag, or all."""
    wanted = mirror.pull_from_mirror or ("digest-only" if registry.mirror_by_digest_only else "all")
    return wanted == "all" or (wanted == "digest-only") == bool(name.digest)


def _source(config: RuntimeConfig, name: Reference, *, mirror: bool, insecure: bool) -> PullSource:
    table = config.find(name.name)
    return PullSource(str(name), mirror, insecure, blocked=table is not None and table.blocked)


def _decision(sources: tuple[PullSource, ...], requirements: tuple[str, ...]) -> Verdict:
    if all(source.blocked for source in sources):
        return "blocked"
    if "reject" in requirements:
        return "rejected_by_policy"
    signed = any(requirement != "insecureAcceptAnything" for requirement in requirements)
    return "pull_if_signed" if signed else "pull"
