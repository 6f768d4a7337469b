"""What holds for all resources and bases, with the runtime's own reading (`resolve`) as the judge."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import tomlkit
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.registries import templates
from reconciler.registries.impact import classify
from reconciler.registries.inputs import NEVER_CONTACT, collect
from reconciler.registries.model import (
    POLICY_JSON,
    REGISTRIES_CONF,
    SEARCH_REGISTRIES,
    Location,
    Rendered,
    RenderOptions,
    Resource,
)
from reconciler.registries.references import Reference
from reconciler.registries.render import check, render
from reconciler.registries.resolve import Candidate, resolve
from reconciler.registries.runtime_config import RuntimeConfig, load
from reconciler.registries.scopes import policy_lookup, prefix_length
from reconciler.registries.signature_policy import Policy
from tests.unit import literal_rules

HOSTS = ["a.io", "a.io:5000", "x.a.io", "xy.a.io", "b.corp", "b.corp:5000", "m.lan"]
PATHS = ["", "/ns", "/ns/app", "/ns/app/deep"]
PLAIN = [host + path for host in HOSTS for path in PATHS]
WILD = ["*.a.io", "*.io", "*.corp"]
SIGNED = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}
ACCEPT, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}
Base = Literal["host", "openshift", "directory"]
BASES: tuple[Base, ...] = ("host", "openshift", "directory")
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

KEY = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUZrdwotLS0tLUVORCBQVUJMSUMgS0VZLS0tLS0K"
DIGEST = f"@sha256:{'a' * 64}"
ASKED = [f"{host}{path}{end}" for host in HOSTS for path in [*PATHS[2:], "/other"] for end in (":v1", DIGEST)]

plain = st.sampled_from(PLAIN)
scope = st.sampled_from(PLAIN + WILD)
scopes = st.lists(scope, max_size=3, unique=True)


def _resource(kind: str, name: str, spec: Mapping[str, Any], namespace: str = "") -> Resource:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    document = {"apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": metadata, "spec": dict(spec)}
    return Resource(".", kind, name, document, Location(f"{kind}.yaml", 1))


@st.composite
def images(draw: st.DrawFn) -> Resource:
    lists: dict[str, Any] = {}
    chosen = draw(st.sampled_from(["allowedRegistries", "blockedRegistries", ""]))
    if chosen:
        lists[chosen] = draw(scopes)
    if draw(st.booleans()):
        lists["insecureRegistries"] = draw(scopes)
    if draw(st.booleans()):
        lists["containerRuntimeSearchRegistries"] = ["a.io", "b.corp"]
    return _resource("Image", "cluster", {"registrySources": lists})


@st.composite
def mirror_sets(draw: st.DrawFn, kind: str, rows: str) -> Resource:
    row = st.fixed_dictionaries(
        {"source": scope, "mirrors": st.lists(plain, min_size=1, max_size=3, unique=True)},
        optional={"mirrorSourcePolicy": st.just("NeverContactSource")},
    )
    name = draw(st.sampled_from(["m1", "m2", "m3"]))
    return _resource(kind, name, {rows: draw(st.lists(row, max_size=2))})


@st.composite
def policies(draw: st.DrawFn) -> Resource:
    kind, namespace = draw(st.sampled_from([("ClusterImagePolicy", ""), ("ImagePolicy", "team")]))
    policy = {"rootOfTrust": {"policyType": "PublicKey", "publicKey": {"keyData": KEY}}}
    return _resource(kind, draw(st.sampled_from("pq")), {"scopes": draw(scopes), "policy": policy}, namespace)


@st.composite
def resource_sets(draw: st.DrawFn) -> list[Resource]:
    drawn = draw(
        st.lists(
            st.one_of(
                images(),
                mirror_sets("ImageDigestMirrorSet", "imageDigestMirrors"),
                mirror_sets("ImageTagMirrorSet", "imageTagMirrors"),
                mirror_sets("ImageContentSourcePolicy", "repositoryDigestMirrors"),
                policies(),
            ),
            max_size=5,
        )
    )
    return list({resource.identity: resource for resource in drawn}.values())


@st.composite
def registries_bases(draw: st.DrawFn, places: Sequence[str] = ()) -> bytes:
    """Tables, some with a location of their own: far away, or one of `places`."""
    lines = ['unqualified-search-registries = ["c.corp"]', ""]
    for name in draw(st.lists(scope, max_size=4, unique=True)):
        wild = name.startswith("*.")
        other = (
            draw(st.sampled_from([None, *(places or [f"far.example/{name.replace(':', '-')}"])])) if not wild else None
        )
        lines.append("[[registry]]")
        lines.append(f'prefix = "{name}"' if wild or other else f'location = "{name}"  # {name}')
        lines += [f'location = "{other}"'] if other else []
        lines += [f"{flag} = true" for flag in ("blocked", "insecure", "mirror-by-digest-only") if draw(st.booleans())]
        if draw(st.booleans()):
            lines += ["[[registry.mirror]]", f'location = "{draw(plain)}"']
    if draw(st.booleans()):
        lines += ["[aliases]", '"tools" = "a.io/ops/tools"']
    return "\n".join(lines).encode()


@st.composite
def policy_bases(draw: st.DrawFn) -> bytes:
    needs = st.sampled_from([[ACCEPT], [REJECT], [SIGNED]])
    docker = draw(st.dictionaries(st.sampled_from([*PLAIN, *WILD, ""]), needs, max_size=5))
    return json.dumps({"default": draw(needs), "transports": {"docker": docker} if docker else {}}).encode()


@st.composite
def bases(draw: st.DrawFn) -> dict[str, bytes | None]:
    return {
        REGISTRIES_CONF: draw(st.none() | registries_bases()),
        POLICY_JSON: draw(st.none() | policy_bases()),
        SEARCH_REGISTRIES: draw(st.none() | st.just(b'unqualified-search-registries = ["old.corp"]\n')),
    }


def over(kind: Base, resources: list[Resource], base: Mapping[str, bytes | None]) -> Rendered:
    return render(resources, RenderOptions(base=kind, base_files=base))


def on_host(resources: list[Resource], base: Mapping[str, bytes | None]) -> Rendered:
    return over("host", resources, base)


def in_place(rendered: Rendered, base: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
    """The files of a host that had those of `base`, once the rendered ones are in place."""
    files = {file.path: file.content for file in rendered.files}
    return {POLICY_JSON: templates.POLICY_JSON, **{path: data for path, data in base.items() if data}, **files}


def node(rendered: Rendered, base: Mapping[str, bytes | None]) -> RuntimeConfig:
    """What the runtime of a host has loaded once the files are in place."""
    return load(in_place(rendered, base))


def asked(config: RuntimeConfig, text: str, namespace: str | None = None) -> Candidate:
    (candidate,) = resolve(config, text, namespace).candidates
    return candidate


@given(resource_sets(), bases(), st.randoms(use_true_random=False))
def test_the_order_of_resources_does_not_count(
    resources: list[Resource], base: dict[str, bytes | None], shuffle: random.Random
) -> None:
    mixed = list(resources)
    shuffle.shuffle(mixed)
    for kind in BASES:
        assert over(kind, mixed, base) == over(kind, resources, base) == over(kind, resources, base)


@settings(max_examples=200)
@given(resource_sets(), bases(), st.sampled_from(BASES))
def test_a_check_without_writing_finds_the_same(
    resources: list[Resource], base: dict[str, bytes | None], kind: Base
) -> None:
    options = RenderOptions(base=kind, base_files=base)
    assert check(resources, options) == render(resources, options).problems


@example(
    [],
    _resource("ImageDigestMirrorSet", "m1", {"imageDigestMirrors": [{"source": "a.io/ns", "mirrors": ["m.lan"]}]}),
    _resource("ImageTagMirrorSet", "m1", {}),
    b'[[registry]]\nprefix = "x.a.io"\nlocation = "a.io/ns"\nblocked = true\n',
)
@settings(max_examples=500)
@given(
    st.lists(images(), max_size=1),
    mirror_sets("ImageDigestMirrorSet", "imageDigestMirrors"),
    mirror_sets("ImageTagMirrorSet", "imageTagMirrors"),
    registries_bases(PLAIN[:8]),
)
def test_mirror_sets_that_meet_no_table_give_no_problem(
    image: list[Resource], by_digest: Resource, by_tag: Resource, base: bytes
) -> None:
    """A check lays only the others over the base."""
    options, resources = RenderOptions(base_files={REGISTRIES_CONF: base}), [*image, by_digest, by_tag]
    assert check(resources, options) == render(resources, options).problems


@settings(max_examples=300)
@given(resource_sets(), bases(), st.sampled_from(BASES))
def test_a_base_never_widens_what_the_resources_allow(
    resources: list[Resource], base: dict[str, bytes | None], kind: Base
) -> None:
    if kind == "openshift":
        base = {}
        if collect(resources).image is None:
            resources = []  # MCO does nothing at all without its Image
    alone, together = on_host(resources, {}), over(kind, resources, base)
    if not (alone.ok and together.ok):
        return
    strict, wide = node(alone, {}), node(together, base)
    assert wide.registries_error == ""
    for text, namespace in [(text, namespace) for text in ASKED for namespace in (None, "team")]:
        before, after = asked(strict, text, namespace), asked(wide, text, namespace)
        if before.decision in ("blocked", "rejected_by_policy"):
            assert after.decision in ("blocked", "rejected_by_policy", "error"), text
        if before.decision == "pull_if_signed":
            assert after.decision != "pull", text


@settings(max_examples=200)
@given(resource_sets(), bases())
def test_resources_never_loosen_a_demand_for_signatures(
    resources: list[Resource], base: dict[str, bytes | None]
) -> None:
    together = on_host(resources, base)
    before, after = load(base).policy(), node(together, base).policy()
    if not together.ok or isinstance(before, str):
        return
    assert isinstance(after, Policy)
    for text in ASKED:
        reference = Reference(*_split(text))
        if before.requirements(reference)[0] == ("signedBy",):
            assert after.requirements(reference)[0] != ("insecureAcceptAnything",), text


def _split(text: str) -> tuple[str, str, str]:
    name, _, digest = text.partition("@")
    return (name, "", digest) if digest else (*name.rsplit(":", 1), "")  # type: ignore[return-value]  # two parts


def named(resources: list[Resource]) -> set[str]:
    """Every scope that the resources say something about."""
    inputs = collect(resources)
    entries = [*(inputs.allowed or ()), *(inputs.blocked or ()), *(inputs.insecure or ())]
    entries += [row.source for row in inputs.rows]
    entries += [entry for policy in inputs.cluster_policies for entry in policy.scopes]
    return {entry.text for entry in entries}


def touched(name: str, by: set[str]) -> bool:
    return any(prefix_length(name, outer) >= 0 for outer in by) or any(outer in by for outer in policy_lookup(name))


@settings(max_examples=200)
@given(resource_sets(), bases())
def test_what_resources_do_not_name_stays(resources: list[Resource], base: dict[str, bytes | None]) -> None:
    together = on_host(resources, base)
    if not together.ok or collect(resources).allowed:
        return
    before, after, scopes = node(Rendered(()), base), node(together, base), named(resources)
    for text in ASKED:
        candidate = asked(before, text)
        names = [text.partition("@")[0], *(source.reference.partition("@")[0] for source in candidate.sources)]
        if not any(touched(name, scopes) for name in names):
            assert asked(after, text) == candidate


@given(bases())
def test_without_resources_there_is_the_base(base: dict[str, bytes | None]) -> None:
    """A host keeps what it has, so nothing is to be written; templates are what there is to write."""
    given = {path: content for path, content in base.items() if content is not None}
    mcos = {REGISTRIES_CONF: templates.REGISTRIES_CONF, POLICY_JSON: templates.POLICY_JSON}
    empty = _resource("Image", "cluster", {"registrySources": {"blockedRegistries": []}})
    for resources in ([], [empty]):
        assert on_host(resources, base) == Rendered(())
        for kind, wanted in (("directory", given), ("openshift", mcos)):
            rendered = over(kind, resources, base)  # type: ignore[arg-type]  # one of BASES
            assert {file.path: file.content for file in rendered.files} == wanted
            assert rendered.problems == ()


@given(resource_sets(), bases(), st.sampled_from(BASES), st.randoms(use_true_random=False))
def test_a_difference_of_class_none_changes_no_answer(
    resources: list[Resource], base: dict[str, bytes | None], kind: Base, shuffle: random.Random
) -> None:
    """Formatting, order of tables and keys, and whatever else two renderings differ in without a reason to reload."""
    rendered = over(kind, resources, base)
    files = in_place(rendered, base)
    reformatted = {path: _reformatted(path, content or b"", shuffle) for path, content in files.items()}
    assert classify(files, reformatted).disruption == "none"
    fewer = over(kind, resources[:-1], base)
    for other in (reformatted, in_place(fewer, base)):
        if rendered.ok and fewer.ok and classify(files, other).disruption == "none":
            before, after = load(files), load(other)
            assert [resolve(after, text) for text in ASKED] == [resolve(before, text) for text in ASKED]


def _reformatted(path: str, content: bytes, shuffle: random.Random) -> bytes:
    """The same file with its tables in another order, the keys too, and none of the comments."""
    if path.endswith(".yaml"):
        return content
    if path.endswith(".json"):
        return json.dumps(_other_order(json.loads(content), shuffle), indent=shuffle.choice([None, 1])).encode()
    data = tomllib.loads(content.decode())
    scopes = [table.get("prefix") or table["location"] for table in data.get("registry", [])]
    if len(set(scopes)) == len(scopes):
        shuffle.shuffle(data.get("registry", []))
    return tomlkit.dumps(_other_order(data, shuffle)).encode()


def _other_order(value: Any, shuffle: random.Random) -> Any:
    """Mappings in another order; lists stay, since the order of mirrors and search registries counts."""
    if isinstance(value, list):
        return [_other_order(item, shuffle) for item in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    shuffle.shuffle(keys)
    return {key: _other_order(value[key], shuffle) for key in keys}


@example([_resource("Image", "cluster", {"registrySources": {"allowedRegistries": ["a.io/ns/app/deep"]}})])
@given(resource_sets())
def test_over_mcos_templates_a_host_gets_mcos_files(resources: list[Resource]) -> None:
    with_image = [*resources, _resource("Image", "cluster", {})]
    with_image = list({resource.identity: resource for resource in reversed(with_image)}.values())
    base = {REGISTRIES_CONF: templates.REGISTRIES_CONF, POLICY_JSON: templates.POLICY_JSON}
    host, openshift = on_host(with_image, base), render(with_image, RenderOptions(base="openshift"))
    assert [p.name for p in host.problems] == [p.name for p in openshift.problems]
    if host.ok:
        ours, theirs = node(host, base), node(openshift, {})
        assert ours.registries == theirs.registries
        assert ours.policy() == theirs.policy()


@settings(max_examples=300)
@given(resource_sets())
def test_registries_conf_is_what_mcos_rules_say_word_for_word(resources: list[Resource]) -> None:
    inputs = collect(resources)
    rendered = render(resources, RenderOptions(base="host"))
    errors = {problem.name for problem in rendered.problems if problem.severity == "error"}
    if errors - {"wildcard-mirror-nested-scope"}:
        return
    insecure, blocked = ([entry.text for entry in found or ()] for found in (inputs.insecure, inputs.blocked))
    by_digest, by_tag = (
        [
            (row.source.text, [m.text for m in row.mirrors], row.policy == NEVER_CONTACT)
            for row in inputs.rows
            if row.by_tag == tag
        ]
        for tag in (False, True)
    )
    try:
        wanted = literal_rules.tables(insecure, blocked, by_digest, by_tag)
    except literal_rules.BelowWildcard:
        assert errors
        return
    assert not errors
    files = {file.path: file.content for file in rendered.files}
    written = tomllib.loads(files.get(REGISTRIES_CONF, b"").decode()).get("registry", [])
    assert {table.get("prefix") or table["location"]: _said(table) for table in written} == wanted


def _said(table: Mapping[str, Any]) -> dict[str, Any]:
    mirrors = [[m["location"], m["pull-from-mirror"], m.get("insecure", False)] for m in table.get("mirror", ())]
    return {**{flag: table.get(flag, False) for flag in ("blocked", "insecure")}, "mirrors": mirrors}
