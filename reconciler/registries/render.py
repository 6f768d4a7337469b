"""Resources in, node files out: the same files that OpenShift's Machine Config Operator would put on a node.

Source: machine-config-operator container_runtime_config_controller.go `registriesConfigIgnition`. What differs
on purpose is `base: host`: the result is laid over the host's own files, and only files that resources call
for are there. Templates of the config repository (`directory`) are laid over in the same way, and are there
whatever resources say. Equal inputs give equal bytes, whatever order the resources come in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reconciler.registries import (
    certs,
    mirrors,
    payload,
    policy_json,
    registries_conf,
    runtime_config,
    sigstore,
    templates,
    toml_files,
    warnings,
)
from reconciler.registries.inputs import Inputs, collect
from reconciler.registries.model import (
    POLICY_JSON,
    REGISTRIES_CONF,
    SEARCH_REGISTRIES,
    NodeFile,
    Origin,
    Problem,
    Rendered,
    RenderOptions,
    Resource,
)
from reconciler.registries.registries_conf import BY_DIGEST_ONLY, Tables

RENDERER_VERSION = "2"
"""Changes whenever equal inputs give other bytes. Recorded beside a file set; no part of its inputs' digest."""


@dataclass(slots=True)
class _Work:
    """One call of `render` in progress."""

    resources: Mapping[str, Resource]
    inputs: Inputs
    options: RenderOptions
    lists: payload.Lists
    signatures: sigstore.Signatures
    problems: list[Problem]
    files: list[NodeFile]
    write: bool

    @property
    def over_files(self) -> bool:
        """Over somebody's own files, not over MCO's templates."""
        return self.options.base != "openshift"

    @property
    def owner(self) -> str:
        """Whose files these are, for messages."""
        return "host" if self.options.base == "host" else "base"

    def report(self, problems: Iterable[Problem]) -> bool:
        """Keep `problems` that are not silenced; whether one of them is an error."""
        found = [kept for problem in problems for kept in self._heard(problem)]
        self.problems += found
        return any(problem.severity == "error" for problem in found)

    def _heard(self, problem: Problem) -> Iterable[Problem]:
        resource = self.resources.get(problem.object)
        if resource is None:
            return [problem]
        placed = replace(problem, location=problem.location or resource.at(problem.field))
        return warnings.silenced([placed], warnings.annotations_of(resource))

    def base(self, path: str, template: bytes | None = None) -> bytes | None:
        return self.options.base_files.get(path) if self.over_files else template


def render(resources: Sequence[Resource], options: RenderOptions) -> Rendered:
    """The files of a node that takes `resources`, which have passed `validate_document`.

    Errors are those of MCO, in its order (its first is the first here): `release-image`, `insecure-entry`,
    `blocked-entry`, those of `mirrors.check_rows`, `wildcard-mirror-nested-scope`, those of
    `policy_json.check`, `mirror-rewrite`; and ours: `duplicate-resource` (two Images), `base-unreadable`,
    `base-shadows`, `registries-unloadable`, `tag-mirrors-need-pull-from-mirror`, those of
    `certs.cert_files`. With an error there are no files. Warnings, unless silenced: `payload-not-blocked`,
    `policy-scope-conflict`. Raises RenderError when a file does not read back as meant.
    """
    work = _work(resources, options, write=True)
    if not Rendered((), tuple(work.problems)).ok:
        return Rendered((), tuple(work.problems))
    files = {file.path: file for file in [*_templates(options), *work.files]}
    return Rendered(tuple(files[path] for path in sorted(files)), tuple(work.problems))


def check(resources: Sequence[Resource], options: RenderOptions) -> tuple[Problem, ...]:
    """The problems that `render` would report. Much cheaper: of registries.conf nothing is written, and only the
    mirror sets that meet a list entry or a table of the base are laid over it."""
    return tuple(_work(resources, options, write=False).problems)


