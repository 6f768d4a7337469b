"""Generated trials for the judges: a node's files and image names, drawn from a seed; equal seeds, equal trials.

Half of them hold what `render` made of resources, half are files as people write them, wrong ones among them.
Alphabets are small, so that scopes, mirrors and names meet often.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import tomlkit

from reconciler.registries import templates
from reconciler.registries.model import (
    POLICY_JSON,
    REGISTRIES_CONF,
    REGISTRIES_CONF_D,
    SEARCH_REGISTRIES,
    Location,
    RenderOptions,
    Resource,
)
from reconciler.registries.render import render
from reconciler.registries.runtime_config import ROOT_CONFIG, load
from reconciler.registries.scopes import loads_in_atomic, prefix_length
from tests.judges import Ask, Files, Trial

_PLAIN_HTTP = ["b.corp", "b.corp:5000", "x.b.corp", "p.lan"]
_TLS = ["a.io", "a.io:5000", "x.a.io", "x.a.io:5000", "m.lan", "docker.io"]
_HOSTS = ["a.io", "a.io:5000", "x.a.io", "x.a.io:5000", "b.corp", "b.corp:5000", "x.b.corp", "docker.io", "d.lan"]
_PATHS = ["", "/ns", "/ns/app", "/ns/app/deep"]
_WILDCARDS = ["*.a.io", "*.io", "*.b.corp", "*.corp"]
_MIRRORS = [
    "m.lan",
    "m.lan/ns",
    "m.lan/only-tls",
    "p.lan",
    "p.lan/x",
    "p.lan/gone",
    "m.lan/gone",
    "d.lan",
    "a.io:5000/ns",
    "b.corp",
]
_REPOSITORIES = ["app", "ns/app", "ns/app/deep", "ns/other", "ns/only-tls", "only-plain"]
_SHORT = ["app", "ns/app", "ns/only-tls", "only-plain", "tool", "nothing"]
_REAL = _HOSTS[:-1]
_NAMES = [f"{host}/{path}" for host in _REAL for path in _REPOSITORIES]
_OTHER_DIGEST = f"sha256:{'9' * 64}"
_SIGNING_KEY = (
    "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUZrd0V3WUhLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFeEtCSnpKS1EzWXgvUjR6YQpq"
    "eVJ2MXVuQ0IvYmY2QzN5MHlRTmJOc0ZYc1BBclNoMDFQZ2k2SzZSR0ZlRk9ZNlZSNmpqa2c2RkQ0L2tMT1NpMG5oMVNnPT0KLS0tLS1FTkQg"
    "UFVCTElDIEtFWS0tLS0tCg=="
)
_ACCEPT, _REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
_SIGNED = [{"type": "sigstoreSigned", "keyData": _SIGNING_KEY}]


def trial(seed: int, digest: str, authority: bytes) -> Trial:
    """The trial of a number: five names, for an image with `digest` and registries whose CA is `authority`."""
    draw = _Draw(Random(seed), authority)
    files = draw.rendered() if seed % 2 else draw.hand_made()
    return Trial(files, [*(draw.full_name(files, digest) for _ in range(4)), draw.podman_name(digest)])


class _Draw:
    """One trial being drawn."""

    def __init__(self, random: Random, authority: bytes) -> None:
        self.random = random
        self.authority = authority

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def some(self, pool: list[str], most: int, least: int = 0) -> list[str]:
        return self.random.sample(pool, self.random.randint(least, most))

    def scope(self) -> str:
        if self.chance(20):
            return self.random.choice(_WILDCARDS)
        return self.random.choice(_HOSTS) + self.random.choice(_PATHS)

    def scopes(self, most: int) -> list[str]:
        return list(dict.fromkeys(self.scope() for _ in range(self.random.randint(1, most))))

    # --- names ------------------------------------------------------------------------------------------------------

    def full_name(self, files: Files, digest: str) -> Ask:
        """With its registry; most often one that a table is for."""
        host, path = self.random.choice(_REAL), self.random.choice(_REPOSITORIES)
        tables = sorted(load(files).registries.items())
        if tables and self.chance(80):
            with_mirrors = [item for item in tables if item[1].mirrors]
            scope, _ = self.random.choice(with_mirrors or tables if self.chance(70) else tables)
            named = [name for name in _NAMES if prefix_length(name, scope) > 0]
            if named and self.chance(95):
                return Ask("skopeo", self.random.choice(named) + self.suffix(digest))
        return Ask("skopeo", f"{host}/{path}{self.suffix(digest)}")

    def suffix(self, digest: str) -> str:
        return self.random.choices([":v1", f"@{digest}", "", ":v9", f"@{_OTHER_DIGEST}"], [45, 40, 7, 4, 4])[0]

    def podman_name(self, digest: str) -> Ask:
        """A short name, or one with tag and digest, which skopeo does not take."""
        if self.chance(20):
            name = f"{self.random.choice(_HOSTS)}/{self.random.choice(_REPOSITORIES)}"
            return Ask("podman", f"{name}:v1@{digest}")
        return Ask("podman", self.random.choice(_SHORT) + self.suffix(digest))

    # --- what render makes ------------------------------------------------------------------------------------------

    def rendered(self) -> Files:
        while True:
            files = self._rendered()
            if files is not None:
                return files

    def _rendered(self) -> Files | None:
        """None where these resources are refused."""
        base: dict[str, bytes | None] = {}
        on_host = self.chance(60)
        if on_host:
            base = {POLICY_JSON: self.policy() if self.chance(40) else templates.POLICY_JSON}
            base[REGISTRIES_CONF] = self.registries(2) if self.chance(50) else None
        options = RenderOptions(base="host" if on_host else "openshift", base_files=base)
        rendered = render(self.resources(), options)
        if not rendered.ok:
            return None
        return {**base, **{file.path: file.content for file in rendered.files}}

    def resources(self) -> list[Resource]:
        hosts = self.some(_TLS, len(_TLS), 4)
        keys = {host.replace(":", ".."): self.authority.decode() for host in hosts}
        resources = [self.image(), _resource("ConfigMap", "ca", {"data": keys}, "openshift-config")]
        for kind, rows in (
            ("ImageDigestMirrorSet", "imageDigestMirrors"),
            ("ImageTagMirrorSet", "imageTagMirrors"),
            ("ImageContentSourcePolicy", "repositoryDigestMirrors"),
        ):
            if self.chance(50):
                resources.append(_resource(kind, "mirrors", {"spec": {rows: self.rows()}}))
        if self.chance(15):
            policy = {"rootOfTrust": {"policyType": "PublicKey", "publicKey": {"keyData": _SIGNING_KEY}}}
            spec = {"scopes": self.scopes(2), "policy": policy}
            resources.append(_resource("ClusterImagePolicy", "signed", {"spec": spec}))
        return resources

    def image(self) -> Resource:
        lists: dict[str, Any] = {}
        if self.chance(60):
            lists[self.random.choice(["allowedRegistries", "blockedRegistries", "blockedRegistries"])] = self.scopes(3)
        if self.chance(80):
            lists["insecureRegistries"] = self.some(_PLAIN_HTTP, 4, 1) + self.scopes(1) * self.chance(30)
        if self.chance(60):
            lists["containerRuntimeSearchRegistries"] = self.search()
        spec = {"registrySources": lists, "additionalTrustedCA": {"name": "ca"}}
        return _resource("Image", "cluster", {"spec": spec})

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {"source": source, "mirrors": self.some(_MIRRORS, 3, 1)}
            | ({"mirrorSourcePolicy": "NeverContactSource"} if self.chance(25) else {})
            for source in self.scopes(2)
        ]

    def search(self) -> list[str]:
        return self.some(_HOSTS, 3)

    # --- what people write ------------------------------------------------------------------------------------------

    def hand_made(self) -> Files:
        files: dict[str, bytes | None] = {POLICY_JSON: self.policy()}
        if self.chance(95):
            files[REGISTRIES_CONF] = self.version_1() if self.chance(6) else self.registries(5)
        if self.chance(30):
            files[SEARCH_REGISTRIES] = _toml({"unqualified-search-registries": self.search()})
        for name in self.some(["00-first.conf", "50-more.conf", "99-last.conf", "notes.txt"], 2):
            files[f"{REGISTRIES_CONF_D}/{name}"] = self.registries(2)
        if self.chance(5):
            files[f"{ROOT_CONFIG}/registries.conf"] = self.registries(3)
        if self.chance(5):
            files[f"{ROOT_CONFIG}/registries.conf.d/10-own.conf"] = self.registries(2)
        if self.chance(5):
            files[f"{ROOT_CONFIG}/policy.json"] = self.policy()
        return files | self.certificates()

    def certificates(self) -> dict[str, bytes | None]:
        """Most often all of them; a later directory is hidden by an earlier one, also by an empty file in it."""
        files: dict[str, bytes | None] = {}
        for host in _TLS:
            if self.chance(90):
                files[f"/etc/docker/certs.d/{host}/{self.random.choice(['ca.crt', 'own.crt', 'ca.pem'])}"] = (
                    self.authority
                )
            if self.chance(3):
                files[f"{ROOT_CONFIG}/certs.d/{host}/ca.crt"] = self.random.choice([self.authority, b""])
            if self.chance(10):
                files[f"/etc/containers/certs.d/{host}/ca.crt"] = self.random.choice([self.authority, b""])
        return files

    def registries(self, most: int) -> bytes:
        document: dict[str, Any] = {}
        if self.chance(70):
            document["unqualified-search-registries"] = self.search()
        if self.chance(20):
            document["aliases"] = {"tool": f"{self.random.choice(_HOSTS)}/ns/app"}
        tables = [self.table() for _ in range(self.random.randint(0, most))]
        if self.chance(60):
            known = {table.get(key) for table in tables for key in ("location", "prefix")}
            tables += [{"location": host, "insecure": True} for host in _PLAIN_HTTP if host not in known]
        document["registry"] = tables
        if self.chance(3):
            document["registry"].append({"location": "https://a.io"})
        return _toml(document)

    def table(self) -> dict[str, Any]:
        table: dict[str, Any] = {}
        scope = self.scope()
        if scope.startswith("*."):
            table["prefix"] = scope
        elif self.chance(30):
            table |= {"prefix": scope, "location": self.random.choice(_MIRRORS)}
        else:
            table["location"] = scope
        secure = table.get("location", scope).partition("/")[0] not in _PLAIN_HTTP
        if self.chance(10) if secure else self.chance(80):
            table["insecure"] = True
        if self.chance(15):
            table["blocked"] = True
        by_digest_only = self.chance(15)
        if by_digest_only:
            table["mirror-by-digest-only"] = True
        if self.chance(55):
            table["mirror"] = [self.mirror(by_digest_only) for _ in range(self.random.randint(1, 3))]
        return table

    def mirror(self, by_digest_only: bool) -> dict[str, Any]:
        mirror: dict[str, Any] = {"location": self.random.choice(_MIRRORS)}
        secure = mirror["location"].partition("/")[0] not in _PLAIN_HTTP
        if self.chance(10) if secure else self.chance(80):
            mirror["insecure"] = True
        if not by_digest_only and self.chance(40):
            mirror["pull-from-mirror"] = self.random.choice(["all", "digest-only", "tag-only"])
        return mirror

    def version_1(self) -> bytes:
        lists = {"search": self.search(), "insecure": self.some(_PLAIN_HTTP, 3, 1), "block": self.scopes(2)}
        plain = [scope for scope in lists["block"] if not scope.startswith("*.")]
        return _toml(
            {"registries": {**{k: {"registries": v} for k, v in lists.items()}, "block": {"registries": plain}}}
        )

    def policy(self) -> bytes:
        scopes = {scope: self.demand() for scope in self.scopes(4)}
        if self.chance(20):
            scopes[f"{self.random.choice(_HOSTS)}/ns/app:v1"] = self.demand()
        if self.chance(5):
            scopes[""] = self.demand()
        policy: dict[str, Any] = {"default": _REJECT if self.chance(10) else _ACCEPT}
        if self.chance(50):
            policy["transports"] = {"docker": scopes, "atomic": _shallow(scopes) if self.chance(10) else {}}
        if self.chance(3):
            policy["note"] = "an unknown key"
        return json.dumps(policy).encode()

    def demand(self) -> list[dict[str, str]]:
        return self.random.choices([_ACCEPT, _REJECT, _SIGNED], [5, 4, 1])[0]


def _shallow(scopes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that transport atomic may hold; with others, programs that know it cannot load the file."""
    return {scope: demand for scope, demand in scopes.items() if loads_in_atomic(scope)}


def _resource(kind: str, name: str, body: Mapping[str, Any], namespace: str = "") -> Resource:
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    document = {"apiVersion": "v1", "kind": kind, "metadata": metadata, **body}
    return Resource(".", kind, name, document, Location(f"{kind}.yaml", 1))


def _toml(value: Mapping[str, Any]) -> bytes:
    return tomlkit.dumps(value).encode()
