"""The traps of policy.json and of the policies of namespaces, alone and beside registries files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reconciler.errors import InputRejected
from reconciler.registries.evidence import line_of_fault
from reconciler.registries.file_lines import Lines, json_lines, line_of
from reconciler.registries.lint_across import Table, Tables
from reconciler.registries.lint_catalogue import fault
from reconciler.registries.lint_hosts import Host
from reconciler.registries.lint_names import applied, unmatchable
from reconciler.registries.model import Problem
from reconciler.registries.references import Reference
from reconciler.registries.scopes import is_wildcard, loads_in_atomic, policy_lookup, tag_of
from reconciler.registries.signature_policy import Policy, read_policy

_ALL_FAIL = "with such a policy every pull fails at once"


@dataclass(frozen=True, slots=True)
class PolicySheet:
    """A policy that loads, and where its scopes stand."""

    path: str
    policy: Policy
    lines: Lines

    def line(self, scope: str | None) -> int:
        """The line of a docker scope, or of the default (None)."""
        return line_of(self.lines, ("default",) if scope is None else ("transports", "docker", scope))


def check_policy(path: str, content: bytes) -> tuple[PolicySheet | None, list[Problem]]:
    """The policy, where the runtime loads it, and everything that is wrong with it."""
    try:
        text = content.decode(errors="replace")  # as Go's decoder does
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        said = str(error) or "it is nested too deeply"
        line = line_of_fault(content, said)
        return None, [fault("broken-json", path, line, f"not valid JSON: {said}", f"correct it: {_ALL_FAIL}")]
    lines = json_lines(text)
    unloadable = list(_atomic(path, data, lines))
    try:
        sheet = PolicySheet(path, read_policy(content), lines)
    except InputRejected as error:
        if not unloadable or "transport atomic" not in error.what:
            line = _line_of(content, lines, error.what)
            unloadable.append(fault("policy-unloadable", path, line, error.what, f"correct it: {_ALL_FAIL}"))
        return None, unloadable
    return sheet, list(_scopes(sheet))


def _line_of(content: bytes, lines: Lines, said: str) -> int:
    """The line of the scope that a message begins with (`docker:SCOPE: …`), or of the word that it quotes."""
    transport, _, rest = said.partition(":")
    scopes = [where for where in lines if where[:2] == ("transports", transport) and len(where) == 3]
    named = [where for where in scopes if rest.startswith(f"{where[2]}:")]
    return lines[max(named, key=lambda where: len(str(where[2])))] if named else line_of_fault(content, said)


def _atomic(path: str, data: object, lines: Lines) -> Iterator[Problem]:
    transports = data.get("transports") if isinstance(data, dict) else None
    scopes = transports.get("atomic") if isinstance(transports, dict) else None
    for scope in scopes if isinstance(scopes, dict) else ():
        if scope and not loads_in_atomic(scope):
            message = f"{scope!r} is no scope of transport atomic: the whole policy cannot be loaded"
            remedy = f"remove it there and keep it under docker: {_ALL_FAIL}"
            yield fault("atomic-scope", path, line_of(lines, ("transports", "atomic", scope)), message, remedy)


def _scopes(sheet: PolicySheet) -> Iterator[Problem]:
    for scope, needs in sheet.policy.scopes.items():
        line = sheet.line(scope)
        if tag_of(scope):
            verb = "refuses" if "reject" in needs else "lets through"
            message = f"{scope} {verb} this tag or digest alone; the same image by another name is another matter"
            remedy = f"name the repository, {scope.removesuffix(tag_of(scope))}, where all of it is meant"
            yield fault("tag-in-scope", sheet.path, line, message, remedy)
            continue
        why = unmatchable(scope) if scope else ""
        if why:
            remedy = "write it as images are named: HOST[:PORT][/REPOSITORY] or *.example.com"
            yield fault("never-matches", sheet.path, line, f"no image name matches {scope!r}: {why}", remedy)
    everything = sheet.policy.scopes.get("", sheet.policy.default)
    if everything != sheet.policy.default:
        message = (
            f'the docker scope "" ({"+".join(everything)}) stands before the default ({"+".join(sheet.policy.default)})'
        )
        remedy = "remove the scope, or say the same in default"
        yield fault("default-unused", sheet.path, sheet.line(""), message, remedy)


def check_ports(sheets: Sequence[PolicySheet], tables: Tables, named: Mapping[str, str]) -> Iterator[Problem]:
    """`named`: each HOST:PORT that some file names, and where. A table for HOST covers it, a policy scope does not."""
    for host_port, where in sorted(named.items()):
        bare = host_port.partition(":")[0]
        for sheet in sheets:
            scopes = sheet.policy.scopes
            if bare in scopes and not any(scope in scopes for scope in policy_lookup(host_port) if scope):
                message = f"{bare} does not cover {host_port}, which {where} names: a port makes another registry"
                remedy = f"add a scope for {host_port}, or ignore this where it is meant"
                yield fault("port-not-covered", sheet.path, sheet.line(bare), message, remedy)
        table = tables.get(bare)
        if table is not None and not any(_inside(scope, host_port) for scope in tables):
            yield from _covered(table, bare, host_port, where)


def _inside(scope: str, host_port: str) -> bool:
    return scope == host_port or scope.startswith(f"{host_port}/")


def _covered(table: Table, bare: str, host_port: str, where: str) -> Iterator[Problem]:
    """What the table for `bare` does to the same host with a port."""
    remedy = f"add a table for {host_port}"
    if table.registry.blocked:
        message = f"the table for {bare} also blocks {host_port}, which {where} names"
        yield fault("port-covered", table.sheet.path, table.line(), message, f"{remedy} where it should not be blocked")
    for number, mirror in enumerate(table.registry.mirrors):
        if applied(mirror.location, bare, f"{host_port}/x/y"):
            message = f"the mirror {mirror.location} gives no name for images of {host_port}, which {where} names"
            line = table.line("mirror", number, "location")
            yield fault("mirror-rewrite", table.sheet.path, line, f"{message}: their pull fails", remedy)


def check_mirrored(host: Host, sheets: Sequence[PolicySheet], tables: Tables) -> Iterator[Problem]:
    """Sources with mirrors that the policy rejects: it is asked for the source's name, never the mirror's."""
    for scope, table in tables.items():
        if not table.registry.mirrors:
            continue
        name = Reference(f"x{scope[1:]}/x" if is_wildcard(scope) else f"{scope}/x")
        for sheet in sheets:
            needs, found = sheet.policy.requirements(name)
            if "reject" in needs:
                rule = "the default" if found is None else f"the scope {found!r}"
                there = host.at(table.sheet.path, table.line())
                message = f"{rule} rejects {scope}, so its mirrors ({there}) are never used"
                remedy = f"accept {scope}: it is the name asked for; blocked = true in its table keeps the source out"
                yield fault("policy-rejects-mirrored", sheet.path, sheet.line(found), message, remedy)