def _work(resources: Sequence[Resource], options: RenderOptions, *, write: bool) -> _Work:
    inputs = collect(resources)
    lists, problems = payload.protect(inputs, options.release_image)
    signatures, conflicts = sigstore.collect(inputs)
    by_identity = {resource.identity: resource for resource in resources}
    work = _Work(by_identity, inputs, options, lists, signatures, [], [], write=write or bool(signatures))
    if options.base == "openshift" and inputs.image is None:
        return work  # MCO does nothing at all without its Image
    if not work.report([*_one_image(resources), *problems, *conflicts]):
        _render_all(work)
    return work


def _templates(options: RenderOptions) -> tuple[NodeFile, ...]:
    """The files that are there whatever resources say."""
    if options.base == "openshift":
        return NodeFile(POLICY_JSON, templates.POLICY_JSON), NodeFile(REGISTRIES_CONF, templates.REGISTRIES_CONF)
    given = options.base_files.items() if options.base == "directory" else ()
    return tuple(NodeFile(path, content) for path, content in given if content is not None)


def _one_image(resources: Sequence[Resource]) -> Iterable[Problem]:
    images = sorted((r for r in resources if r.kind == "Image"), key=lambda image: image.identity)
    for image in images[1:]:
        message = f"there is a second Image, {images[0].identity} at {images[0].location}"
        yield Problem("duplicate-resource", message, image.location, image.identity, remedy="remove one of the two")


def _render_all(work: _Work) -> None:
    written = _registries_conf(work)
    if not Rendered((), tuple(work.problems)).ok:
        return
    if work.report(policy_json.check(work.lists, work.signatures)):
        return
    _policies(work, written)
    _search(work)
    files, problems = certs.cert_files(work.inputs.image, work.inputs.config_maps)
    work.report(problems)
    work.files += files


def _registries_conf(work: _Work) -> bytes | None:
    """Render registries.conf. None when no resource calls for the file."""
    inputs, lists = work.inputs, work.lists
    blocked, insecure = lists.blocked or (), inputs.insecure or ()
    if inputs.insecure is None and lists.blocked is None and not inputs.mirror_sets:
        return None
    faults = [
        *policy_json.check_entries(insecure, "insecure-entry"),
        *policy_json.check_entries(blocked, "blocked-entry"),
        *mirrors.check_rows(inputs.mirror_sets),
    ]
    if work.report([*faults, *_syntax(work)]):
        return None
    if work.over_files and not (insecure or blocked or any(map(mirrors.counts, inputs.rows))):
        return None
    path = REGISTRIES_CONF
    text, data, unreadable = toml_files.read_base(path, work.base(path, templates.REGISTRIES_CONF), work.owner)
    if work.report(unreadable):
        return None
    tables = Tables(data.get("registry", ()))
    rows = inputs.rows if work.write else tables.meeting(inputs.rows, [*insecure, *blocked])
    if work.report(registries_conf.edit(tables, insecure, blocked, mirrors.merge(rows))):
        return None
    if work.over_files and work.report(registries_conf.fit_base(tables, work.owner)):
        return None
    if not work.write:
        return None
    content = toml_files.write_registries(text, data, tables.all, work.options.mirror_syntax)
    work.files.append(NodeFile(path, content, origins=_origins(tables)))
    return content


def _syntax(work: _Work) -> Iterable[Problem]:
    """The older syntax cannot say that a mirror is for tags only."""
    if work.options.mirror_syntax != BY_DIGEST_ONLY:
        return
    for mirror_set in mirrors.merge(row for row in work.inputs.rows if row.by_tag):
        origin = mirror_set.origins[0]
        yield Problem(
            "tag-mirrors-need-pull-from-mirror",
            f"mirrors of {mirror_set.source} for tags cannot be written with mirrorSyntax {BY_DIGEST_ONLY}",
            object=origin.resource,
            field=origin.field,
            remedy="set mirrorSyntax: pull-from-mirror, or give the pool no ImageTagMirrorSet",
        )


