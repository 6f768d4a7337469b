"""What the OpenShift API server says of importing an image: allowedRegistriesForImport of the Image, and blocked hosts.

It decides about `oc import-image`, and about image streams that name an image elsewhere; nodes never read the list.
Source: openshift-apiserver pkg/image/apis/image/validation/whitelist/whitelister.go,
pkg/image/apiserver/registry/imagestreamimport (strategy.go, rest.go), pkg/image/apiserver/importer/importer.go;
library-go pkg/image/reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from reconciler.errors import InputRejected
from reconciler.registries.inputs import Inputs
from reconciler.registries.model import Origin, Resource
from reconciler.registries.references import is_short, parse
from reconciler.registries.warnings import INTERNAL_REGISTRY

Verdict = Literal["allowed", "forbidden", "cannot tell"]

FIELD = "spec.allowedRegistriesForImport"
NOTE = "users who may create images or imagestreammappings are not held to the list; on nodes it has no effect"
_HUB, _OLD_HUB, _HUB_HOST = "docker.io", "index.docker.io", "registry-1.docker.io"


class ImportAnswer(NamedTuple):
    """The answer for one name.

    `registry` is the HOST:PORT that is looked for in the list, `origin` the field that decides. `insecure` is the
    verdict with importPolicy.insecure, which asks for port 80 instead of 443 where the name has none.
    """

    reference: str
    verdict: Verdict
    reason: str
    registry: str = ""
    origin: Origin | None = None
    insecure: Verdict | None = None
    changes: tuple[str, ...] = ()


class _Rule(NamedTuple):
    """Globs (`*`, `?`) for host and port; `field` is the entry's, empty for what is allowed without one."""

    field: str
    host: str
    port: str


def explain_import(inputs: Inputs, reference: str) -> ImportAnswer:
    """What is said of an import of `reference` where these resources are in force. Never raises."""
    try:
        name = parse(reference).name
    except InputRejected as error:
        return ImportAnswer(reference, "forbidden", error.what, changes=("write HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]",))
    written = "" if is_short(name) else name.partition("/")[0]
    # The API server turns docker.io, where it is written, into the host behind it; a short name stays of docker.io.
    asked = _HUB_HOST if written in (_HUB, _OLD_HUB) else written or _HUB
    answer = _listed(inputs.image, reference, written or _HUB, asked)
    return _unless_blocked(inputs, answer, written or _HUB) if answer.verdict == "allowed" else answer


def _listed(image: Resource | None, reference: str, host: str, asked: str) -> ImportAnswer:
    """What the list says of `host`, which is looked for as `asked`."""
    spec = (image.document.get("spec") if image else None) or {}
    entries: Sequence[Mapping[str, Any]] = spec.get("allowedRegistriesForImport") or ()
    registry = ":".join(_host_and_port(asked, insecure=False))
    if image is None or not entries:
        return ImportAnswer(reference, "allowed", f"{FIELD} is empty: all are allowed", registry, insecure="allowed")
    try:
        rules = list(_rules(entries))
    except InputRejected as error:
        origin = Origin(image.identity, error.where)
        return ImportAnswer(reference, "cannot tell", error.what, registry, origin, "cannot tell", (error.remedy,))
    found = _first(rules, *_host_and_port(asked, insecure=False))
    insecure = _first(rules, *_host_and_port(asked, insecure=True))
    other: Verdict = "allowed" if insecure else "forbidden"
    if found is None:
        changes = ["import with importPolicy.insecure: an entry is for port 80"] if insecure else []
        changes.append(f"add {host} to {FIELD} of {image.identity}")
        reason, origin = f"no entry of {FIELD} is for {registry}", Origin(image.identity, FIELD)
        return ImportAnswer(reference, "forbidden", reason, registry, origin, other, tuple(changes))
    if not found.field:
        return ImportAnswer(reference, "allowed", "the cluster's own registry always is", registry, insecure=other)
    reason = f"{found.host}:{found.port} of {FIELD} is for {registry}"
    return ImportAnswer(reference, "allowed", reason, registry, Origin(image.identity, found.field), other)


def _unless_blocked(inputs: Inputs, answer: ImportAnswer, host: str) -> ImportAnswer:
    """The importer refuses a host that stands in blockedRegistries just so, unless the host has mirrors."""
    entry = next((entry for entry in inputs.blocked or () if entry.text == host), None)
    if entry is None or any(row.source.text == host for row in inputs.rows):
        return answer
    change = f"remove {host} from spec.registrySources.blockedRegistries of {entry.resource.identity}"
    reason = f"{host} is blocked, and so the importer refuses it"
    return answer._replace(
        verdict="forbidden", insecure="forbidden", reason=reason, origin=entry.origin, changes=(change,)
    )


def _rules(entries: Sequence[Mapping[str, Any]]) -> Iterator[_Rule]:
    """The cluster's own registry, then the entries; one without port is for that of its transport.

    Raises InputRejected, with the field as `where`, for an entry that keeps the API server from using the list.
    """
    yield _Rule("", *INTERNAL_REGISTRY.split(":"))
    for index, entry in enumerate(entries):
        host, *ports = str(entry.get("domainName") or "").split(":")
        field = f"{FIELD}[{index}]"
        if len(ports) > 1:
            what = f"{entry['domainName']} has several colons: the API server cannot start with this list"
            raise InputRejected(what, where=field, remedy=f"write HOST or HOST:PORT in {field}")
        yield _Rule(field, host, ports[0] if ports else "80" if entry.get("insecure") else "443")


def _host_and_port(host: str, *, insecure: bool) -> tuple[str, str]:
    name, _, port = host.partition(":")
    return name, port or ("80" if insecure else "443")


def _first(rules: Sequence[_Rule], host: str, port: str) -> _Rule | None:
    """The first entry that is for the registry; one for docker.io is for the hosts behind it, too."""
    hosts = (_HUB, host) if host in (_OLD_HUB, _HUB_HOST) else (host,)
    fits = (rule for one in hosts for rule in rules if _fits(one, rule.host) and _fits(port, rule.port))
    return next(fits, None)


def _fits(text: str, glob: str) -> bool:
    return fnmatchcase(text, glob.replace("[", "[[]"))
