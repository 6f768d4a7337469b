"""The proof of an adoption: the repository judged as a commit, and rendered back over each host's own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.adoption.grouping import HostFiles
from reconciler.errors import InputRejected
from reconciler.ports import ManifestFile
from reconciler.registries.behaviour import differences
from reconciler.registries.disruption import Files
from reconciler.registries.impact import classify
from reconciler.registries.model import BASE_PATHS, NodeFile, digest
from reconciler.registries.render import render
from reconciler.rollout.acceptance import Judgement, effective
from reconciler.stages.preview import judge_manifests


@dataclass(frozen=True)
class FirstPlan:
    """What the first plan would do to a host: the files it would change, the class, and what would behave otherwise.

    `error` says why there is no plan: the resources cannot be laid over the host's own files.
    """

    host: str
    changed: tuple[str, ...] = ()
    disruption: str = "none"
    reasons: tuple[str, ...] = ()
    behaviour: tuple[str, ...] = ()
    error: str = ""

    @property
    def empty(self) -> bool:
        """Not a byte and not a mode would change."""
        return not self.changed and not self.error


def prove(files: Mapping[str, str], hosts: Sequence[HostFiles], now: datetime) -> tuple[list[FirstPlan], list[str]]:
    """Each host's first plan under the repository's `files` (path → text), and the warnings of the judgement.

    Raises InputRejected when the repository would be rejected.
    """
    texts = sorted((path, text) for path, text in files.items() if path.endswith(".yaml"))
    manifests = [ManifestFile(path, digest(text), text.encode()) for path, text in texts]
    judgement, _ = judge_manifests(manifests, "default", now)
    if judgement.problems:
        raise InputRejected("\n".join(str(problem) for problem in judgement.problems))
    cache: dict[tuple[str, str], FirstPlan] = {}
    return [_plan(judgement, host, cache) for host in hosts], [str(warning) for warning in judgement.warnings]


def _plan(judgement: Judgement, host: HostFiles, cache: dict[tuple[str, str], FirstPlan]) -> FirstPlan:
    """Rendered once for hosts of one pool with the same bytes and modes."""
    pool = judgement.inventory.pools[str(judgement.inventory.nodes[host.name].pool)]
    seen = {path: [(content or b"").hex(), host.modes.get(path, 0)] for path, content in host.files.items()}
    key = pool.name, digest(seen)
    if key not in cache:
        base = {path: host.files.get(path) for path in BASE_PATHS}
        rendered = render(effective(judgement.resources[pool.name], pool), pool.render_options(base))
        error = "; ".join(str(problem) for problem in rendered.problems if problem.severity == "error")
        cache[key] = FirstPlan("", error=error) if error else _compared(host, rendered.files, pool.profile)
    found = cache[key]
    return FirstPlan(host.name, found.changed, found.disruption, found.reasons, found.behaviour, found.error)


def _compared(host: HostFiles, rendered: Sequence[NodeFile], profile: str) -> FirstPlan:
    wanted: dict[str, bytes | None] = {file.path: file.content for file in rendered}
    changed = [
        file.path
        for file in rendered
        if host.files.get(file.path) != file.content or host.modes.get(file.path, file.mode) != file.mode
    ]
    if not changed:
        return FirstPlan("")
    before: Files = {path: host.files.get(path) for path in {*wanted, *BASE_PATHS}}
    impact = classify(before, {**before, **wanted}, "minimal" if profile == "minimal" else "default")
    behaviour = differences(host.files, {**host.files, **wanted})
    return FirstPlan("", tuple(changed), impact.disruption, impact.reasons, behaviour)
