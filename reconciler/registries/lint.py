"""Traps in hand-written files of a host: registries.conf, its drop-ins, policy.json, registries.d, certs.d.

What is looked for stands in `lint_catalogue`. Only what the files themselves show is found: nothing is contacted,
and a file that is not given is taken to be absent.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from reconciler.registries.evidence import line_of_fault
from reconciler.registries.lint_across import Tables, check_registries, image_options, in_force
from reconciler.registries.lint_catalogue import fault
from reconciler.registries.lint_certs import check_certificates, check_signature_stores
from reconciler.registries.lint_hosts import Host, home_of, hosts_of, is_drop_in_read
from reconciler.registries.lint_policy import PolicySheet, check_mirrored, check_policy, check_ports
from reconciler.registries.lint_registries import Sheet, check_file
from reconciler.registries.model import Location, Problem
from reconciler.registries.runtime_config import ROOT_CONFIG, registries_paths
from reconciler.registries.scopes import policy_lookup

_PORT = re.compile(r"[^/]*:[0-9]+(?=/|$)")


def lint(files: Mapping[str, bytes]) -> tuple[Problem, ...]:
    """Every trap in `files`, by file and line. Paths are as given; `lint_hosts` tells which file of which host each is.

    Files of one host are judged together. A private key's content is not looked at and may be left empty.
    """
    found = [problem for host in hosts_of(files) for problem in _host(host)]
    return tuple(sorted(dict.fromkeys(found), key=_by_place))


def _by_place(problem: Problem) -> tuple[str, int, str]:
    place = problem.location or Location("", 0)
    return place.file, place.line, str(problem)


def _host(host: Host) -> Iterator[Problem]:
    """All problems of one host, at the places that were given."""
    for problem in _problems(host):
        place = problem.location
        yield problem if place is None else replace(problem, location=Location(host.given[place.file], place.line))


def _problems(host: Host) -> Iterator[Problem]:
    sheets: dict[str, Sheet | None] = {}
    for path in host.of("registries", "drop-in"):
        if ".conf.d/" in path and not is_drop_in_read(path):
            remedy = "name it NAME.conf, directly in the directory"
            yield fault("drop-in-ignored", path, 1, "the runtime reads only *.conf here, and no subdirectories", remedy)
            continue
        sheets[path], problems = check_file(path, host.files[path], drop_in=".conf.d/" in path)
        yield from problems
    policies: list[PolicySheet] = []
    for path in host.of("policy"):
        policy, problems = check_policy(path, host.files[path])
        policies += [policy] if policy else []
        yield from problems
    loaded = [sheets[path] for path in registries_paths(host.files) if path in sheets]
    in_order = [sheet for sheet in loaded if sheet is not None]
    if len(in_order) == len(loaded):  # else the runtime has no registries at all
        yield from _registries(host, in_order, policies)
    stores, problems = check_signature_stores(host)
    yield from problems
    yield from _attachments(policies, stores)
    yield from check_certificates(host)
    yield from _crio(host)
    yield from _homes(host)


def _registries(host: Host, sheets: Sequence[Sheet], policies: Sequence[PolicySheet]) -> Iterator[Problem]:
    tables = in_force(sheets)
    yield from check_registries(host, sheets)
    yield from check_mirrored(host, policies, tables)
    yield from check_ports(policies, tables, _ports_named(host, sheets, tables, policies))


def _ports_named(
    host: Host, sheets: Sequence[Sheet], tables: Tables, policies: Sequence[PolicySheet]
) -> dict[str, str]:
    """Each HOST:PORT in a table, mirror, search list, policy or certs.d, and the first place that names it."""
    named: list[tuple[str, str]] = []
    for scope, table in tables.items():
        path = table.sheet.path
        named.append((scope, host.at(path, table.line())))
        for number, mirror in enumerate(table.registry.mirrors):
            named.append((mirror.location, host.at(path, table.line("mirror", number))))
    for sheet in sheets:
        line = sheet.line("unqualified-search-registries")
        named += [(entry, host.at(sheet.path, line)) for entry in sheet.file.search or ()]
    for policy in policies:
        named += [(scope, host.at(policy.path, policy.line(scope))) for scope in policy.policy.scopes]
    named += [(path.split("/")[-2], host.at(path, 1)) for path in host.of("certificate")]
    found: dict[str, str] = {}
    for name, where in named:
        host_port = _PORT.match(name)
        if host_port:
            found.setdefault(host_port[0], where)
    return found


def _attachments(policies: Sequence[PolicySheet], stores: Mapping[str, Mapping[str, object]]) -> Iterator[Problem]:
    """A sigstore signature is looked for beside the image only where registries.d says so."""
    for sheet in policies:
        for scope, needs in sheet.policy.scopes.items():
            if "sigstoreSigned" not in needs:
                continue
            outer = next((name for name in policy_lookup(scope) if name and name in stores), "default-docker")
            if not (stores.get(outer) or {}).get("use-sigstore-attachments"):
                message = f"{scope} must be signed, and registries.d does not say that its signatures lie beside images"
                remedy = (
                    f"docker: {{{scope}: {{use-sigstore-attachments: true}}}} in /etc/containers/registries.d/NAME.yaml"
                )
                yield fault("attachments-missing", sheet.path, sheet.line(scope), message, f"write {remedy}")


def _crio(host: Host) -> Iterator[Problem]:
    """A drop-in of CRI-O that cannot be read keeps registries from being reloaded; one option moves the policy."""
    for path in host.of("crio"):
        content = host.files[path]
        try:
            tomllib.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            said = str(error) or "it is nested too deeply"
            remedy = "correct it: a reload of CRI-O stops here, before it reads any registries"
            yield fault("broken-toml", path, line_of_fault(content, said), f"not valid TOML: {said}", remedy)
            continue
        elsewhere = image_options(content).get("signature_policy")
        if elsewhere:
            line = next((n for n, row in enumerate(content.splitlines(), 1) if b"signature_policy" in row), 1)
            message = f"CRI-O reads {elsewhere}, not /etc/containers/policy.json"
            yield fault("policy-elsewhere", path, line, message, "remove signature_policy, or keep the policy there")


def _homes(host: Host) -> Iterator[Problem]:
    """A user's own files take the place of those in /etc."""
    for path in host.of("registries", "policy"):
        home = home_of(path)
        hidden = path.replace(home, "/etc/containers", 1) if home else path
        if not home or (hidden not in host.files and not hidden.endswith("registries.conf")):
            continue
        who = "CRI-O, and Podman run by root, read" if home == ROOT_CONFIG else "Podman run by this user reads"
        also = ", nor the drop-ins beside that one" if hidden.endswith("registries.conf") else ""
        message = f"{who} this file and not {hidden}{also}"
        yield fault("home-hides-etc", path, 1, message, f"remove it, and say in {hidden} what has to be said")
