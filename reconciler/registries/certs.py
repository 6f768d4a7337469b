"""CA certificates of registries: the ConfigMap that `additionalTrustedCA` names, and /etc/docker/certs.d.

Placement follows the Machine Config Operator (pkg/operator/sync.go, pkg/daemon/certificate_writer.go). What
goes into a certificate file is checked here, which MCO does not do: it writes whatever it is given, and the
runtime then skips it in silence ("x509: certificate signed by unknown authority").
"""

from __future__ import annotations

import base64
import binascii
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from reconciler.registries.model import CERTS_D, Document, Location, NodeFile, Origin, Problem, Resource

CA_NAMESPACE = "openshift-config"
"""Where the user's ConfigMap lives; a ConfigMap without a namespace is taken to be here."""
MANAGED_NAMESPACE, MANAGED_NAME = "openshift-config-managed", "image-registry-ca"
"""The ConfigMap that OpenShift's image registry operator writes for the internal registry."""
EXPIRY_NOTICE = timedelta(days=30)
EXPIRED = "expired on"
"""Stands in the message of `ca-expires` when the certificate has no day left."""

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_KEY = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*)(?:\.\.(?P<port>[0-9]{{1,5}}))?")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY")
_BEGIN = "-----BEGIN "
_BLOCK = re.compile(r"-----BEGIN (?P<label>[A-Z0-9 ]+)-----[^-]*-----END (?P=label)-----")

_SHOW_PEM = "paste the PEM text as it is: -----BEGIN CERTIFICATE----- … -----END CERTIFICATE-----"


def check_config_map(document: Document, now: datetime | None) -> tuple[Problem, ...]:
    """Every problem of a CA ConfigMap: keys, values, and the certificates in them.

    Errors: `cert-key-colon`, `cert-key`, `duplicate`, `type`, `not-base64`, `not-pem`, `private-key`.
    Warnings: `ca-not-ca`, and `ca-expires` for a certificate that ends within 30 days of `now` (None: not
    asked). `data` is never decoded as base64 (MCO guesses), `binaryData` always, as Kubernetes defines it.
    No message holds any part of a value.
    """
    problems = list(_private_keys_elsewhere(document))
    for part in ("data", "binaryData"):
        values = document.value.get(part)
        if values is None:
            continue
        if not isinstance(values, Mapping):
            problems.append(_problem(document, part, "type", "must be a mapping of host[..port] to certificates"))
            continue
        for key, value in values.items():
            if _PRIVATE_KEY.search(str(key)):
                problems.append(_private_key(document, part))
                continue
            problems += _check_entry(document, part, str(key), value, now)
    return tuple(problems)


def cert_files(
    image: Resource | None, config_maps: Sequence[Resource]
) -> tuple[tuple[NodeFile, ...], tuple[Problem, ...]]:
    """The files below /etc/docker/certs.d, sorted by path, for an Image and validated ConfigMaps.

    A key becomes /etc/docker/certs.d/KEY/ca.crt with every `..` read as `:`; the value is written whole (a
    chain stays a chain) and unchanged. Internal registry CAs (`image-registry-ca`) count when given; the
    user's entry of the same key wins. A named ConfigMap that is not there is the error `dangling-trusted-ca`:
    in MCO it silently takes every user CA off the nodes.
    """
    managed, named = _chosen(image, config_maps)
    name = _trusted_ca(image)
    problems = (_dangling(image, name),) if image is not None and name and not named else ()
    files = {file.path: file for config_map in [*managed, *named] for file in _files_of(config_map)}
    return tuple(files[path] for path in sorted(files)), problems


def expiring(image: Resource | None, config_maps: Sequence[Resource], now: datetime) -> Iterator[Problem]:
    """`ca-expires` of the certificates that nodes get, by the clock of whoever asks.

    A commit is judged by its own time, and stays in force long after.
    """
    for config_map in (cm for found in _chosen(image, config_maps) for cm in found):
        document = Document(config_map.document, config_map.location, config_map.lines, config_map.text)
        yield from (problem for problem in check_config_map(document, now) if problem.name == "ca-expires")


def _chosen(image: Resource | None, config_maps: Sequence[Resource]) -> tuple[list[Resource], list[Resource]]:
    """The internal registry's ConfigMap, and the one that the Image names."""
    name = _trusted_ca(image)
    managed = [cm for cm in config_maps if (_namespace(cm), cm.name) == (MANAGED_NAMESPACE, MANAGED_NAME)]
    return managed, [cm for cm in config_maps if name and _namespace(cm) == CA_NAMESPACE and cm.name == name]


def _files_of(config_map: Resource) -> Iterator[NodeFile]:
    """`data` before `binaryData`, as MCO (a key in both is refused by `check_config_map`)."""
    for part in ("data", "binaryData"):
        for key, value in (config_map.document.get(part) or {}).items():
            content = base64.b64decode(value) if part == "binaryData" else value.encode()
            origins = {"": (Origin(config_map.identity, f"{part}[{key}]"),)}
            yield NodeFile(f"{CERTS_D}/{key.replace('..', ':')}/ca.crt", content, 0o644, origins)


def _namespace(config_map: Resource) -> str:
    metadata = config_map.document.get("metadata") or {}
    return str(metadata.get("namespace") or CA_NAMESPACE)


def _trusted_ca(image: Resource | None) -> str:
    spec = (image.document.get("spec") if image else None) or {}
    return str((spec.get("additionalTrustedCA") or {}).get("name") or "")


