"""One requirement of policy.json, checked as strictly as the runtime does: a single fault makes the file useless.

Source: containers/image v5.37 signature/policy_config.go and policy_config_sigstore.go.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.errors import InputRejected
from reconciler.registries.references import DOMAIN, normalize, parse

_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki")
_REKOR = ("rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "insecureAcceptAnything": (),
    "reject": (),
    "signedBy": ("keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"),
    "signedBaseLayer": ("baseLayerIdentity",),
    "sigstoreSigned": (*_KEYS, *_REKOR, "signedIdentity"),
}
"""Requirement types and the fields that each may have besides `type`."""
_KEY_TYPES = ("GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs")
_FULCIO = ("caPath", "caData", "oidcIssuer", "subjectEmail")
_PKI = (
    *("caRootsPath", "caRootsData", "caIntermediatesPath", "caIntermediatesData"),
    *("subjectEmail", "subjectHostname"),
)
_IDENTITIES: Mapping[str, tuple[str, ...]] = {
    "matchExact": (),
    "matchRepoDigestOrExact": (),
    "matchRepository": (),
    "exactReference": ("dockerReference",),
    "exactRepository": ("dockerRepository",),
    "remapIdentity": ("prefix", "signedPrefix"),
}
"""Types of signedIdentity and the fields that each must have besides `type`."""


def requirement_type(value: Any, where: str) -> str:
    """The type of a requirement that the runtime loads. Raises InputRejected; the text begins with `where`."""
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise InputRejected(f"{where}: Unknown policy requirement type {kind!r}")
    check_object(value, ("type", *_FIELDS[kind]), where)
    if kind == "signedBy":
        _check_signed_by(value, where)
    if kind == "sigstoreSigned":
        _check_sigstore(value, where)
    if kind == "signedBaseLayer" and "baseLayerIdentity" not in value:
        raise InputRejected(f"{where}: baseLayerIdentity not specified")
    for name in ("signedIdentity", "baseLayerIdentity"):
        if name in value:
            _check_identity(value[name], f"{where}: {name}")
    return kind


def check_object(value: Any, fields: tuple[str, ...], what: str) -> None:
    """Raises InputRejected unless `value` is an object with none but these fields."""
    if not isinstance(value, dict):
        raise InputRejected(f"{what} must be an object")
    unknown = [key for key in value if key not in fields]
    if unknown:
        raise InputRejected(f"Unknown key {unknown[0]!r} in {what}")


def _check_signed_by(value: Mapping[str, Any], where: str) -> None:
    if value.get("keyType") not in _KEY_TYPES:
        raise InputRejected(f"{where}: invalid keyType")
    if len(_given(value, _KEYS, where)) != 1 or sum(key in value for key in _KEYS) != 1:
        raise InputRejected(f"{where}: exactly one of keyPath, keyPaths and keyData must be specified")


def _check_sigstore(value: Mapping[str, Any], where: str) -> None:
    keys, rekor = _given(value, _KEYS[:4], where), _given(value, _REKOR, where)
    for name in (*_KEYS, *_REKOR):
        if name in value and name.endswith("s") and not value[name]:
            raise InputRejected(f"{where}: {name} contains no entries")
    keys += [name for name in ("fulcio", "pki") if name in value]
    if len(keys) != 1:
        raise InputRejected(f"{where}: exactly one of {', '.join(_KEYS)} must be specified")
    if len(rekor) > 1:
        raise InputRejected(f"{where}: at most one of {', '.join(_REKOR)} can be used")
    if keys == ["fulcio"]:
        _check_fulcio(value["fulcio"], rekor, where)
    if keys == ["pki"]:
        _check_pki(value["pki"], rekor, where)


def _check_fulcio(value: Any, rekor: Sequence[str], where: str) -> None:
    check_object(value, _FULCIO, f"{where}: fulcio")
    if len(_given(value, _FULCIO[:2], where)) != 1:
        raise InputRejected(f"{where}: fulcio needs one of caPath and caData")
    if len(_given(value, _FULCIO[2:], where)) != 2:
        raise InputRejected(f"{where}: fulcio needs oidcIssuer and subjectEmail")
    if not rekor:
        raise InputRejected(f"{where}: fulcio needs one of {', '.join(_REKOR)}")


def _check_pki(value: Any, rekor: Sequence[str], where: str) -> None:
    check_object(value, _PKI, f"{where}: pki")
    if len(_given(value, _PKI[:2], where)) != 1:
        raise InputRejected(f"{where}: pki needs one of caRootsPath and caRootsData")
    if len(_given(value, _PKI[2:4], where)) > 1:
        raise InputRejected(f"{where}: pki can have one of caIntermediatesPath and caIntermediatesData")
    if not _given(value, _PKI[4:], where):
        raise InputRejected(f"{where}: pki needs one of subjectEmail and subjectHostname")
    if rekor:
        raise InputRejected(f"{where}: {rekor[0]} is not supported for pki")


def _given(value: Mapping[str, Any], names: Sequence[str], where: str) -> list[str]:
    """Those of the fields that say something, which null does not, nor an empty text other than data."""
    present = [name for name in names if value.get(name) is not None]
    for name in present:
        items = value[name] if name.endswith("s") else [value[name]]
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise InputRejected(f"{where}: {name} must be {'a list of strings' if name.endswith('s') else 'a string'}")
        if name.endswith(("Data", "Datas")) and not all(map(_is_base64, items)):
            raise InputRejected(f"{where}: {name} is not base64")
    return [name for name in present if value[name] != "" or name.endswith("Data")]


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(re.sub("[\r\n]", "", text), validate=True)
    except (ValueError, binascii.Error):
        return False
    return True


def _check_identity(value: Any, where: str) -> None:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _IDENTITIES:
        raise InputRejected(f"{where}: Unknown policy reference match type {kind!r}")
    fields = _IDENTITIES[kind]
    check_object(value, ("type", *fields), where)
    for name in fields:
        text = value.get(name)
        if not isinstance(text, str):
            raise InputRejected(f"{where}: Key {name!r} missing")
        if not _fits(kind, text):
            raise InputRejected(f"{where}: {name} {text!r} is not valid")


def _fits(kind: str, text: str) -> bool:
    """exactReference: with tag or digest; exactRepository: any image name; remapIdentity: host, or host and path."""
    try:
        if kind != "remapIdentity":
            name = normalize(text)
            return kind == "exactRepository" or bool(name.suffix)
        host, slash, _ = text.partition("/")
        return DOMAIN.fullmatch(host) is not None and (not slash or parse(text).name == text)
    except InputRejected:
        return False
