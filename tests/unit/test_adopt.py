"""What resources say of hosts, and what stays: tests/cases/adopt holds the files of a host and both."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.adoption.grouping import HostFiles, group_hosts
from reconciler.adoption.hosts import Login, host_at
from reconciler.adoption.proof import prove
from reconciler.adoption.repository import repository
from reconciler.registries.adopt import Adoption, Keep, infer
from reconciler.registries.behaviour import contrast, differences
from reconciler.registries.disruption import Files
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, Location, RenderOptions, Resource
from reconciler.registries.remainder import REMAINDERS
from reconciler.registries.render import render
from tests.authorities import certificate, private_key

FOLDER = Path(__file__).parents[1] / "cases" / "adopt"
CASES = {case["name"]: case for path in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(path.read_text())}
SAID = ("search", "allowed", "blocked", "insecure")


def files_of(case: dict[str, Any]) -> Files:
    return {
        path if path.startswith("/") else f"/etc/containers/{path}": text.encode()
        for path, text in case["files"].items()
    }  # fmt: skip


def said(adoption: Adoption) -> dict[str, Any]:
    """The facts as a case writes them."""
    facts = adoption.facts
    found: dict[str, Any] = {name: sorted(getattr(facts, name)) for name in SAID}
    found["search"] = [list(names) for names in found["search"]]
    for name in ("digest_rows", "tag_rows"):
        found[name] = {row.source: list(row.mirrors) for row in getattr(facts, name)}
    found["never"] = sorted({row.source for row in facts.digest_rows | facts.tag_rows if row.never})
    return {name: value for name, value in found.items() if value}


def stays(adoption: Adoption) -> dict[str, Any]:
    found: dict[str, list[str]] = defaultdict(list)
    for item in adoption.stays:
        found[item.what].append(item.name)
    return {what: sorted(names) if what == "the whole file" else names[0] for what, names in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_host(name: str) -> None:
    case = CASES[name]
    exact, alike = (infer([files_of(case)], keep) for keep in ("bytes", "behaviour"))
    assert (said(exact), stays(exact)) == (case["bytes"], case.get("stays", {}))
    expected = case.get("behaviour", case["bytes"]), case.get("behaviour_stays", case.get("stays", {}))
    assert (said(alike), stays(alike)) == expected


def test_every_reason_has_a_case() -> None:
    found = {name for case in CASES.values() for name in _names(case)}
    assert found == set(REMAINDERS)


@pytest.mark.docs
def test_the_page_has_every_reason() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/adopt-a-fleet.md").read_text()
    assert [f"| `{name}` | {why} |" for name, why in REMAINDERS.items()] == page.splitlines()[-len(REMAINDERS) :]


def _names(case: dict[str, Any]) -> set[str]:
    values = case.get("stays", {}).values()
    return {name for value in values for name in (value if isinstance(value, list) else [value])}


def test_certificates_become_a_config_map_where_they_are_certificates() -> None:
    good = certificate().encode()
    files = {
        "/etc/docker/certs.d/a.io:5000/ca.crt": good,
        "/etc/docker/certs.d/b.io/ca.crt": b"no certificate",
        "/etc/docker/certs.d/c.io/ca.crt": private_key().encode(),
        "/etc/containers/certs.d/d.io/ca.crt": good,
    }
    found = infer([files])
    assert found.facts.certificates == {("a.io:5000", good)}
    assert [item.path for item in found.stays] == sorted(set(files) - {"/etc/docker/certs.d/a.io:5000/ca.crt"})


MIRRORED = '[[registry]]\nlocation = "a.io"\n[[registry.mirror]]\nlocation = "m.io"\n'
INSECURE = '[[registry]]\nlocation = "lab.corp"\ninsecure = true\n'
ALLOW = '{"default": [{"type": "reject"}], "transports": {"docker": {"a.io": [{"type": "insecureAcceptAnything"}]}}}'


def host(name: str, registries: str, policy: str | None = None) -> HostFiles:
    files: dict[str, bytes | None] = {REGISTRIES_CONF: registries.encode()}
    return HostFiles(name, files | ({POLICY_JSON: policy.encode()} if policy else {}))


@pytest.mark.parametrize("keep", ["bytes", "behaviour"])
def test_groups_outliers_and_what_they_share(keep: Keep) -> None:
    hosts = [host(f"a{n}", MIRRORED if n % 2 else f"# hand-made\n{MIRRORED}") for n in range(6)]
    hosts += [host(f"b{n}", MIRRORED + INSECURE) for n in range(3)]
    hosts += [host("c", MIRRORED, ALLOW), host("d", INSECURE)]
    layout = group_hosts(hosts[::-1], keep)
    assert layout == group_hosts(hosts, keep)
    assert [(group.name, len(group.hosts)) for group in layout.groups] == [
        ("group-1", 6), ("group-2", 3), ("outlier-1", 1), ("outlier-2", 1),
    ]  # fmt: skip
    assert {row.source for row in layout.common.digest_rows} == {"a.io"}
    assert not layout.common.image_part
    assert [group.paths for group in layout.groups] == [
        ["common", "groups/group-1"],
        ["common", "groups/group-2"],
        ["common", "groups/outlier-1"],
        ["groups/outlier-2"],
    ]
    assert [bool(group.own) for group in layout.groups] == [False, True, True, True]
    assert [(group.nearest, len(group.differs)) for group in layout.groups[2:]] == [("group-1", 3), ("group-2", 1)]


def test_a_group_keeps_only_what_leaves_each_of_its_hosts_as_it_is() -> None:
    """The same table in the main file of one host and in a drop-in of another: a resource would write it twice."""
    other = {f"{REGISTRIES_CONF}.d/10-lab.conf": INSECURE.encode()}
    one = {REGISTRIES_CONF: INSECURE.encode()}
    (group,) = group_hosts([HostFiles("a", one), HostFiles("b", other)], "bytes").groups
    assert not group.adoption.facts
    assert infer([one]).facts.insecure == {"lab.corp"}


def test_a_host_that_mco_rendered_is_whole_in_git() -> None:
    image = {"spec": {"registrySources": {"insecureRegistries": ["a.io"], "blockedRegistries": ["b.io"]}}}
    document = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, **image}
    resource = Resource(".", "Image", "cluster", document, Location("image.yaml", 1))
    files = {file.path: file.content for file in render([resource], RenderOptions(base="openshift")).files}
    (mco,) = group_hosts([HostFiles("a", files)], "behaviour").groups
    (hand_made,) = group_hosts(
        [HostFiles("b", {**files, REGISTRIES_CONF: files[REGISTRIES_CONF] + ALIAS})], "bytes"
    ).groups
    assert (mco.whole, hand_made.whole) == (True, False)
    assert mco.adoption.facts.blocked == hand_made.adoption.facts.blocked == {"b.io"}


ALIAS = b'\n[aliases]\n"tools" = "a.io/tools"\n'
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def written(hosts: list[HostFiles]) -> dict[str, str]:
    """The repository that an import of these hosts writes."""
    found = {host.name: host_at(host.name, Login(), "here") for host in hosts}
    return repository(group_hosts(hosts, "bytes"), found, "crio")


def test_the_proof_sees_what_a_repository_would_change() -> None:
    hosts = [host(f"a{n}", MIRRORED + INSECURE) for n in range(3)]
    files = written(hosts)
    other = [
        HostFiles("a0", hosts[0].files, modes={REGISTRIES_CONF: 0o600}),
        host("a1", MIRRORED),
        host("a2", "[[registry"),
    ]
    assert [plan.empty for plan in prove(files, hosts, NOW)[0]] == [True, True, True]
    mode, content, broken = prove(files, other, NOW)[0]
    assert (mode.changed, mode.behaviour, mode.empty) == ((REGISTRIES_CONF,), (), False)
    assert (content.changed, content.disruption) == ((REGISTRIES_CONF,), "drain")
    assert [reason.partition(";")[0] for reason in content.reasons] == [
        "insecure registry lab.corp added: unsafe, drain"
    ]
    assert content.behaviour[0].startswith("lab.corp/app/deep:v1: pull from lab.corp/app/deep:v1 → pull from")
    assert "base-unreadable" in broken.error
    assert not broken.empty


def test_a_repository_says_each_thing_once_and_is_accepted() -> None:
    pem = certificate().encode()
    trusting = {"/etc/docker/certs.d/a.io:5000/ca.crt": pem, REGISTRIES_CONF: (MIRRORED + INSECURE).encode()}
    hosts = [HostFiles(f"a{n}", trusting) for n in range(6)]
    hosts += [host(f"c{n}", MIRRORED) for n in range(4)]
    files = written(hosts)
    assert sorted(path for path in files if not path.endswith(("pool.yaml", "nodes.yaml"))) == [
        "README.md",
        "common/mirrors.yaml",
        "groups/group-1/image.yaml",
        "groups/group-1/registry-cas.yaml",
    ]
    assert pem.decode().splitlines()[1] in files["groups/group-1/registry-cas.yaml"]
    pools = [yaml.safe_load(text) for path, text in files.items() if path.endswith("pool.yaml")]
    assert {pool["spec"]["mode"] for pool in pools} == {"observe"}
    plans, warnings = prove(files, hosts, NOW)
    assert all(plan.empty for plan in plans)
    assert [warning.count("insecure-registry") for warning in warnings] == [1]


def test_differences_are_told_in_words() -> None:
    before = {REGISTRIES_CONF: MIRRORED.encode(), POLICY_JSON: ALLOW.encode()}
    after = {REGISTRIES_CONF: (MIRRORED.replace("m.io", "n.io") + INSECURE).encode(), POLICY_JSON: ALLOW.encode()}
    assert differences(before, before) == ()
    assert "a.io/app:v1: pull from m.io/app:v1, a.io/app:v1 → pull from n.io/app:v1, a.io/app:v1" in differences(
        before, after
    )
    assert contrast(before, after) == (
        "registry a.io: mirrors by digest m.io, mirrors by tag m.io → mirrors by digest n.io, mirrors by tag n.io",
        "registry lab.corp: nothing → insecure",
    )
