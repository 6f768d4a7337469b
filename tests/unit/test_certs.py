"""CA ConfigMaps: what is said about them, where their certificates go, and that no key is ever shown."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from reconciler.registries.certs import cert_files, check_config_map
from reconciler.registries.model import Document, Location, Resource
from reconciler.registries.parse import parse_file
from reconciler.registries.validate import validate_document

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "certs" / "config_maps.yaml").read_text())
_VERSION_1 = """-----BEGIN CERTIFICATE-----
MIIBFzCBvQIUerzaByx83Jb+2mPwyrdVFH4HGnQwCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCdjEwIBcNMjYxMTIzMjI0ODExWhgPMjEyNjEwMzAyMjQ4MTFaMA0xCzAJ
BgNVBAMMAnYxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAExKBJzJKQ3Yx/R4za
jyRv1unCB/bf6C3y0yQNbNsFXsPArSh01Pgi6K6RGFeFOY6VR6jjkg6FD4/kLOSi
0nh1SjAKBggqhkjOPQQDAgNJADBGAiEArJzHo6echhdRT2CWge04hNhzpY+YaMqR
BHGtT0ARBwMCIQDRXUCXPj7b4KYT3gH0JIBVIZy8871xKdU1Y7TLtXNO1A==
-----END CERTIFICATE-----
"""


def _certificate(key: ec.EllipticCurvePrivateKey, end: timedelta, *, ca: bool) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=400))
        .not_valid_after(NOW + end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@cache
def _texts() -> Mapping[str, str]:
    """The PEM texts that a case names."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = serialization.BestAvailableEncryption(b"secret")
    forms = serialization.PrivateFormat
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return {
        "ca": _certificate(key, timedelta(days=3000), ca=True),
        "intermediate": _certificate(key, timedelta(days=2000), ca=True),
        "leaf": _certificate(key, timedelta(days=2000), ca=False),
        "ends in 29 days": _certificate(key, timedelta(days=29), ca=True),
        "ends in 31 days": _certificate(key, timedelta(days=31), ca=True),
        "ended": _certificate(key, timedelta(days=-1), ca=True),
        "version 1": _VERSION_1,
        "request": request.public_bytes(pem).decode(),
        "key": key.private_bytes(pem, forms.PKCS8, plain).decode(),
        "ec key": key.private_bytes(pem, forms.TraditionalOpenSSL, plain).decode(),
        "encrypted key": key.private_bytes(pem, forms.PKCS8, secret).decode(),
    }


def _filled(value: Any) -> Any:
    """`value` with every @NAME@ and @NAME:base64@ replaced."""
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    encoded = re.sub(r"@([a-z0-9 ]+):base64@", lambda m: base64.b64encode(_texts()[m[1]].encode()).decode(), value)
    return re.sub(r"@([a-z0-9 ]+)@", lambda m: _texts()[m[1]], encoded)


def _document(text: str) -> Document:
    (document,), problems = parse_file("ca.yaml", text.encode())
    assert problems == ()
    return replace(document, value=_filled(document.value))


def _image(name: str) -> Resource:
    value = {"kind": "Image", "spec": {"additionalTrustedCA": {"name": name}}}
    lines = {"spec.additionalTrustedCA.name": 7}
    return Resource("site", "Image", "cluster", value, Location("site/image.yaml", 1), lines)


def _resource(document: Document) -> Resource:
    return Resource(document.directory, document.kind, document.name, document.value, document.location)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_what_is_said(case: dict[str, Any]) -> None:
    problems = check_config_map(_document(case["config_map"]), NOW)
    told = [(problem.name, problem.location, problem.field, problem.severity) for problem in problems]
    assert told == [
        (wanted["name"], Location("ca.yaml", wanted["line"]), wanted["field"], wanted.get("severity", "error"))
        for wanted in case["problems"]
    ]
    for problem, wanted in zip(problems, case["problems"], strict=True):
        assert problem.object == "ConfigMap/registry-ca"
        assert wanted.get("message", "") in problem.message
        assert wanted.get("remedy", "") in problem.remedy
        assert problem.remedy or problem.name == "type"


