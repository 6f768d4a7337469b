"""certs.jsonl: where certificates go, and where we differ from MCO on purpose (DESIGN.md, "Differences")."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.certs_answer import answer
from tests.conformance.load import cases

DECODED = "MCO decodes text that happens to be base64; we never do (such a value is refused: not-pem)"
FOREIGN = "MCO removes directories it does not know; we remove only what a receipt shows as ours"
DEVIATIONS = {
    **dict.fromkeys([f"certs-base64-value-{n}" for n in (0, 1, 2)], DECODED),
    **dict.fromkeys([f"certs-base64-looking-{n}" for n in (0, 1, 2)], DECODED),
    **dict.fromkeys([f"certs-configmap-missing-{n}" for n in (0, 1, 2)], FOREIGN),
    **dict.fromkeys(["certs-configmap-other-namespace-0", "certs-ca-unset-0", "certs-ca-unset-2"], FOREIGN),
    **dict.fromkeys(
        ["certs-extra-file-lost-port-0", "certs-extra-file-lost-port-1"],
        "MCO makes every host:port directory anew and loses client certificates in it; we leave them",
    ),
    "certs-certs-d-missing-2": "MCO writes nothing when certs.d is absent; we create it",
    "certs-no-image-cr": "MCO's sync fails without an Image; for us it calls for no user CA, which is no error",
}


@pytest.mark.parametrize("case", cases("certs"), ids=lambda case: str(case["name"]))
def test_certs(case: dict[str, Any]) -> None:
    """Equal to MCO; a deviation must still be one, so that the table stays true."""
    agrees = answer(case["input"]) == case["expect"]
    assert agrees == (case["name"] not in DEVIATIONS), DEVIATIONS.get(case["name"], answer(case["input"]))
