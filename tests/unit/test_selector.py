"""Label selectors as `oc get -l` takes them."""

from __future__ import annotations

import pytest

from reconciler.errors import UsageError
from reconciler.selector import matching

LABELS = {"zone": "a", "tier": "web", "node-role.kubernetes.io/worker": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("zone=a", True),
        ("zone==a", True),
        ("zone=b", False),
        ("zone!=b", True),
        ("zone!=a", False),
        ("gpu!=yes", True),
        ("zone", True),
        ("gpu", False),
        ("!gpu", True),
        ("! zone", False),
        ("node-role.kubernetes.io/worker", True),
        ("node-role.kubernetes.io/worker=", True),
        ("zone in (a, b)", True),
        ("zone in (b)", False),
        ("zone notin (a,b)", False),
        ("gpu notin (yes)", True),
        ("zone=a,tier in (web,db),!gpu", True),
        ("zone=a,tier in (db)", False),
    ],
)
def test_a_selector(text: str, *, expected: bool) -> None:
    assert matching(text)(LABELS) is expected


@pytest.mark.parametrize("text", ["=a", "zone in a", "zone=a b", "!zone=a", "zone in (a", "zone>1", ","])
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(UsageError, match="no label selector"):
        matching(text)
