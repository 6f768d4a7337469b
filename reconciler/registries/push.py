"""What a push of an image from a host would do, told from the host's files: they are made for pulls, and decide less.

Source: docs/reference/push.md, found out with skopeo and podman (containers/image 5.23). Of registries.conf the one
table for the name as written counts, by `blocked` and `insecure`; policy.json judges where the image comes from.
Nothing is contacted: whether the registry takes the push, and has a certificate that the host trusts, is never said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from reconciler.errors import InputRejected
from reconciler.registries.disruption import Files
from reconciler.registries.evidence import Evidence, Origins, Place
from reconciler.registries.model import CERTS_D
from reconciler.registries.references import Reference, is_short, normalize, parse
from reconciler.registries.registries_file import Registry
from reconciler.registries.remedies import Remedies
from reconciler.registries.runtime_config import ROOT_CONFIG, RuntimeConfig
from reconciler.registries.signature_policy import Policy

Verdict = Literal["pushable", "not pushable", "cannot tell"]
SourceVerdict = Literal["taken", "refused", "cannot tell"]

_SOURCES = {
    "containers-storage": "podman push, buildah push",
    "oci": "skopeo copy oci:…",
    "dir": "skopeo copy dir:…",
}
"""The transports that local images are pushed from, and by what; the first is that of a host's own images."""
_VERDICTS: Mapping[SourceVerdict, Verdict] = {
    "taken": "pushable",
    "refused": "not pushable",
    "cannot tell": "cannot tell",
}
"""Of a push, by that of its source, where the destination is open."""
_CERTIFICATES = (f"{ROOT_CONFIG}/certs.d", "/etc/containers/certs.d", CERTS_D)
"""Of these the first that has a directory for exactly the host and port counts."""


class PushSource(NamedTuple):
    """What the policy says of local images of one transport, wherever they go."""

    transport: str
    programs: str
    verdict: SourceVerdict
    reason: str
    place: Place


class PushAnswer(NamedTuple):
    """The answer for one name. `destination` is the full name, `place` decides; the verdict is that for podman.

    `insecure`: plain HTTP, and TLS with any certificate, are allowed. `certificates`: the files of certs.d that
    the registry's certificate is checked with, besides what the host trusts anyway.
    """

    reference: str
    destination: str
    verdict: Verdict
    reason: str
    place: Place | None
    insecure: bool = False
    certificates: tuple[str, ...] = ()
    sources: tuple[PushSource, ...] = ()
    changes: tuple[str, ...] = ()


def explain_pushes(
    config: RuntimeConfig, references: Iterable[str], files: Files, origins: Origins | None = None
) -> Iterator[PushAnswer]:
    """What becomes of pushes to these names from a host with `files`, which `config` was loaded from. Never raises."""
    explainer = _Explainer(config, files, Evidence(files, origins or {}))
    return (explainer.explain(reference) for reference in references)


class _Explainer:
    def __init__(self, config: RuntimeConfig, files: Files, evidence: Evidence) -> None:
        self.config = config
        self.files = files
        self.evidence = evidence
        self.remedies = Remedies(config, evidence)
        self.policy_path = config.policy_path()
        policy = config.policy()
        self.sources = () if isinstance(policy, str) else tuple(self._source(policy, name) for name in _SOURCES)

    def explain(self, reference: str) -> PushAnswer:
        error = self.config.registries_error or (self.config.policy() if not self.sources else "")
        if error:
            reason = f"{error}, so every push fails"
            place = self.evidence.fault(str(error))
            change = f"{'mend' if place else 'write'} {place.file if place else self.policy_path}"
            return PushAnswer(reference, reference, "not pushable", reason, place, changes=(change,))
        try:
            name = _destination(reference)
        except InputRejected as problem:
            change = "write HOST[:PORT]/REPOSITORY[:TAG]"
            return PushAnswer(reference, reference, "not pushable", problem.what, None, changes=(change,))
        return self._decided(reference, name, self.config.find(name.name))

    def _decided(self, reference: str, name: Reference, table: Registry | None) -> PushAnswer:
        local = self.sources[0]
        insecure = table is not None and table.insecure
        verdict, reason, place = _VERDICTS[local.verdict], local.reason, local.place
        changes = list(self._help(local))
        if table is not None and table.blocked:
            verdict, reason = "not pushable", f"the table for {table.prefix} is blocked"
            blocking = self.evidence.table(table.prefix, "blockedRegistries", "Mirrors")
            place = blocking or place
            changes = [*self.remedies.blocked(blocking), *changes]
        elif verdict == "pushable":
            reason = f"{reason}; {_contact(name, table)}"
            place = (insecure and table and self.evidence.table(table.prefix, "insecureRegistries")) or place
        certificates = () if insecure else tuple(self._certificates(name.name.partition("/")[0]))
        found = (insecure, certificates, self.sources, tuple(changes))
        return PushAnswer(reference, str(name), verdict, reason, place, *found)

    def _source(self, policy: Policy, transport: str) -> PushSource:
        """Where scopes name single places of the transport, it depends on where the image lies."""
        scopes = policy.transports.get(transport, {})
        asked = scopes.get("", policy.default)
        place = self.evidence.policy(self.policy_path, None, "allowedRegistries")
        if "" in scopes:
            place = self.evidence.whole_transport(self.policy_path, transport)
        verdict, reason = _judged(asked)
        if any(_judged(needs)[0] != verdict for scope, needs in scopes.items() if scope):
            verdict, reason = "cannot tell", f"{self.policy_path} has scopes for some places of {transport}"
        return PushSource(transport, _SOURCES[transport], verdict, reason, place)

    def _help(self, local: PushSource) -> Iterator[str]:
        if local.verdict == "refused":
            scope = f'a scope "" of transport {local.transport} with insecureAcceptAnything'
            yield f"write {scope} into {self.policy_path} on the host, which base: host keeps; no resource can say it"

    def _certificates(self, registry: str) -> Iterator[str]:
        for directory in _CERTIFICATES:
            inside = [path for path in sorted(self.files) if path.startswith(f"{directory}/{registry}/")]
            if inside:
                yield from (path for path in inside if path.endswith(".crt") and self.files[path] is not None)
                return


def _destination(text: str) -> Reference:
    """The name that is pushed to: search registries and aliases do not count."""
    written = parse(text)
    name = normalize(text) if is_short(written.name) or written.name.startswith("index.docker.io/") else written
    return name if name.tag or name.digest else name._replace(tag="latest")


def _judged(asked: tuple[str, ...]) -> tuple[SourceVerdict, str]:
    if "reject" in asked:
        return "refused", "every local image is rejected as a source, whatever registry it goes to"
    if any(need != "insecureAcceptAnything" for need in asked):
        return "cannot tell", f"a local image is taken as a source only if it is signed ({'+'.join(asked)})"
    return "taken", "local images are taken as a source"


def _contact(name: Reference, table: Registry | None) -> str:
    registry = name.name.partition("/")[0]
    if table is not None and table.insecure:
        how = "TLS with any certificate, or plain HTTP"
    else:
        how = "TLS with a certificate that the host trusts"
    mirrors = "; mirrors do not count" if table is not None and table.mirrors else ""
    return f"{registry} is contacted by {how}{mirrors}"