@pytest.mark.parametrize("case", [case for case in CASES if "files" in case], ids=lambda case: str(case["name"]))
def test_where_it_goes(case: dict[str, Any]) -> None:
    config_map = _resource(_document(case["config_map"]))
    files, problems = cert_files(_image("registry-ca"), [config_map])
    assert problems == ()
    assert {file.path: file.content.decode() for file in files} == _filled(case["files"])
    assert [file.path for file in files] == sorted(case["files"])
    assert {file.mode for file in files} == {0o644}


def test_origin_names_the_key() -> None:
    config_map = _resource(
        _document("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: registry-ca}\ndata: {a.com..5000: '@ca@'}")
    )
    (file,), _ = cert_files(_image("registry-ca"), [config_map])
    ((origin,),) = file.origins.values()
    assert (origin.resource, origin.field) == ("ConfigMap/registry-ca", "data[a.com..5000]")


def test_dangling_name_is_an_error_at_its_line() -> None:
    elsewhere = _resource(
        _document("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: registry-ca, namespace: default}")
    )
    for config_maps in ([], [elsewhere]):
        files, (problem,) = cert_files(_image("registry-ca"), config_maps)
        assert files == ()
        assert (problem.name, problem.severity, problem.object) == (
            "dangling-trusted-ca",
            "error",
            "site:Image/cluster",
        )
        assert problem.location == Location("site/image.yaml", 7)
        assert "registry-ca" in problem.remedy


def test_nothing_is_called_for_without_a_name() -> None:
    unused = _resource(
        _document("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: registry-ca}\ndata: {a.com: '@ca@'}")
    )
    assert cert_files(None, [unused]) == ((), ())
    assert cert_files(replace(_image("x"), document={"spec": {}}), [unused]) == ((), ())


@pytest.mark.parametrize(("name", "text"), [("ca-not-ca", "leaf"), ("ca-expires", "ended")])
def test_a_warning_is_silenced_by_its_name_with_a_reason(name: str, text: str) -> None:
    def warned(annotation: str) -> list[str]:
        metadata = f"{{name: registry-ca, annotations: {{{annotation}: a lab}}}}"
        document = _document(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\ndata: {{a.com: '@{text}@'}}")
        return [problem.name for problem in validate_document(document, now=NOW)[1]]

    assert warned("reconciler.dev/other") == [name]
    assert warned(f"reconciler.dev/silence.{name}") == []


def test_expiry_is_not_asked_without_a_time() -> None:
    document = _document("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: registry-ca}\ndata: {a.com: '@ended@'}")
    assert check_config_map(document, None) == ()


def _config_map(data: Any, binary: Any = None) -> Document:
    value = {"kind": "ConfigMap", "metadata": {"name": "registry-ca"}, "data": data, "binaryData": binary}
    return Document(value, Location("ca.yaml", 1))


@given(
    before=st.text(), after=st.text(), name=st.sampled_from(["key", "ec key", "encrypted key"]), where=st.integers(0, 3)
)
def test_a_key_is_found_and_never_shown(before: str, after: str, name: str, where: int) -> None:
    text = f"{before}{_texts()[name]}{after}"
    encoded = base64.b64encode(text.encode(errors="replace")).decode()
    documents = (
        _config_map({"a.com": text}),
        _config_map({}, {"a.com": encoded}),
        _config_map({text: _texts()["ca"]}),
        replace(_config_map({}), value={"kind": "ConfigMap", "metadata": {"annotations": {"x": [text]}}}),
    )
    problems = check_config_map(documents[where], NOW)
    assert "private-key" in {problem.name for problem in problems}
    secret = _texts()[name].splitlines()[1:-1]
    assert not any(line in str(problem) for line in secret for problem in problems)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_content_gets_an_answer(value: Any) -> None:
    for document in (_config_map(value), _config_map(None, value), _config_map({"a.com": value})):
        assert all(problem.location is not None for problem in check_config_map(document, NOW))


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_certificate_gets_an_answer(place: int, byte: int) -> None:
    der = bytearray(x509.load_pem_x509_certificate(_texts()["ca"].encode()).public_bytes(serialization.Encoding.DER))
    der[place % len(der)] = byte
    body = base64.encodebytes(bytes(der)).decode()
    text = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"
    assert {problem.name for problem in check_config_map(_config_map({"a.com": text}), NOW)} <= {
        "not-pem",
        "ca-not-ca",
        "ca-expires",
    }
