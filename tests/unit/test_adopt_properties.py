"""import(render(x)) behaves as x, for hosts once rendered by us and by MCO, and for any hand-made files."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings

from reconciler.registries import templates
from reconciler.registries.adopt import Keep, infer
from reconciler.registries.behaviour import differences, fingerprint, names
from reconciler.registries.disruption import Files
from reconciler.registries.facts import resources
from reconciler.registries.model import BASE_PATHS, POLICY_JSON, RenderOptions, Resource
from reconciler.registries.render import render
from reconciler.registries.resolve import resolve
from reconciler.registries.runtime_config import load
from tests.unit.test_render_properties import ASKED, bases, on_host, resource_sets

KEEPS: tuple[Keep, ...] = ("bytes", "behaviour")


def adopted(files: Files, keep: Keep) -> dict[str, bytes | None]:
    """The files of a host once it takes what was inferred from them."""
    found = resources(infer([files], keep).facts)
    assert found is not None
    rendered = render(found, RenderOptions(base_files={path: files.get(path) for path in BASE_PATHS}))
    assert rendered.ok
    return {**files, **{file.path: file.content for file in rendered.files}}


def behaves_alike(before: Files, after: Files) -> None:
    """By `differences`, and by what the runtime answers to names of our own choice."""
    assert differences(before, after) == ()
    old, new = (
        load({**files, POLICY_JSON: files.get(POLICY_JSON) or templates.POLICY_JSON}) for files in (before, after)
    )
    for text in [*ASKED, *names(old)]:
        was, becomes = resolve(old, text), resolve(new, text)
        assert was.error == becomes.error
        assert [(c.reference, c.sources, c.decision) for c in was.candidates] == [
            (c.reference, c.sources, c.decision) for c in becomes.candidates
        ]


@pytest.mark.parametrize("keep", KEEPS)
@settings(max_examples=150)
@given(resource_sets(), bases())
def test_a_host_that_was_rendered_over_its_own_files(
    keep: Keep, given_resources: list[Resource], base: dict[str, bytes | None]
) -> None:
    rendered = on_host(given_resources, base)
    files: dict[str, bytes | None] = {**base, **{file.path: file.content for file in rendered.files}}
    after = adopted(files, keep)
    behaves_alike(files, after)
    assert keep == "behaviour" or after == files


@pytest.mark.parametrize("keep", KEEPS)
@settings(max_examples=150)
@given(resource_sets())
def test_a_host_that_mco_rendered(keep: Keep, given_resources: list[Resource]) -> None:
    rendered = render(given_resources, RenderOptions(base="openshift"))
    files: dict[str, bytes | None] = {file.path: file.content for file in rendered.files}
    after = adopted(files, keep)
    behaves_alike(files, after)
    assert keep == "behaviour" or after == files


@given(resource_sets(), bases(), bases())
def test_alike_means_alike(
    given_resources: list[Resource], base: Mapping[str, bytes | None], other: Mapping[str, bytes | None]
) -> None:
    """Equal fingerprints behave alike; `differences` sees what the names show."""
    files = {**base, **{file.path: file.content for file in on_host(given_resources, base).files}}
    if fingerprint(files, {}) == fingerprint(other, {}):
        behaves_alike(files, other)
    policies = [host.get(POLICY_JSON) for host in (files, other)]
    if None not in policies:
        configs = [load(host) for host in (files, other)]
        answers = [[resolve(config, text) for text in ASKED] for config in configs]
        shown = [[[(c.sources, c.decision) for c in answer.candidates] for answer in some] for some in answers]
        assert shown[0] == shown[1] or differences(files, other)


def test_the_order_of_hosts_does_not_count() -> None:
    one: Files = {"/etc/containers/registries.conf": b'[[registry]]\nlocation = "a.io"\ninsecure = true\n'}
    other: Files = {"/etc/containers/registries.conf": b'[[registry]]\ninsecure = true\nlocation = "a.io"  # same\n'}
    assert infer([one, other]) == infer([other, one])
    assert infer([one, other]).facts.insecure == {"a.io"}
