"""Traps in hand-written files: the cases of cases/lint, the reference of their names, and that no bytes are too odd."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.registries.lint import lint
from reconciler.registries.lint_catalogue import LINTS
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, Problem
from reconciler.registries.resolve import resolve
from reconciler.registries.runtime_config import load
from tests.unit.runtime_files import REFERENCES, file_sets

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "cases" / "lint"
REFERENCE = ROOT / "docs" / "reference" / "lint.md"
REGISTRIES = [
    case
    for case in yaml.safe_load((FOLDER / "registries.yaml").read_text())
    if list(case["files"]) == ["registries.conf"]
]
CASES = [
    pytest.param(case, id=f"{path.stem}-{case['name']}")
    for path in sorted(FOLDER.glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
]


def certificate(*, ca: bool) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=1))
    signed = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return signed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


PEM = {"PEM:ca": certificate(ca=True), "PEM:leaf": certificate(ca=False)}


def files_of(case: dict[str, Any]) -> dict[str, bytes]:
    return {
        path: re.sub("PEM:(ca|leaf)", lambda found: PEM[found[0]], text).encode()
        for path, text in case["files"].items()
    }


def told(problem: Problem) -> dict[str, str]:
    return {"at": f"{problem.name} {problem.location}", "message": problem.message, "remedy": problem.remedy}


@pytest.mark.parametrize("case", CASES)
def test_lint(case: dict[str, Any]) -> None:
    assert [told(problem) for problem in lint(files_of(case))] == case["problems"]


def test_every_name_has_a_case() -> None:
    cases = [case for path in FOLDER.glob("*.yaml") for case in yaml.safe_load(path.read_text())]
    assert {problem["at"].partition(" ")[0] for case in cases for problem in case["problems"]} == set(LINTS)


@pytest.mark.docs
def test_the_reference_has_every_name() -> None:
    rows = [line.split(" | ") for line in REFERENCE.read_text().splitlines() if line.startswith("| `")]
    assert [row[:3] for row in rows] == [
        [f"| `{name}`", entry.severity, entry.summary] for name, entry in LINTS.items()
    ]
    assert all(len(row) == 4 and row[3].removesuffix(" |").strip() for row in rows)


PATHS = [
    REGISTRIES_CONF,
    POLICY_JSON,
    "/etc/containers/registries.conf.d/10-a.conf",
    "/root/.config/containers/registries.conf",
    "/etc/crio/policies/team.json",
    "/etc/crio/crio.conf.d/10-a.conf",
    "/etc/containers/registries.d/a.yaml",
    "/etc/containers/registries.d/b.yaml",
    "/etc/docker/certs.d/a.com/ca.crt",
    "registries.conf",
    "other.toml",
    "x",
    "",
]
contents = st.binary() | st.text(alphabet="[]{}=:.,'\"#\n ab-*&!<|").map(str.encode)


@given(st.dictionaries(st.sampled_from(PATHS) | st.text(), contents, max_size=4))
@example({REGISTRIES_CONF: f"x = {'1' * 5000}".encode()})
@example({REGISTRIES_CONF: b"x = " + b"[" * 9999})
@example({POLICY_JSON: b"[" * 99999})
@example({POLICY_JSON: b"1" * 4999})
@example({"/etc/containers/registries.d/a.yaml": b"[" * 999})
@example({"/etc/containers/registries.d/a.yaml": b"? {a: b}\n: c"})
@example({"/etc/containers/registries.d/a.yaml": b"docker: {1: {}, ~: {}}"})
@example({"/etc/containers/registries.d/a.yaml": b"default-docker: x"})
@example({"/etc/containers/registries.d/a.yaml": b"a: 2026-99-99"})
@example({"/etc/crio/crio.conf": b"crio = 1"})
@settings(deadline=None)
def test_any_bytes_are_judged(files: dict[str, bytes]) -> None:
    for problem in lint(files):
        place = problem.location
        assert place is not None
        assert 1 <= place.line <= files[place.file].count(b"\n") + 1
        assert problem.message
        assert problem.remedy


REFUSED = [name for name, entry in LINTS.items() if entry.severity == "error" and name != "mirror-malformed"]


@given(contents | st.sampled_from([case["files"]["registries.conf"].encode() for case in REGISTRIES]), contents)
@settings(deadline=None)
def test_what_does_not_load_is_an_error(registries: bytes, policy: bytes) -> None:
    """And an error of another kind than `mirror-malformed` does not load."""
    files: dict[str, bytes] = {REGISTRIES_CONF: registries, POLICY_JSON: policy}
    config = load(files)
    errors = {problem.location.file for problem in lint(files) if problem.name in REFUSED and problem.location}
    assert (REGISTRIES_CONF in errors) >= bool(config.registries_error)
    assert (POLICY_JSON in errors) == isinstance(config.policies[POLICY_JSON], str)


@given(file_sets(), st.sampled_from(REFERENCES))
@settings(deadline=None)
def test_a_pull_that_fails_is_foreseen(files: dict[str, bytes | None], reference: str) -> None:
    """A mirror that gives no name: for the repository itself, for one component, or with a port that is named."""
    decisions = {candidate.decision for candidate in resolve(load(files), reference).candidates}
    problems = lint({path: content for path, content in files.items() if content is not None})
    if "error" in decisions and ":5000/" not in reference:
        assert {problem.name for problem in problems} & {"mirror-rewrite", "mirror-malformed"}