def _dangling(image: Resource, name: str) -> Problem:
    field = "spec.additionalTrustedCA.name"
    return Problem(
        name="dangling-trusted-ca",
        message=f"names ConfigMap {name!r}, which is not there",
        location=Location(image.location.file, image.lines.get(field, image.location.line)),
        object=image.identity,
        field=field,
        remedy=f"add ConfigMap {name!r} (namespace {CA_NAMESPACE}), or remove additionalTrustedCA",
    )


def _problem(document: Document, field: str, name: str, message: str, remedy: str = "") -> Problem:
    doubtful = name in ("ca-not-ca", "ca-expires")
    path = field[:-1].replace("[", ".", 1) if field.endswith("]") else field  # as `Document.lines` has it
    return Problem(
        name, message, document.at(path), document.identity, field, remedy, "warning" if doubtful else "error"
    )


def _check_entry(document: Document, part: str, key: str, value: Any, now: datetime | None) -> Iterator[Problem]:
    field = f"{part}[{key}]"
    yield from _check_key(document, part, key, field)
    if not isinstance(value, str):
        yield _problem(document, field, "type", "must be a string", _SHOW_PEM)
        return
    text = value
    if part == "binaryData":
        decoded = _kubernetes_base64(value)
        if decoded is None:
            yield _problem(document, field, "not-base64", "is not base64", "put PEM text into data instead")
            return
        text = decoded.decode("latin-1")
    if _PRIVATE_KEY.search(text):
        yield _private_key(document, field)
        return
    yield from _check_pem(document, field, text, now)


def _check_key(document: Document, part: str, key: str, field: str) -> Iterator[Problem]:
    found = _KEY.fullmatch(key)
    if ":" in key:
        remedy = f"write {key.replace(':', '..')!r}: a ConfigMap key cannot hold a colon"
        yield _problem(document, field, "cert-key-colon", "the port stands after '..', not ':'", remedy)
    elif not found or (found["port"] and not 0 < int(found["port"]) < 65536):
        remedy = "name the registry as in image names: registry.example.com or registry.example.com..5000"
        yield _problem(document, field, "cert-key", "the key is not host[..port]", remedy)
    if part == "binaryData" and key in _mapping(document.value.get("data")):
        yield _problem(document, field, "duplicate", "the key stands in data too", "keep one of the two")


def _private_keys_elsewhere(document: Document) -> Iterator[Problem]:
    """A private key outside the values, as in kubectl's last-applied-configuration annotation."""
    for field, value in document.value.items():
        if field not in ("data", "binaryData") and _PRIVATE_KEY.search(repr(value)):
            yield _private_key(document, str(field))


def _private_key(document: Document, field: str) -> Problem:
    remedy = "remove it from the repository and its history, and replace the key: it must count as known"
    return _problem(document, field, "private-key", "holds a private key; only certificates belong here", remedy)


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _kubernetes_base64(value: str) -> bytes | None:
    """Standard base64 with padding; line breaks are skipped, as Go's decoder does."""
    try:
        return base64.b64decode(value.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError):
        return None


def _check_pem(document: Document, field: str, text: str, now: datetime | None) -> Iterator[Problem]:
    """Go's AppendCertsFromPEM skips what it cannot use without a word; here each such block is an error."""
    blocks = list(_BLOCK.finditer(text))
    if not blocks or not _is_unicode(text):
        yield _problem(document, field, "not-pem", "holds no PEM certificate", _SHOW_PEM)
        return
    if len(blocks) != text.count(_BEGIN):
        yield _problem(document, field, "not-pem", "holds a PEM block without its end", _SHOW_PEM)
    for number, block in enumerate(blocks, start=1):
        which = f"certificate {number} of {len(blocks)}"
        if block["label"] != "CERTIFICATE":
            message = f"block {number} of {len(blocks)} is no CERTIFICATE; the runtime skips it"
            yield _problem(document, field, "not-pem", message, "keep only certificates")
            continue
        certificate = _parsed(block[0])
        if certificate is None:
            yield _problem(document, field, "not-pem", f"{which} cannot be parsed as X.509", _SHOW_PEM)
        else:
            yield from _check_certificate(document, field, which, certificate, now)


def _is_unicode(text: str) -> bool:
    """YAML escapes can make lone surrogates, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parsed(pem: str) -> x509.Certificate | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old CAs break rules that the runtime does not mind
            return x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, x509.InvalidVersion):
        return None


def _check_certificate(
    document: Document, field: str, which: str, certificate: x509.Certificate, now: datetime | None
) -> Iterator[Problem]:
    if not _may_sign(certificate):
        remedy = "give the certificate of the authority that signed the registry's certificate"
        yield _problem(document, field, "ca-not-ca", f"{which} is not a CA certificate", remedy)
    if now is None:
        return
    end = certificate.not_valid_after_utc
    if end - now < EXPIRY_NOTICE:
        message = f"{which} {EXPIRED if end < now else 'expires on'} {end:%Y-%m-%d}"
        yield _problem(document, field, "ca-expires", message, "add its successor beside it in time")


def _may_sign(certificate: x509.Certificate) -> bool:
    """Go's rule (crypto/x509, isValid): basic constraints say CA, or version 1, which has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return certificate.version is x509.Version.v1
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False
    return constraints.value.ca
