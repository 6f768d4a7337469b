"""The lock-out guard: the cases of cases/guard, and that it never cries over what did not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.registries.disruption import Files
from reconciler.registries.guard import GuardReport, Override, judge, weakens
from reconciler.registries.model import RenderOptions
from reconciler.registries.references import parse
from reconciler.registries.render import render
from reconciler.registries.resolve import resolve
from reconciler.registries.runtime_config import load
from tests.unit.runtime_files import REFERENCES, file_sets
from tests.unit.test_render import resources_of

FOLDER = Path(__file__).parents[1] / "cases" / "guard"
CASES = {case["name"]: case for path in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(path.read_text())}
IMAGE = "apiVersion: config.openshift.io/v1\nkind: Image\nmetadata: {name: cluster}\nspec: {}\n"


def files_of(side: Any) -> dict[str, bytes | None]:
    """A side of a case: manifests (over MCO's templates), or files by path."""
    if isinstance(side, dict):
        return {path: text.encode() for path, text in side.items()}
    manifests = side if "kind: Image\n" in side else f"{IMAGE}---\n{side}" if side else IMAGE
    rendered = render(resources_of(manifests), RenderOptions(base="openshift"))
    assert rendered.ok
    return {file.path: file.content for file in rendered.files}


def told(report: GuardReport) -> dict[str, Any]:
    turned = [{key: value for key, value in item._asdict().items() if value} for item in report.turned]
    blocking = [f"{item.image} {item.asked}" for item in report.blocking]
    data = {"text": report.text, "turned": turned, "blocking": blocking, "signed": list(report.signed)}
    return {key: value for key, value in data.items() if value}


@pytest.mark.parametrize("name", CASES)
def test_guard(name: str) -> None:
    case = CASES[name]
    old, new = files_of(case["old"]), files_of(case["new"])
    overrides = [Override(**override) for override in case.get("overrides", ())]
    report = judge(
        case["images"],
        load(old),
        load(new),
        case.get("reachable"),
        overrides=overrides,
        content=case.get("content", ""),
    )
    assert told(report) == case["report"]
    assert list(weakens(old, new)) == case["weakens"]


@settings(deadline=None)
@given(file_sets(), file_sets(), st.lists(st.sampled_from([*REFERENCES, "a.com/x", "b.com/ns/app"])))
def test_only_what_turned_is_reported(old: Files, new: Files, images: list[str]) -> None:
    before, after = load(old), load(new)
    report = judge(images, before, after)
    assert report.armed == len(set(images))
    for turned in report.turned:
        suffix = (
            ""
            if parse(turned.image).suffix
            else {"by tag": ":latest", "by digest": "@sha256:" + "0" * 64}[turned.asked]
        )
        name = turned.image + suffix
        assert resolve(before, name).pullable
        assert not resolve(after, name).pullable
        assert turned.reason
    named = [image for image in images if parse(image).suffix]
    lost = {image for image in named if resolve(before, image).pullable and not resolve(after, image).pullable}
    assert lost == {turned.image for turned in report.turned if turned.image in named}


@settings(deadline=None)
@given(file_sets(), st.lists(st.sampled_from(REFERENCES)), st.none() | st.lists(st.sampled_from(["a.com", "m.lan"])))
def test_files_that_stay_turn_nothing(files: Files, images: list[str], reachable: list[str] | None) -> None:
    assert judge(images, load(files), load(files), reachable) == GuardReport(len(set(images)))
    assert weakens(files, files) == ()


@settings(deadline=None)
@given(file_sets(), file_sets(), st.sampled_from(REFERENCES), st.none() | st.lists(st.sampled_from(["b.com", "m.lan"])))
def test_what_locks_an_image_out_waits_when_the_guard_is_not_armed(
    old: Files, new: Files, image: str, reachable: list[str] | None
) -> None:
    """But for short names, where a search list that goes is enough, and new mirrors that give no image name."""
    turned = judge([image], load(old), load(new), reachable).turned
    if turned and not image.startswith("app") and "rewriting reference" not in turned[0].reason:
        assert weakens(old, new)


@settings(deadline=None)
@given(st.binary(), st.binary(), st.text())
def test_any_files_and_images_are_judged(registries: bytes, policy: bytes, image: str) -> None:
    files: Files = {"/etc/containers/registries.conf": registries, "/etc/containers/policy.json": policy}
    accept: Files = {"/etc/containers/policy.json": b'{"default": [{"type": "insecureAcceptAnything"}]}'}
    assert judge([image, ""], load(accept), load(files)).armed in (1, 2)
    assert isinstance(weakens(accept, files), tuple)
