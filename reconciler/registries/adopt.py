"""Files of hosts in, resources out: the inverse of `render`, as far as resources go.

Nothing is trusted to a rule: each candidate is rendered over every host's own files and kept only where that leaves
them as they are (`bytes`), or leaves every answer of the runtime as it is (`behaviour`). What is not kept stays in
the hosts' own files, and `remainder` names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reconciler.registries.behaviour import BY_DIGEST, BY_TAG, alike, mirrors_of
from reconciler.registries.disruption import Files
from reconciler.registries.facts import Facts, Row, resources, union
from reconciler.registries.model import (
    BASE_PATHS,
    CERTS_D,
    POLICY_JSON,
    REGISTRIES_CONF,
    SEARCH_REGISTRIES,
    RenderOptions,
    Resource,
)
from reconciler.registries.registries_file import Registry, read
from reconciler.registries.remainder import Remainder, remainder
from reconciler.registries.render import render
from reconciler.registries.runtime_config import RuntimeConfig, load, registries_paths
from reconciler.registries.scopes import covered

Keep = Literal["bytes", "behaviour"]

_ACCEPT, _REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]


@dataclass(frozen=True, slots=True)
class Adoption:
    """What resources say of hosts that behave alike, and what stays in their own files."""

    facts: Facts
    stays: tuple[Remainder, ...]


def infer(variants: Sequence[Files], keep: Keep = "bytes", unread: Iterable[str] = ()) -> Adoption:
    """The most that resources can say of hosts that behave alike, each of `variants` the files of some of them.

    `keep` says what a resource may do to the hosts: with `bytes`, rendering leaves every byte of every file as it is;
    with `behaviour`, files may be rewritten while every name resolves as before. Files that the runtime cannot load
    stay whole. `unread` are further files of the hosts, whose bytes are not known. Deterministic: the order of
    variants does not count.
    """
    ordered = sorted(variants, key=lambda files: sorted((path, content or b"") for path, content in files.items()))
    config = load(ordered[0])
    held = config.registries_error or not all(_reads(files) for files in ordered)
    atoms: Sequence[Facts] = [*_certificates(ordered[0]), *([] if held else _candidates(ordered[0], config, keep))]
    found = Facts()
    while True:
        found, rejected = _accept(found, atoms, lambda facts: _holds(facts, ordered, keep))
        if len(rejected) in (0, len(atoms)):
            break
        atoms = rejected  # what was accepted after them may be what they lacked
    return Adoption(found, remainder({**ordered[0], **dict.fromkeys(unread, b"")}, found))


def _reads(files: Files) -> bool:
    """Whether the runtime loads the host's policy, or there is none."""
    return not isinstance(load(files).policies.get(POLICY_JSON), str)


def _accept(
    known: Facts, atoms: Sequence[Facts], holds: Callable[[Facts], bool]
) -> tuple[Facts, Sequence[Facts]]:  # fmt: skip
    """`known` with every atom that holds beside what was accepted before it, and the others; by halves."""
    together = known | union(atoms)
    if not atoms or holds(together):
        return together, []
    if len(atoms) == 1:
        return known, atoms
    middle = len(atoms) // 2
    known, left = _accept(known, atoms[:middle], holds)
    known, right = _accept(known, atoms[middle:], holds)
    return known, [*left, *right]


def _holds(facts: Facts, variants: Sequence[Files], keep: Keep) -> bool:
    adopted = resources(facts)
    return adopted is not None and all(_leaves(adopted, files, keep) for files in variants)


def _leaves(adopted: Sequence[Resource], files: Files, keep: Keep) -> bool:
    """Whether the host stays as it is once it takes these resources."""
    rendered = render(adopted, RenderOptions(base_files={path: files.get(path) for path in BASE_PATHS}))
    if not rendered.ok:
        return False
    written = {file.path: file.content for file in rendered.files}
    if all(files.get(path) == content for path, content in written.items()):
        return True
    return keep == "behaviour" and alike(files, {**files, **written})


# --- Candidates: each stands or falls by itself, and after what it may need ------------------------------------------


def _certificates(files: Files) -> Iterator[Facts]:
    for path, content in sorted(files.items()):
        host, _, name = path.removeprefix(f"{CERTS_D}/").partition("/")
        if path.startswith(f"{CERTS_D}/") and name == "ca.crt" and content is not None:
            yield Facts(certificates=frozenset([(host, content)]))


def _candidates(files: Files, config: RuntimeConfig, keep: Keep) -> Iterator[Facts]:
    """What is surely in vain is left out, as trying it costs the more the larger the files are."""
    places = (SEARCH_REGISTRIES,) if keep == "bytes" else (REGISTRIES_CONF, SEARCH_REGISTRIES)
    if config.search and _says_search(files) in places:
        yield Facts(search=frozenset([config.search]))  # a list that stands elsewhere would win against ours, or lose
    tables = _own_tables(files, config)
    insecure = {table.prefix for table in tables if table.insecure}
    yield from (Facts(insecure=frozenset([scope])) for scope in sorted(insecure))
    default, scopes = _policy(files)
    accepted = frozenset(scope for scope, needs in scopes.items() if needs == _ACCEPT)
    if default == _REJECT and accepted:
        yield Facts(allowed=accepted)  # part of an allow list would shut out the rest
    rejected = {scope for scope, needs in scopes.items() if needs == _REJECT}
    for table in tables:
        facts = _of_table(table, table.prefix in rejected)
        blockable = table.prefix in rejected or (keep == "behaviour" and default == _ACCEPT)
        if facts and (blockable or not facts.blocked) and _flags_fit(table, insecure):
            yield facts


def _flags_fit(table: Registry, insecure: Collection[str]) -> bool:
    """Whether the mirrors are insecure just where an entry for an insecure table makes them so."""
    return all(mirror.insecure == (covered(mirror.location, insecure) is not None) for mirror in table.mirrors)


def _says_search(files: Files) -> str:
    """The file whose search list is in force."""
    present = [path for path in registries_paths(files) if files.get(path) is not None]
    return next((path for path in reversed(present) if read(files[path] or b"").search is not None), "")


def _own_tables(files: Files, config: RuntimeConfig) -> list[Registry]:
    """The tables in force that registries.conf has, not a drop-in; those that rewrite names left out."""
    own = load({REGISTRIES_CONF: files.get(REGISTRIES_CONF)}).registries
    in_force = [table for scope, table in sorted(own.items()) if config.registries.get(scope) == table]
    return [table for table in in_force if table.location in ("", table.prefix)]


def _of_table(table: Registry, rejected: bool) -> Facts:
    """A table's block and mirrors. `rejected`: the policy rejects its scope too, as a block in an Image does."""
    listed = table.blocked and (rejected or not table.mirrors)
    never = table.blocked and not listed
    by_form = [mirrors_of(table, form) for form in (BY_DIGEST, BY_TAG)]
    rows = [
        frozenset([Row(table.prefix, tuple(location for location, _ in mirrors), never)] if mirrors else [])
        for mirrors in by_form
    ]
    return Facts(blocked=frozenset([table.prefix] if listed else []), digest_rows=rows[0], tag_rows=rows[1])


def _policy(files: Files) -> tuple[Any, dict[str, Any]]:
    """Default and docker scopes of the host's policy, which loads."""
    content = files.get(POLICY_JSON)
    if content is None:
        return None, {}
    policy = json.loads(content)
    return policy["default"], (policy.get("transports") or {}).get("docker") or {}