def _origins(tables: Tables) -> dict[str, tuple[Origin, ...]]:
    """By scope; and by `SCOPE mirror LOCATION` for each mirror."""
    origins: dict[str, tuple[Origin, ...]] = {}
    for table in tables.all:
        if table.origins:
            origins[table.scope] = tuple(sorted(table.origins, key=_in_order))
        for location, sources in table.mirror_origins.items():
            origins[f"{table.scope} mirror {location}"] = tuple(sorted(sources, key=_in_order))
    return origins


def _in_order(origin: Origin) -> tuple[str, str]:
    return origin.resource, origin.field


def _policies(work: _Work, registries: bytes | None) -> None:
    """policy.json, the policies of namespaces, and where signatures are looked for."""
    lists, signatures = work.lists, work.signatures
    if lists.policy_blocked is None and lists.allowed is None and not signatures:
        return
    captured = work.base(POLICY_JSON)
    base, unreadable = policy_json.read_base(captured or templates.POLICY_JSON, work.owner)
    if work.report(unreadable):
        return
    ours = policy_json.wanted(lists, signatures)
    called_for = bool(ours.scopes or ours.default)
    policy = policy_json.over_host(base, ours) if work.over_files else policy_json.over_template(base, ours)
    if called_for:
        by_scope = policy_json.origins_of(base, policy, ours)
        origins = {scope: tuple(sorted(by, key=_in_order)) for scope, by in by_scope.items()}
        stays = captured is not None and work.over_files and policy_json.says_the_same(base, policy)
        content = captured if captured and stays else policy_json.write(policy)
        work.files.append(NodeFile(POLICY_JSON, content, origins=origins))
    lay_over = policy_json.over_host if work.over_files else policy_json.with_namespace
    for namespace, scopes in signatures.namespaces.items():
        by = {e.text: [e.origin] for e in signatures.namespace_scopes if e.text in scopes}
        before, narrow = policy if called_for else base, policy_json.Wanted(dict(scopes), origins=by)
        after = lay_over(before, narrow)
        path, origins = f"{sigstore.NAMESPACE_POLICIES}/{namespace}.json", policy_json.origins_of(before, after, narrow)
        work.files.append(NodeFile(path, policy_json.write(after), origins=origins))
    if signatures:
        in_force = registries or (work.base(REGISTRIES_CONF) if work.over_files else None)
        config = runtime_config.load({REGISTRIES_CONF: in_force}) if in_force else None
        if config and config.registries_error:
            what = f"signatures cannot be looked for, {config.registries_error}"
            remedy = f"correct the entry or the {work.owner}'s own file"
            work.report([Problem("registries-unloadable", what, remedy=remedy)])
        content, problems = sigstore.attachments(signatures, config)
        work.report(problems)
        work.files.append(NodeFile(sigstore.ATTACHMENTS, content, origins=_attached(signatures)))


def _attached(signatures: sigstore.Signatures) -> dict[str, tuple[Origin, ...]]:
    origins: dict[str, list[Origin]] = {}
    for entry in [*signatures.cluster_scopes, *signatures.namespace_scopes]:
        origins.setdefault(entry.text, []).append(entry.origin)
    return {scope: tuple(by) for scope, by in origins.items()}


def _search(work: _Work) -> None:
    if work.inputs.search is None:
        return
    text, data, unreadable = toml_files.read_base(SEARCH_REGISTRIES, work.base(SEARCH_REGISTRIES), work.owner)
    if work.report(unreadable):
        return
    content = toml_files.write_search(text, data, [entry.text for entry in work.inputs.search])
    image = work.inputs.image
    field = "spec.registrySources.containerRuntimeSearchRegistries"
    origins = {"unqualified-search-registries": (Origin(image.identity, field),)} if image else {}
    work.files.append(NodeFile(SEARCH_REGISTRIES, content, origins=origins))
