"""Every trap that `lint` knows, by name: docs/reference/lint.md has the same names, each with its story."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from reconciler.registries.model import Location, Problem


class Lint(NamedTuple):
    """`error`: a file cannot be loaded or pulls fail; `warning`: it does less, or other things, than it seems."""

    severity: Literal["error", "warning"]
    summary: str


def _error(summary: str) -> Lint:
    return Lint("error", summary)


def _warning(summary: str) -> Lint:
    return Lint("warning", summary)


LINTS: Mapping[str, Lint] = {
    # registries.conf and its drop-ins, alone
    "broken-toml": _error("the file is not valid TOML"),
    "wrong-type": _error("a key has a value of the wrong type"),
    "unloadable": _error("the runtime refuses the file for another reason"),
    "scheme-in-location": _error("a location begins with http:// or https://"),
    "no-scope": _error("a table has neither location nor prefix, or a prefix that needs a location"),
    "wildcard-form": _error("a wildcard is not of the form *.example.com, or stands in location"),
    "both-mirror-syntaxes": _error("mirror-by-digest-only and pull-from-mirror in one registry"),
    "pull-from-mirror": _error("pull-from-mirror has an unknown value, or stands outside a mirror"),
    "mirror-without-location": _error("a mirror has no location"),
    "conflicting-flags": _error("tables of one location disagree about blocked or insecure"),
    "search-entry": _error("a search registry is not host[:port]"),
    "old-form": _warning("the version 1 form, [registries.search] and the like"),
    "duplicate-table": _warning("a second table of one prefix is ignored"),
    "unknown-key": _warning("an unknown key is ignored"),
    "tag-in-location": _warning("a table for a tag or digest never matches"),
    "never-matches": _warning("a table or scope that no image name can match"),
    "mirror-malformed": _error("no image name comes out of a mirror or location: every pull through the table fails"),
    "mirror-rewrite": _warning("an image named exactly like the table, or in one path component, cannot be pulled"),
    "mirror-is-source": _warning("a mirror is the source itself"),
    "digest-only-blocked": _warning("a blocked source whose mirrors serve digests only: no tag can be pulled"),
    # registries.conf together with its drop-ins
    "drop-in-ignored": _warning("a drop-in that the runtime does not read"),
    "drop-in-replaces": _warning("a drop-in replaces a whole table of another file"),
    "search-replaced": _warning("a drop-in replaces the search list of another file"),
    "ambiguous-short-names": _warning("two or more search registries: newer CRI-O refuses every short name"),
    "parent-not-combined": _warning("a narrower table does not inherit from the wider one"),
    "wildcard-wins": _warning("a table that a wildcard of equal length wins against"),
    "mirror-blocked": _warning("a mirror that another table blocks"),
    "mirror-insecure-elsewhere": _warning("a mirror that only its own table calls insecure"),
    "mirror-chain": _warning("a mirror that has mirrors of its own"),
    # policy.json, and policies of namespaces
    "broken-json": _error("the file is not valid JSON"),
    "policy-unloadable": _error("the runtime refuses the policy, and with it every pull"),
    "atomic-scope": _error("a scope under atomic that makes the whole policy unloadable"),
    "tag-in-scope": _warning("a policy scope for one tag or digest"),
    "default-unused": _warning("a scope for everything makes the default meaningless"),
    # across files
    "port-not-covered": _warning("a policy scope does not cover the same host with a port"),
    "port-covered": _warning("a blocked table covers the same host with a port"),
    "policy-rejects-mirrored": _warning("the policy rejects a source, so its mirrors are never used"),
    "attachments-missing": _warning("signatures are demanded, and nothing says where they are found"),
    "home-hides-etc": _warning("a file in a home directory hides the one in /etc"),
    "policy-elsewhere": _warning("CRI-O is told to read another policy"),
    # registries.d
    "broken-yaml": _error("the file is not valid YAML, or not of the form of registries.d"),
    "duplicate-namespace": _error("two files of registries.d define the same"),
    # certs.d
    "broken-pem": _error("a certificate file without a usable certificate"),
    "not-a-ca": _warning("a certificate that is no CA certificate"),
    "private-key": _error("a private key in a certificate file"),
    "client-pair": _error("a client certificate without its key, or a key without its certificate"),
    "cert-ignored": _warning("a file in certs.d that the runtime does not read"),
    "cert-directory": _warning("a directory of certs.d that no registry matches"),
    "certs-hidden": _warning("a directory of certs.d that an earlier one hides"),
}
"""Every trap, in the order of the reference."""


def fault(name: str, path: str, line: int, message: str, remedy: str) -> Problem:
    """The problem `name` at a line of a file."""
    return Problem(name, message, Location(path, line), remedy=remedy, severity=LINTS[name].severity)
