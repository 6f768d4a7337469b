"""docs/reference/resources: each field of each OpenShift kind, and the class of a change of it, as the code has them.

tests/cases/reference has the changes. The pages of docs/reference/files are held to the same profiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.registries.impact import Profile, classify
from reconciler.registries.kinds import RESOURCE_KINDS, SCHEMAS
from reconciler.registries.model import DISRUPTION_ORDER, Location, RenderOptions, Resource
from reconciler.registries.render import render
from reconciler.registries.schema import Fields, ListOf, Schema, Text

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs/reference/resources"
FILES: Mapping[str, Any] = yaml.safe_load((ROOT / "tests/cases/reference/files.yaml").read_text())
CASES: Mapping[str, Mapping[str, Any]] = yaml.safe_load((ROOT / "tests/cases/reference/fields.yaml").read_text())
SHORT = {"ImageDigestMirrorSet": "idms", "ImageTagMirrorSet": "itms", "ImageContentSourcePolicy": "icsp"}
PROFILES: Sequence[Profile] = ("default", "minimal", "openshift")


def leaves(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """The fields that hold no further ones, `a.b[].c`."""
    if isinstance(schema, ListOf) and isinstance(schema.item, Fields):
        schema, path = schema.item, f"{path}[]"
    if isinstance(schema, Fields):
        for name, inner in schema.fields.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    else:
        yield path, schema


def fields(kind: str) -> dict[str, Schema]:
    """What a user may say in a resource of this kind: the fields of its spec; those of a ConfigMap itself."""
    own = SCHEMAS[kind].fields
    if "spec" in own:
        return dict(leaves(own["spec"], ""))
    return {name: schema for name, schema in own.items() if name not in ("apiVersion", "kind", "metadata")}


def rendered(kind: str, change: Any) -> dict[str, bytes | None]:
    """The files over MCO's templates, which name every file that a profile looks at."""
    image: dict[str, Any] = {"additionalTrustedCA": {"name": "registry-ca"}} if kind == "ConfigMap" else {}
    documents: dict[str, Any] = {"Image": {"spec": image}, "ConfigMap": {"data": {"z.corp": "PEM"}}}
    documents[kind] = change if kind == "ConfigMap" else {"spec": change}
    names = {"Image": "cluster", "ConfigMap": "registry-ca"}
    resources = []
    for name, document in documents.items():
        metadata = {"name": names.get(name, "a"), "namespace": "team" if name == "ImagePolicy" else "openshift-config"}
        whole = {"kind": name, "metadata": metadata, **document}
        resources.append(Resource(".", name, metadata["name"], whole, Location("x.yaml", 1)))
    outcome = render(resources, RenderOptions(base="openshift"))
    assert outcome.ok, outcome.problems
    return {file.path: file.content for file in outcome.files}


def classes(kind: str, field: str, profile: Profile) -> str:
    """The classes of the field's changes, the least first; those of its parent where it has none of its own."""
    while field not in CASES[kind]:
        field = field[: max(field.rfind("."), field.rfind("["))]
    return of_changes([[rendered(kind, state) for state in change] for change in CASES[kind][field]], profile)


def of_changes(changes: Sequence[Sequence[Mapping[str, bytes | None]]], profile: Profile) -> str:
    found = {classify(before, after, profile).disruption for before, after in changes}
    return ", ".join(sorted(found, key=DISRUPTION_ORDER.index))


def page_of(kind: str) -> str:
    return (PAGES / f"{SHORT.get(kind, kind.lower())}.md").read_text()


def rows(page: str) -> dict[str, list[str]]:
    """Field → values, effect and classes, of a page's table."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:3] == "| `"]
    return {first.strip("`"): rest for first, *rest in cells}


@pytest.mark.parametrize("kind", RESOURCE_KINDS)
def test_every_field_is_described_as_it_is(kind: str) -> None:
    page = page_of(kind)
    assert page.startswith(f"# {kind}\n\n`apiVersion: {RESOURCE_KINDS[kind]}`")
    described = rows(page)
    assert list(described) == list(fields(kind))
    for field, schema in fields(kind).items():
        values, effect, *cells = described[field]
        assert cells == [classes(kind, field, profile) for profile in PROFILES], field
        assert effect
        if isinstance(schema, Text) and schema.choices:
            assert tuple(part for part in values.split("`")[1::2]) == tuple(choice or '""' for choice in schema.choices)


@pytest.mark.parametrize("name", FILES)
def test_every_key_of_a_file_is_of_the_class_that_it_says(name: str) -> None:
    path = FILES[name]["path"]
    described = rows((ROOT / "docs/reference/files" / f"{name}.md").read_text())
    assert list(described) == list(FILES[name]["keys"])
    for key, changes in FILES[name]["keys"].items():
        contents = [[{path: text and text.encode()} for text in change] for change in changes]
        assert described[key][-3:] == [of_changes(contents, profile) for profile in PROFILES], key


def test_every_change_is_of_a_field() -> None:
    assert set(CASES) == set(RESOURCE_KINDS)
    for kind, changes in CASES.items():
        for field in changes:
            assert any(name == field or name.startswith((f"{field}.", f"{field}[")) for name in fields(kind)), field
