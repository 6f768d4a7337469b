"""The resource kinds and their schemas, as the API server checks them (openshift/api, August 2026).

Sources: config/v1 types_image.go, types_image_digest_mirror_set.go, types_image_tag_mirror_set.go,
types_cluster_image_policy.go, types_image_policy.go; operator/v1alpha1 types_image_content_source_policy.go.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.registries import scopes
from reconciler.registries.schema import Anything, Fields, Flag, Flaw, ListOf, MapOf, Rule, Schema, Text

RESOURCE_KINDS: Mapping[str, str] = {
    "Image": "config.openshift.io/v1",
    "ImageContentSourcePolicy": "operator.openshift.io/v1alpha1",
    "ImageDigestMirrorSet": "config.openshift.io/v1",
    "ImageTagMirrorSet": "config.openshift.io/v1",
    "ClusterImagePolicy": "config.openshift.io/v1",
    "ImagePolicy": "config.openshift.io/v1",
    "ConfigMap": "v1",
}
"""Each resource kind and its apiVersion."""

KEPT_METADATA = ("name", "namespace", "labels", "annotations")
_SERVER_SET = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)

_DNS_LABEL = re.compile(r"[a-z0-9]+(?:-+[a-z0-9]+)*")
_DNS_NAME = re.compile(rf"{_DNS_LABEL.pattern}(?:\.{_DNS_LABEL.pattern})*")
_METADATA_FIELDS: Mapping[str, Schema] = {
    "name": Text(_DNS_NAME, "a lower-case DNS name", max_length=253),
    "namespace": Text(_DNS_LABEL, "a lower-case DNS label", max_length=63),
    "labels": MapOf(Text()),
    "annotations": MapOf(Text()),
    **dict.fromkeys(_SERVER_SET, Anything()),
}


def _resource(fields: Mapping[str, Schema], *, required: tuple[str, ...], namespaced: bool = False) -> Fields:
    metadata = Fields(_METADATA_FIELDS, required=("name", "namespace") if namespaced else ("name",))
    return Fields({"apiVersion": Text(), "kind": Text(), "metadata": metadata, **fields}, required=required)


def _with_spec(spec: Fields, *, namespaced: bool = False) -> Fields:
    return _resource({"spec": spec, "status": Anything()}, required=("spec",), namespaced=namespaced)


def _one_list_only(sources: Any, path: str) -> Iterator[Flaw]:
    if "allowedRegistries" in sources and "blockedRegistries" in sources:
        yield Flaw(
            "allowed-and-blocked",
            path,
            "allowedRegistries and blockedRegistries are both set; only one of them may be",
            "keep one of the two lists (an empty list counts as set)",
            sources,
        )


_ENTRY = Text(
    scopes.REGISTRY,
    "HOST[:PORT][/PATH] or *.DOMAIN, without tag or digest",
    flaw="registry-format",
    min_length=1,
    max_length=256,
)
_ENTRIES = ListOf(_ENTRY, max_items=1024)
_REGISTRY_SOURCES = Fields(
    {
        "allowedRegistries": _ENTRIES,
        "blockedRegistries": _ENTRIES,
        "insecureRegistries": _ENTRIES,
        "containerRuntimeSearchRegistries": ListOf(Text(), min_items=1, unique=True),
    },
    rules=(_one_list_only,),
)
_IMAGE = Fields(
    {
        "additionalTrustedCA": Fields({"name": Text()}, required=("name",)),
        "allowedRegistriesForImport": ListOf(Fields({"domainName": Text(), "insecure": Flag()})),
        "externalRegistryHostnames": ListOf(Text()),
        "imageStreamImportMode": Text(choices=("", "Legacy", "PreserveOriginal")),
        "registrySources": _REGISTRY_SOURCES,
    }
)

_SOURCE = Text(scopes.SOURCE, "HOST[:PORT][/PATH] or *.DOMAIN")
_MIRROR = Text(scopes.MIRROR, "HOST[:PORT][/PATH]")
_ROW = Fields(
    {
        "source": _SOURCE,
        "mirrors": ListOf(_MIRROR, unique=True),
        "mirrorSourcePolicy": Text(choices=("NeverContactSource", "AllowContactingSource")),
    },
    required=("source",),
)
_OLD_ROW = Fields({"source": Text(), "mirrors": ListOf(Text())}, required=("source",))


def _pem(label: str) -> Rule:
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"

    def rule(value: Any, path: str) -> Iterator[Flaw]:
        try:
            text = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            text = ""
        if not (
            text.startswith(begin) and text.removesuffix("\n").endswith(end) and text.count(begin) == text.count(end)
        ):
            remedy = f"encode the PEM text as base64: {begin} … {end}"
            yield Flaw("rule", path, f"is not the base64 encoding of a PEM {label}", remedy)

    return rule


def _key(label: str, min_length: int = 0) -> Text:
    return Text(min_length=min_length, max_length=8192, rules=(_pem(label),))


def _goes_with(selector: str, variants: Mapping[str, str]) -> Rule:
    """For each value of `selector` one field must be there, and only that one."""

    def rule(value: Any, path: str) -> Iterator[Flaw]:
        for choice, field in variants.items():
            chosen = value.get(selector) == choice
            if chosen and field not in value:
                yield Flaw("rule", path, f"{field} is required when {selector} is {choice}", f"add {field}", value)
            if not chosen and field in value:
                yield Flaw("rule", path, f"{field} is only for {selector}: {choice}", f"remove {field}", value)

    return rule


def _email_or_hostname(value: Any, path: str) -> Iterator[Flaw]:
    if "email" not in value and "hostname" not in value:
        yield Flaw("rule", path, "one of email and hostname must be set", "add email or hostname", value)


_EMAIL = Text(re.compile(r"\S+@\S+"), "an email address", flaw="rule", max_length=320)
_FULCIO = Fields(
    {
        "fulcioCAData": _key("CERTIFICATE"),
        "rekorKeyData": _key("PUBLIC KEY"),
        "fulcioSubject": Fields(
            {
                "oidcIssuer": Text(
                    re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+|/\S*"), "a URL", flaw="rule", max_length=2048
                ),
                "signedEmail": _EMAIL,
            },
            required=("oidcIssuer", "signedEmail"),
        ),
    },
    required=("fulcioCAData", "fulcioSubject", "rekorKeyData"),
)
_PKI = Fields(
    {
        "caRootsData": _key("CERTIFICATE", 72),
        "caIntermediatesData": _key("CERTIFICATE", 72),
        "pkiCertificateSubject": Fields(
            {
                "email": _EMAIL,
                "hostname": Text(
                    re.compile(rf"(?:\*\.)?{_DNS_NAME.pattern}"), "a host name or *.DOMAIN", flaw="rule", max_length=253
                ),
            },
            rules=(_email_or_hostname,),
        ),
    },
    required=("caRootsData", "pkiCertificateSubject"),
)
_ROOT_OF_TRUST = Fields(
    {
        "policyType": Text(choices=("PublicKey", "FulcioCAWithRekor", "PKI")),
        "publicKey": Fields(
            {"keyData": _key("PUBLIC KEY", 68), "rekorKeyData": _key("PUBLIC KEY")}, required=("keyData",)
        ),
        "fulcioCAWithRekor": _FULCIO,
        "pki": _PKI,
    },
    required=("policyType",),
    rules=(
        _goes_with("policyType", {"PublicKey": "publicKey", "FulcioCAWithRekor": "fulcioCAWithRekor", "PKI": "pki"}),
    ),
)
_REPOSITORY = Text(scopes.QUALIFIED, "a repository or prefix with its registry host", flaw="rule", max_length=512)
_SIGNED_IDENTITY = Fields(
    {
        "matchPolicy": Text(choices=("MatchRepoDigestOrExact", "MatchRepository", "ExactRepository", "RemapIdentity")),
        "exactRepository": Fields({"repository": _REPOSITORY}, required=("repository",)),
        "remapIdentity": Fields(
            {"prefix": _REPOSITORY, "signedPrefix": _REPOSITORY}, required=("prefix", "signedPrefix")
        ),
    },
    required=("matchPolicy",),
    rules=(_goes_with("matchPolicy", {"ExactRepository": "exactRepository", "RemapIdentity": "remapIdentity"}),),
)
_POLICY = Fields(
    {
        "scopes": ListOf(
            Text(
                scopes.POLICY, "a registry, repository or *.DOMAIN with its full host name", flaw="rule", max_length=512
            ),
            max_items=256,
            unique=True,
        ),
        "policy": Fields(
            {"rootOfTrust": _ROOT_OF_TRUST, "signedIdentity": _SIGNED_IDENTITY}, required=("rootOfTrust",)
        ),
    },
    required=("policy", "scopes"),
)

SCHEMAS: Mapping[str, Fields] = {
    "Image": _with_spec(_IMAGE),
    "ImageContentSourcePolicy": _with_spec(Fields({"repositoryDigestMirrors": ListOf(_OLD_ROW)})),
    "ImageDigestMirrorSet": _with_spec(Fields({"imageDigestMirrors": ListOf(_ROW)})),
    "ImageTagMirrorSet": _with_spec(Fields({"imageTagMirrors": ListOf(_ROW)})),
    "ClusterImagePolicy": _with_spec(_POLICY),
    "ImagePolicy": _with_spec(_POLICY, namespaced=True),
    # What is in a CA ConfigMap is checked by registries.certs.
    "ConfigMap": _resource({"data": Anything(), "binaryData": Anything(), "immutable": Flag()}, required=()),
}
