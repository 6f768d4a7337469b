"""What crictl and podman list: the cases of cases/listing, and that nothing else is taken for a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.transport.listing import images_in_use

FOLDER = Path(__file__).parents[1] / "cases" / "listing"
CASES = {case["name"]: case for path in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(path.read_text())}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["containers", "images", "image", "Image", "id", "RepoTags"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", CASES)
def test_listing(name: str) -> None:
    case = CASES[name]
    assert list(images_in_use(case["containers"], case["images"])) == case["needs"]


@given(JSON, JSON)
def test_any_json_is_a_list_or_refused(containers: Any, images: Any) -> None:
    try:
        needed = images_in_use(containers, images)
    except ValueError:
        return
    assert all(needed)
