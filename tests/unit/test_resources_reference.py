"""docs/reference/resources has every field of NodePool and Node with values and default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.registries.kinds import RESOURCE_KINDS
from reconciler.rollout.fields import BadValue, Field, Schema
from reconciler.rollout.nodes import NODE_SCHEMA
from reconciler.rollout.pools import API_VERSION, INVENTORY_KINDS, POOL_SCHEMA

pytestmark = pytest.mark.docs

PAGES = Path(__file__).parents[2] / "docs/reference/resources"


def rows(kind: str) -> Mapping[str, tuple[str, str]]:
    """Field → its values and default, of a page's table."""
    text = (PAGES / f"{kind.lower()}.md").read_text()
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {name.strip(" `"): (values, default.strip(" `")) for name, values, default, _ in cells}


def fields(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Field]]:
    for name, field in schema.items():
        if isinstance(field, Field):
            yield f"{prefix}{name}", field
        else:
            yield from fields(field, f"{prefix}{name}.")


def choices(field: Field) -> list[str]:
    """The values that a field names when it is given a wrong one."""
    try:
        field.read("no such value")
    except BadValue as error:
        return str(error).removeprefix("wants one of ").split(", ") if "wants one of" in str(error) else []
    return []


def read(field: Field, text: str) -> Any:
    """A default as written in a manifest; what the schema has as default need not be readable."""
    written = yaml.safe_load(text)
    try:
        return field.read(written)
    except BadValue:
        return written


@pytest.mark.parametrize(("kind", "schema"), [("NodePool", POOL_SCHEMA), ("Node", NODE_SCHEMA)])
def test_every_field_is_described_as_it_is(kind: str, schema: Schema) -> None:
    described = rows(kind)
    assert list(described) == [name for name, _ in fields(schema)]
    for name, field in fields(schema):
        values, default = described[name]
        assert read(field, default) == field.default, name
        named = [choice for choice in choices(field) if choice]
        assert [part for part in values.split("`")[1::2] if named] == named, name


def test_every_kind_is_described_with_its_version() -> None:
    lines = PAGES.with_suffix(".md").read_text().splitlines()
    for kind, version in {**RESOURCE_KINDS, **dict.fromkeys(INVENTORY_KINDS, API_VERSION)}.items():
        assert any(f"[`{kind}`](" in line and f"`{version}`" in line for line in lines), kind
