"""A commit is judged by what it changes, and comes to the same as if nothing had been judged before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st

from reconciler.ports import ManifestFile
from reconciler.registries.kinds import RESOURCE_KINDS
from reconciler.registries.model import Resource
from reconciler.rollout.acceptance import Judgement, judge
from reconciler.rollout.bases import ParsedFile
from reconciler.stages.record import parse_manifest
from tests.unit.test_render_properties import _resource, images, mirror_sets, policies, registries_bases

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RELEASE = f"a.io/ns/app@sha256:{'a' * 64}"
NODE = "apiVersion: reconciler.dev/v1alpha1\nkind: Node\nmetadata: {name: n}\nspec: {address: 10.0.0.1}\n"

Tree = dict[str, bytes]


def _pool(name: str, spec: Mapping[str, object]) -> str:
    return yaml.safe_dump(
        {"apiVersion": "reconciler.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": name}, "spec": dict(spec)}
    )


@st.composite
def inventories(draw: st.DrawFn) -> bytes:
    """One or two pools; they share a directory, and each may have one of its own."""
    spec = st.fixed_dictionaries(
        {"paths": st.sampled_from([["common"], ["common", "site"]])},
        optional={
            "base": st.sampled_from(["host", "openshift", "base"]),
            "mirrorSyntax": st.just("mirror-by-digest-only"),
            "releaseImage": st.just(RELEASE),
        },
    )
    names = draw(st.sampled_from([["worker"], ["worker", "edge"]]))
    pools = [_pool(name, {**draw(spec), "priority": number}) for number, name in enumerate(names)]
    return "---\n".join([*pools, NODE]).encode()


def _manifest(resource: Resource) -> bytes:
    return yaml.safe_dump({**resource.document, "apiVersion": RESOURCE_KINDS[resource.kind]}).encode()


def contents(path: str) -> st.SearchStrategy[bytes | None]:
    """What may stand at a path; None: nothing."""
    if path == "pools.yaml":
        return inventories()
    if path.endswith(".conf"):
        return st.none() | registries_bases()
    if path.endswith("image.yaml"):
        return st.none() | images().map(_manifest)
    rows = {"digest": ("ImageDigestMirrorSet", "imageDigestMirrors"), "tag": ("ImageTagMirrorSet", "imageTagMirrors")}
    kind = path.rpartition("/")[2].removesuffix(".yaml")
    made = mirror_sets(*rows[kind]) if kind in rows else policies()
    return st.none() | made.map(_manifest)


PATHS = ["pools.yaml", "base/etc/containers/registries.conf"]
PATHS += [f"common/{kind}.yaml" for kind in ("image", "digest", "tag", "policy")]
PATHS += [f"site/{kind}.yaml" for kind in ("image", "digest")]


@st.composite
def histories(draw: st.DrawFn) -> list[Tree]:
    """Trees of which each differs from the one before it in a few files."""
    tree = {path: draw(contents(path)) for path in PATHS}
    trees = [tree]
    for changed in draw(st.lists(st.sets(st.sampled_from(PATHS), max_size=2), min_size=1, max_size=5)):
        tree = {**tree, **{path: draw(contents(path)) for path in sorted(changed)}}
        trees.append(tree)
    return [{path: data for path, data in tree.items() if data is not None} for tree in trees]


def _parsed(path: str, data: bytes) -> ParsedFile:
    return parse_manifest(ManifestFile(path, "", data))


def _anew(tree: Tree) -> Judgement:
    return judge([_parsed(path, data) for path, data in sorted(tree.items())], "default", NOW)


def _in_turn(trees: list[Tree]) -> list[Judgement]:
    """The judgements of one commit after the other, where files that stay are parsed once."""
    kept: dict[tuple[str, bytes], ParsedFile] = {}
    for tree in trees:
        for path, data in tree.items():
            kept.setdefault((path, data), _parsed(path, data))
    return [judge([kept[item] for item in sorted(tree.items())], "default", NOW) for tree in trees]


@settings(max_examples=100)
@given(histories())
def test_judging_after_other_commits_comes_to_the_same_as_judging_anew(trees: list[Tree]) -> None:
    for tree, judgement in zip(trees, _in_turn(trees), strict=True):
        assert judgement == _anew(tree)
        event(f"accepted by {len(judgement.accepted)}, warnings: {bool(judgement.warnings)}")


def test_a_mirror_set_is_looked_at_again_when_the_image_changes() -> None:
    rows = [{"source": "a.io/ns", "mirrors": ["b.corp:5000/ns"]}]
    same = {
        "pools.yaml": f"{_pool('worker', {})}---\n{NODE}".encode(),
        "set.yaml": _manifest(_resource("ImageDigestMirrorSet", "m", {"imageDigestMirrors": rows})),
    }
    lists = (["a.io", "b.corp:5000"], ["a.io", "b.corp"], ["b.corp:5000"])
    allowed = [_resource("Image", "cluster", {"registrySources": {"allowedRegistries": entries}}) for entries in lists]
    found = _in_turn([{**same, "image.yaml": _manifest(image)} for image in [*allowed, allowed[0]]])
    assert [[p.name for p in judgement.warnings if not p.name.startswith("platform")] for judgement in found] == [
        [],
        ["mirror-not-allowed", "port-missing"],
        ["mirror-not-allowed"],
        [],
    ]
