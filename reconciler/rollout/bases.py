"""`base: DIRECTORY` of a pool: template files in the config repository that its nodes' files are laid over.

A template is named as on a node: DIRECTORY/etc/containers/registries.conf, policy.json and the search drop-in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Literal

from reconciler.registries import policy_json, toml_files
from reconciler.registries.lint import lint
from reconciler.registries.model import BASE_PATHS, POLICY_JSON, Document, Location, Problem, Resource
from reconciler.registries.validate import validate_document
from reconciler.rollout.pools import Pool, is_inventory

Validated = tuple[Resource | None, tuple[Problem, ...]]
_ALLOWED = ", ".join(path.lstrip("/") for path in BASE_PATHS)


@dataclass(frozen=True)
class ParsedFile:
    """A file of the commit after `registries.parse`; `problems` are those of its syntax.

    `content` is kept where the name is that of a template: only the pools tell whether it is one.
    """

    path: str
    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]
    content: bytes = b""
    _judged: dict[tuple[int, str], Validated] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def inventory(self) -> tuple[Document, ...]:
        """The NodePools and Nodes in it."""
        return tuple(filter(is_inventory, self.documents))

    @cached_property
    def manifests(self) -> tuple[Document, ...]:
        """The documents that are no inventory."""
        return tuple(document for document in self.documents if not is_inventory(document))

    def validated(self, document: Document, mode: Literal["default", "strict"], now: datetime) -> Validated:
        """`validate_document` of one of the documents; done once, but for what the time decides (certificates)."""
        if document.kind == "ConfigMap":
            return validate_document(document, mode, now)
        key = id(document), mode  # they live as long as this file; two may stand on one line
        if key not in self._judged:
            self._judged[key] = validate_document(document, mode, now)
        return self._judged[key]


@dataclass
class Bases:
    """Of each directory that a pool names as its base: the templates by their path on a node, and what is wrong."""

    templates: dict[str, dict[str, bytes]] = field(default_factory=dict)
    problems: dict[str, list[Problem]] = field(default_factory=dict)

    def of(self, pool: Pool) -> Mapping[str, bytes]:
        """The templates of a pool; none where its base is no directory."""
        return self.templates.get(pool.base_directory, {})

    def check(self, pool: Pool) -> Iterable[Problem]:
        """What is wrong with the base of a pool."""
        directory = pool.base_directory
        if directory and not (self.templates[directory] or self.problems[directory]):
            message = f"base is neither host nor openshift, and {directory} has none of {_ALLOWED}"
            remedy = "write host or openshift, or commit a template there"
            yield Problem("base-missing", message, pool.at("spec.base"), f"NodePool/{pool.name}", "spec.base", remedy)
        yield from self.problems.get(directory, ())


def is_template_name(path: str) -> bool:
    """Whether a file of the repository would be a template if a pool named the directory above its etc as a base."""
    return f"/{path}".endswith(BASE_PATHS)


def take_bases(files: Sequence[ParsedFile], pools: Iterable[Pool]) -> tuple[Bases, list[ParsedFile]]:
    """The bases of `pools`, and the files that belong to none: the manifests.

    Problems: `base-unreadable` (the runtime would not load the template), `base-file` (no base can give this file),
    and those of files that may not be read.
    """
    directories = sorted({pool.base_directory for pool in pools} - {""})
    bases = Bases({name: {} for name in directories}, {name: [] for name in directories})
    rest = []
    for parsed in files:
        owners = [name for name in directories if f"/{parsed.path}".startswith(f"{_root(name)}/etc/")]
        for name in owners:
            _take(bases, name, parsed)
        if not owners and not (is_template_name(parsed.path) and not parsed.path.endswith(".json")):
            rest.append(parsed)
    return bases, rest


def _root(directory: str) -> str:
    return "" if directory == "." else f"/{directory}"


def _take(bases: Bases, directory: str, parsed: ParsedFile) -> None:
    path = f"/{parsed.path}".removeprefix(_root(directory))
    problems = bases.problems[directory]
    if path not in BASE_PATHS:
        message = f"a base gives nodes {_ALLOWED}, and no other file"
        remedy = "move it out of the base's etc, or list it in .reconcilerignore"
        problems.append(Problem("base-file", message, Location(parsed.path, 1), remedy=remedy))
    elif refused := [problem for problem in parsed.problems if problem.name == "refused-file"]:
        problems.extend(refused)
    elif unreadable := list(_unreadable(path, parsed)):
        problems.extend(unreadable)
    else:
        bases.templates[directory][path] = parsed.content


def _unreadable(path: str, parsed: ParsedFile) -> Iterable[Problem]:
    """Why nothing can be laid over a template, at the line where that begins."""
    if path == POLICY_JSON:
        _, problems = policy_json.read_base(parsed.content, "base")
    else:
        _, _, problems = toml_files.read_base(path, parsed.content, "base")
    places = (p.location.line for p in lint({path: parsed.content}) if p.location and p.severity == "error")
    for problem in problems:
        place = Location(parsed.path, next(places, 1))
        yield replace(problem, location=place, remedy="correct it; `reconciler lint` tells more")
