"""How a runtime treats image names: what the recorded vectors leave out, and properties."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.errors import InputRejected
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, SEARCH_REGISTRIES
from reconciler.registries.references import canonical, is_short, normalize, parse
from reconciler.registries.resolve import Candidate, Resolution, resolve
from reconciler.registries.runtime_config import RuntimeConfig, load
from reconciler.registries.scopes import prefix_length
from reconciler.registries.signature_policy import read_policy
from tests.unit.runtime_files import file_sets

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "resolve" / "lookups.yaml").read_text())
ACCEPT = b'{"default": [{"type": "insecureAcceptAnything"}]}'

host_parts = st.sampled_from(["a", "b", "com", "a.com", "x.a.com", "b.com.b.com", "localhost"])
names = st.builds(
    lambda host, port, path: f"{host}{port}/{path}",
    host_parts,
    st.sampled_from(["", ":5000"]),
    st.sampled_from(["x", "ns/app", "ns/app/sub", "ns2/app"]),
)
prefixes = st.sampled_from(
    [
        "a",
        "a.com",
        "a.com:5000",
        "a.com/ns",
        "a.com:5000/ns/app",
        "a.com/n",
        "x.a.com",
        "b.com",
        "localhost",
        "*.com",
        "*.a.com",
        "*.b.com",
        "*.b.com.b.com",
    ]
)


def _load(files: Mapping[str, str], policy: str | None = None) -> RuntimeConfig:
    contents: dict[str, bytes | None] = {path: text.encode() for path, text in files.items()}
    return load(contents | {POLICY_JSON: policy.encode() if policy else ACCEPT})


def _told(resolution: Resolution) -> Any:
    if resolution.error:
        return f"error: {resolution.error}"
    sources: list[str] = []
    for candidate in resolution.candidates:
        if candidate.decision != "pull":
            return {candidate.decision: _sources(candidate)}
        sources += _sources(candidate)
    return sources


def _sources(candidate: Candidate) -> list[str]:
    flags = ("mirror", "insecure", "blocked")
    return [" ".join([s.reference, *(name for name in flags if getattr(s, name))]) for s in candidate.sources]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_lookup(case: dict[str, Any]) -> None:
    config = _load(case["files"], case.get("policy"))
    assert config.registries_error == ""
    assert {name: _told(resolve(config, name)) for name in case["pulls"]} == case["pulls"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[registry]]", "both location and prefix are unset"),
        ("[[registry]]\nprefix = 'a.com'", "location is unset"),
        ("[[registry]]\nprefix = '*.a.com:5000'", "wildcarded prefix"),
        ("[[registry]]\nlocation = 'http://a.com'", "URI schemes"),
        ("[[registry]]\nlocation = 'a.com'\npull-from-mirror = 'all'", "non-mirror registry"),
        ("[[registry]]\nlocation = 'a.com'\n[[registry.mirror]]\ninsecure = true", "mirror location is unset"),
        ("[[registry]]\nlocation = 'a.com'\n[[registry.mirror]]\nlocation = 'https://m'", "URI schemes"),
        (
            "[[registry]]\nlocation = 'a.com'\n[[registry.mirror]]\nlocation = 'm'\npull-from-mirror = 'x'",
            "unsupported",
        ),
        (
            "[[registry]]\nlocation='a'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='m'\npull-from-mirror='all'",
            "beside mirror-by-digest-only",
        ),
        ("[[registry]]\nprefix='a'\nlocation='c'\n[[registry]]\nprefix='b'\nlocation='c'\nblocked=true", "'blocked'"),
        ("[[registry]]\nprefix='a'\nlocation='c'\n[[registry]]\nprefix='b'\nlocation='c'\ninsecure=true", "'insecure'"),
        ("[[registry]]\nlocation = 'a.com'\nblocked = 1", "blocked must be true or false"),
        ("[registry]\nlocation = 'a.com'", "registry must be an array"),
        ("registry = ['a.com']", "registry must be an array of tables"),
        ("unqualified-search-registries = 'a.com'", "must be an array"),
        ("unqualified-search-registries = [1]", "must be an array of strings"),
        ("unqualified-search-registries = ['a.com/ns']", "Invalid unqualified-search-registries entry"),
        ("short-name-mode = 'sometimes'", "invalid short-name mode"),
        ("[aliases]\n'a.com/x' = 'a.com/x'", "invalid short name"),
        ("[aliases]\nx = 'team/x'", "invalid alias"),
        ("[aliases]\nx = 'a.com/x:1'", "invalid alias"),
        ("[aliases]\nx = 1", "aliases must be strings"),
        ("[registries.search]\nregistries = ['a.com']\n[[registry]]\nlocation = 'b.com'", "mixing"),
        ("[[registry", "toml: "),
        (f"x = {'1' * 5000}", "toml: "),
        ("\ud800", "toml: "),
    ],
)
def test_unloadable_registries(text: str, message: str) -> None:
    content = text.encode(errors="surrogatepass")
    for path in (REGISTRIES_CONF, SEARCH_REGISTRIES):
        config = load({path: content, POLICY_JSON: ACCEPT})
        assert config.registries_error.startswith(path)
        assert message in config.registries_error or (path == SEARCH_REGISTRIES and message == "mixing")
        assert resolve(config, "a.com/x").error == config.registries_error
        assert not resolve(config, "a.com/x").pullable


def test_the_old_form_has_no_place_in_a_drop_in() -> None:
    config = _load({SEARCH_REGISTRIES: "[registries.search]\nregistries = ['a.com']"})
    assert "v2 format" in config.registries_error


def _with(requirement: str) -> str:
    return f'{{"default": [{requirement}]}}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"default": []}',
        '{"default": {}}',
        '{"default": [{"type": "accept"}]}',
        '{"default": ["reject"]}',
        '{"default": [{"type": "reject"}], "note": ""}',
        '{"default": [{"type": "reject"}], "default": [{"type": "reject"}]}',
        '{"default": [{"type": "reject"}], "transports": []}',
        '{"default": [{"type": "reject"}], "transports": {"docker": []}}',
        '{"default": [{"type": "reject"}], "transports": {"docker": {"a.com": []}}}',
        '{"default": [{"type": "reject"}], "transports": {"atomic": {"a.com/x:1": [{"type": "reject"}]}}}',
        _with('{"type": "reject", "note": NaN}'),
        _with('{"type": "signedBy", "keyType": "GPGKeys"}'),
        _with('{"type": "signedBy", "keyType": "other", "keyPath": "/k"}'),
        _with('{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k", "keyData": "eA=="}'),
        _with('{"type": "signedBaseLayer"}'),
        _with('{"type": "sigstoreSigned"}'),
        _with('{"type": "sigstoreSigned", "fulcio": {}}'),
        _with('{"type": "sigstoreSigned", "pki": {}, "rekorPublicKeyData": "eA=="}'),
        _with('{"type": "sigstoreSigned", "keyPath": "/k", "rekorPublicKeyData": "eA==", "rekorPublicKeyPath": "/r"}'),
    ],
)
def test_unloadable_policy(text: str) -> None:
    with pytest.raises(InputRejected):
        read_policy(text.encode())
    config = load({POLICY_JSON: text.encode()})
    assert resolve(config, "a.com/x").error.startswith(POLICY_JSON)


@pytest.mark.parametrize(
    "requirement",
    [
        '{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["/k"], "signedIdentity": {"type": "matchExact"}}',
        '{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}',
        '{"type": "sigstoreSigned", "keyDatas": ["eA=="], "rekorPublicKeyDatas": ["eA=="]}',
        (
            '{"type": "sigstoreSigned", "rekorPublicKeyPath": "/r", "fulcio": '
            '{"caPath": "/c", "oidcIssuer": "i", "subjectEmail": "a@b"}}'
        ),
        '{"type": "sigstoreSigned", "pki": {"caRootsPath": "/c", "subjectEmail": "a@b"}}',
    ],
)
def test_signature_demands(requirement: str) -> None:
    (candidate,) = resolve(load({POLICY_JSON: _with(requirement).encode()}), "a.com/x").candidates
    assert candidate.decision == "pull_if_signed"
    assert candidate.policy == json.loads(requirement)["type"]


def test_a_missing_policy_fails_every_pull() -> None:
    assert resolve(load({}), "a.com/x").error == "/etc/containers/policy.json is missing"


def test_a_namespace_has_its_own_policy() -> None:
    config = load(
        {POLICY_JSON: ACCEPT, "/etc/crio/policies/team-a.json": ACCEPT.replace(b"insecureAcceptAnything", b"reject")}
    )
    assert resolve(config, "a.com/x", "team-b").pullable
    assert not resolve(config, "a.com/x", "team-a").pullable


@given(st.text() | st.from_regex(r"[A-Za-z0-9./:@_-]{0,40}", fullmatch=True), file_sets())
@example("a" * 5000, {POLICY_JSON: ACCEPT})
@example("a-" * 400 + "/x", {POLICY_JSON: ACCEPT})
@example("x/" + "a" * 300, {POLICY_JSON: ACCEPT})
def test_any_text_gets_an_answer(text: str, files: dict[str, bytes | None]) -> None:
    resolution = resolve(load(files), text)
    assert bool(resolution.error) != bool(resolution.candidates)


@given(st.binary(), st.binary())
def test_any_files_get_an_answer(registries: bytes, policy: bytes) -> None:
    resolution = resolve(load({REGISTRIES_CONF: registries, POLICY_JSON: policy}), "a.com/x")
    assert bool(resolution.error) != bool(resolution.candidates)


@given(names, st.sets(prefixes))
def test_lookup_by_parents_equals_a_scan(name: str, scopes: set[str]) -> None:
    """containers/image walks all tables in sorted order and keeps the first of the longest."""
    tables = "".join(f"[[registry]]\nprefix = '{scope}'\nlocation = 'm.lan'\n" for scope in sorted(scopes))
    matching = [scope for scope in sorted(scopes) if prefix_length(name, scope) >= 0]
    found = _load({REGISTRIES_CONF: tables}).find(name)
    assert (found.prefix if found else None) == max(matching, key=len, default=None)


@given(names | st.from_regex(r"[a-zA-Z0-9./:_-]{1,30}", fullmatch=True))
def test_a_normal_name_stays(text: str) -> None:
    try:
        normal = normalize(text)
    except InputRejected:
        return
    assert normalize(str(normal)) == normal == canonical(str(normal)) == parse(str(normal))
    assert not is_short(normal.name) or "_" in normal.name
