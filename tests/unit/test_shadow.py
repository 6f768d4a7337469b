"""Files beside ours that decide otherwise: tests/cases/shadow/*.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, REGISTRIES_CONF_D, SEARCH_REGISTRIES
from reconciler.registries.shadow import SEARCH, decides, hides, shadows

CASES = sorted(Path(__file__).parent.parent.joinpath("cases", "shadow").glob("*.yaml"))
PATHS = {
    "main": REGISTRIES_CONF,
    "search": SEARCH_REGISTRIES,
    "policy": POLICY_JSON,
    "ca": "/etc/docker/certs.d/registry.corp:5000/ca.crt",
    "early": f"{REGISTRIES_CONF_D}/00-mine.conf",
    "drop-in": f"{REGISTRIES_CONF_D}/90-mine.conf",
    "root": "/root/.config/containers/registries.conf",
    "root-policy": "/root/.config/containers/policy.json",
    "namespace": "/etc/crio/policies/team.json",
    "crio": "/etc/crio/crio.conf",
    "crio-drop-in": "/etc/crio/crio.conf.d/50-mine",
    "hiding": "/etc/containers/certs.d/registry.corp:5000/ca.crt",
    "hiding-other": "/etc/containers/certs.d/registry.corp/ca.crt",
    "hiding-root": "/root/.config/containers/certs.d/registry.corp:5000/client.cert",
}
TEXTS = {
    "blocks": "[[registry]]\nlocation = 'bad.example.com'\nblocked = true\n",
    "mirrors": "[[registry]]\nlocation = 'quay.io'\n[[registry.mirror]]\nlocation = 'mirror.corp'\n",
    "theirs": "[[registry]]\nlocation = 'host.example.com'\nblocked = true\n",
    "rejects": '{"default": [{"type": "insecureAcceptAnything"}],'
    ' "transports": {"docker": {"bad.example.com": [{"type": "reject"}]}}}',
}
NAMED = {
    REGISTRIES_CONF: ["bad.example.com", "quay.io", "quay.io mirror mirror.corp"],
    SEARCH_REGISTRIES: [SEARCH],
    POLICY_JSON: ["bad.example.com"],
}


def files(named: dict[str, str | None]) -> dict[str, bytes | None]:
    return {PATHS[name]: None if text is None else TEXTS.get(text, text).encode() for name, text in named.items()}


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["name"]) for path in CASES for case in yaml.safe_load(path.read_text())]
)
def test_shadows(case: dict[str, Any]) -> None:
    ours, others = files(case["ours"]), files(case["others"])
    named = {path: scopes for path, scopes in NAMED.items() if path in ours}
    expected = {(PATHS[key.partition(":")[0]], int(key.partition(":")[2])): v for key, v in case["expect"].items()}
    assert {(s.file, s.line): list(s.scopes) for s in shadows(ours, others, named)} == expected


def test_what_is_of_interest() -> None:
    assert all(decides(PATHS[name]) for name in ("drop-in", "root", "root-policy", "namespace", "crio", "crio-drop-in"))
    assert not any(map(decides, (PATHS["hiding"], f"{REGISTRIES_CONF_D}/README", "/etc/sysconfig/crio")))
    assert hides(PATHS["hiding"]) == "registry.corp:5000"
    assert hides(PATHS["ca"]) == ""
