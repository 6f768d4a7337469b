"""Whose a line is, for all resources and bases: every line has an owner, and every field behind a file its lines."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.history.blame import TEMPLATES
from reconciler.registries.blame import base_path, blame, origins_of
from reconciler.registries.file_lines import json_lines, toml_lines
from reconciler.registries.model import POLICY_JSON, Location, NodeFile, Resource
from tests.unit.test_render_properties import BASES, Base, bases, over, resource_sets


def base_of(kind: Base, base: dict[str, bytes | None], path: str) -> bytes | None:
    return TEMPLATES.get(path) if kind == "openshift" else base.get(path)


def said_on(file: NodeFile) -> set[int]:
    """The lines on which a table, a key of one, a mirror, or a registry's scope of a policy begins."""
    text = file.content.decode()
    if file.path.endswith(".json"):
        docker = [("transports", "docker"), ("transports", "atomic")]
        return {line for path, line in json_lines(text).items() if len(path) > 2 and path[:2] in docker}
    if file.path.endswith(".conf"):
        return {line for path, line in toml_lines(text).items() if path[:1] == ("registry",)}
    return set()


SIGNED = b"""{"default": [{"type": "insecureAcceptAnything"}],
"transports": {"docker": {"a.io/ns": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]}}}"""
KEY = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUZrdwotLS0tLUVORCBQVUJMSUMgS0VZLS0tLS0K"
POLICY = Resource(
    ".",
    "ClusterImagePolicy",
    "p",
    {
        "apiVersion": "config.openshift.io/v1",
        "kind": "ClusterImagePolicy",
        "metadata": {"name": "p"},
        "spec": {
            "scopes": ["a.io"],
            "policy": {"rootOfTrust": {"policyType": "PublicKey", "publicKey": {"keyData": KEY}}},
        },
    },
    Location("policy.yaml", 1),
)


# a scope of the host's own, tightened by the wider one of a resource
@example([POLICY], {POLICY_JSON: SIGNED}, "host")
@given(resource_sets(), bases(), st.sampled_from(BASES))
def test_every_line_has_an_owner_and_every_field_a_line(
    resources: list[Resource], base: dict[str, bytes | None], kind: Base
) -> None:
    files = over(kind, resources, base).files
    for file in files:
        origins = origins_of(file.path, {one.path: one.origins for one in files})
        lines = blame(file.path, file.content, base_of(kind, base, base_path(file.path)), origins)
        assert [line.text for line in lines] == file.content.decode().splitlines()
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))
        named = {origin for line in lines for origin in line.origins}
        assert {origin for found in file.origins.values() for origin in found} <= named
        assert named <= {origin for found in origins.values() for origin in found}
        for line in lines:
            assert bool(line.origins) or line.of != "resource"
            if line.number in said_on(file):
                assert line.of != "renderer", line


@given(resource_sets(), bases())
def test_a_line_that_is_the_bases_says_what_the_base_says(
    resources: list[Resource], base: dict[str, bytes | None]
) -> None:
    """Of what stands in the base the same way no resource gets the blame, however many ask for it."""
    for file in over("host", resources, base).files:
        before = base.get(file.path)
        lines = blame(file.path, file.content, before, file.origins)
        assert before is not None or not any(line.of == "base" for line in lines)
        if before == file.content:
            assert {line.of for line in lines} <= {"base"}
