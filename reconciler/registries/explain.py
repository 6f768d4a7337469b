"""Why an image can or cannot be pulled: verdict first, then what decides it, the pull order, and what would help.

`resolve` gives the answer; here it gets its reasons: file and line, the resource field behind the line, and for
each place in the pull order whether it is tried. Nothing is contacted: that an image is there is never said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

from reconciler.errors import InputRejected
from reconciler.registries.disruption import Files
from reconciler.registries.evidence import Evidence, Origins, Place
from reconciler.registries.references import Reference, canonical, is_short, parse
from reconciler.registries.registries_file import Registry
from reconciler.registries.remedies import Remedies
from reconciler.registries.resolve import Candidate, PullSource, Resolution, resolve, serves
from reconciler.registries.resolve import Verdict as Decision
from reconciler.registries.runtime_config import RuntimeConfig
from reconciler.registries.scopes import is_wildcard, prefix_length

Verdict = Literal["pullable", "not pullable", "cannot tell"]


class Step(NamedTuple):
    """A place in the pull order.

    `verdict`: tried; blocked by a table; rejected by the policy; skipped, as it is not for this form of name; or
    unusable, as it gives no image name.
    """

    reference: str
    mirror: bool
    verdict: Literal["tried", "blocked", "rejected", "skipped", "unusable"]
    insecure: bool
    reason: str
    place: Place | None


class Attempt(NamedTuple):
    """A full name that is tried: what decides about it (`place`, one of `table` and `policy` or a mirror)."""

    reference: str
    decision: Decision
    reason: str
    place: Place | None
    table: Place | None
    policy: Place
    steps: tuple[Step, ...]


class Explanation(NamedTuple):
    """The answer for one name. `place` decides it; `changes` say what would have to change, where it is no."""

    reference: str
    verdict: Verdict
    reason: str
    place: Place | None
    attempts: tuple[Attempt, ...] = ()
    changes: tuple[str, ...] = ()


def explain(
    config: RuntimeConfig,
    reference: str,
    files: Files,
    origins: Origins | None = None,
    namespace: str | None = None,
    *,
    complete: bool = True,
) -> Explanation:
    """Explain what `config`, which was loaded from `files`, makes of the name `reference`. Never raises.

    `origins` (path → key → fields) is what rendering gave with the files. Without `complete`, files of the host
    may add to them, so that a short name has no answer where they hold no search list.
    """
    return next(explain_all(config, [reference], files, origins, namespace, complete=complete))


def explain_all(
    config: RuntimeConfig,
    references: Iterable[str],
    files: Files,
    origins: Origins | None = None,
    namespace: str | None = None,
    *,
    complete: bool = True,
) -> Iterator[Explanation]:
    """As `explain`, for many names; the files are read once."""
    explainer = _Explainer(config, Evidence(files, origins or {}), namespace, complete=complete)
    return (explainer.explain(reference) for reference in references)


class _Explainer:
    def __init__(self, config: RuntimeConfig, evidence: Evidence, namespace: str | None, *, complete: bool) -> None:
        self.config = config
        self.evidence = evidence
        self.namespace = namespace
        self.complete = complete
        self.policy_path = config.policy_path(namespace)
        self.remedies = Remedies(config, evidence)

    def explain(self, reference: str) -> Explanation:
        answer = resolve(self.config, reference, self.namespace)
        if answer.error:
            return self._unanswered(answer)
        attempts = tuple(self._attempt(candidate) for candidate in answer.candidates)
        deciding = next((a for a in attempts if a.decision == "pull"), None)
        if deciding is not None:
            return Explanation(reference, "pullable", deciding.reason, deciding.place, attempts)
        deciding = next((a for a in attempts if a.decision == "pull_if_signed"), attempts[0])
        verdict: Verdict = "cannot tell" if deciding.decision == "pull_if_signed" else "not pullable"
        changes = dict.fromkeys(
            text for a, c in zip(attempts, answer.candidates, strict=True) for text in self._help(a, c)
        )
        return Explanation(reference, verdict, deciding.reason, deciding.place, attempts, tuple(changes))

    def _unanswered(self, answer: Resolution) -> Explanation:
        """No candidate at all: files that do not load, a short name without search registries, or no image name."""
        reference, error = answer.reference, answer.error
        if self.config.registries_error:
            reason = f"{error}; a running runtime keeps what it loaded before, one that starts now fails"
            remedy = "mend the file, then reload the runtime"
            return Explanation(reference, "cannot tell", reason, self.evidence.fault(error), (), (remedy,))
        if isinstance(self.config.policy(self.namespace), str):
            place = self.evidence.fault(error)
            remedy = f"{'mend' if place else 'write'} {self.policy_path}: without a policy every pull fails"
            return Explanation(reference, "not pullable", error, place, (), (remedy,))
        if _is_short(reference):
            verdict: Verdict = "not pullable" if self.complete else "cannot tell"
            reason = error if self.complete else "a short name: the host's own search registries decide"
            changes = (f"name the image with its registry, HOST/{reference}", *self.remedies.no_search())
            return Explanation(reference, verdict, reason, self.evidence.search(), (), changes)
        return Explanation(reference, "not pullable", error, None, (), ("write HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]",))

    def _attempt(self, candidate: Candidate) -> Attempt:
        registry = self.config.registries.get(candidate.registry_prefix)
        steps = tuple(self._steps(candidate, registry))
        scope = None if candidate.policy_scope == "default" else candidate.policy_scope.removeprefix("docker:")
        policy = self.evidence.policy(self.policy_path, scope, *_POLICY_FIELDS.get(candidate.decision, ()))
        table = self.evidence.table(candidate.registry_prefix, *_TABLE_FIELDS.get(candidate.decision, ()))
        if candidate.decision == "rejected_by_policy":
            why = f"{policy.file}:{policy.line} rejects {candidate.reference}"
            steps = tuple(s._replace(verdict="rejected", reason=why) if s.verdict == "tried" else s for s in steps)
        reason, place = self._reason(candidate, steps, policy, table)
        return Attempt(candidate.reference, candidate.decision, reason, place, table, policy, steps)

    def _reason(
        self, candidate: Candidate, steps: tuple[Step, ...], policy: Place, table: Place | None
    ) -> tuple[str, Place | None]:
        if candidate.decision == "rejected_by_policy":
            rule = "its default" if candidate.policy_scope == "default" else f"the scope {candidate.policy_scope[7:]!r}"
            return f"{self.policy_path} rejects it by {rule}", policy
        if candidate.decision == "pull_if_signed":
            return f"it is pulled only if it is signed as {candidate.policy} of {self.policy_path} demands", policy
        if candidate.decision == "blocked":
            blocked = [step for step in steps if step.verdict == "blocked"]
            skipped = sum(step.verdict == "skipped" for step in steps)
            unless = f", and {skipped} {'mirror is' if skipped == 1 else 'mirrors are'} skipped" if skipped else ""
            return f"every place that would be asked is blocked{unless}", blocked[-1].place
        if candidate.decision == "error":
            broken = next((step for step in steps if step.verdict == "unusable"), None)
            return f"{_FAILS_BEFORE}: {candidate.sources_error}", broken and broken.place
        first = next(step for step in steps if step.verdict == "tried")
        return f"{first.reference} is asked first", table or policy

    def _steps(self, candidate: Candidate, registry: Registry | None) -> Iterator[Step]:
        """The pull order, with the mirrors that are not for this form of name where they stand."""
        sources = iter(candidate.sources)
        name = parse(candidate.reference)
        if registry is not None:
            for index, mirror in enumerate(registry.mirrors):
                place = self.evidence.mirror(registry.prefix, index, mirror.location)
                written = _rewritten(registry, mirror.location, name)
                if not serves(registry, mirror, name):
                    wanted = "by digest only" if not name.digest else "by tag only"
                    given = "digest" if name.digest else "tag"
                    why = f"it serves pulls {wanted}, and the image is named by {given}"
                    yield Step(written.text, True, "skipped", mirror.insecure, why, place)
                elif written.error:
                    why = f"{written.text} is no image name: {written.error}"
                    yield Step(written.text, True, "unusable", mirror.insecure, why, place)
                elif candidate.sources_error:
                    yield Step(written.text, True, "skipped", mirror.insecure, _FAILS_BEFORE, place)
                else:
                    yield self._step(next(sources), place)
        if candidate.sources_error and registry is not None:
            yield self._source_not_reached(registry, name)
        table = self.evidence.table(candidate.registry_prefix, "insecureRegistries")
        yield from (self._step(source, table) for source in sources)

    def _source_not_reached(self, registry: Registry, name: Reference) -> Step:
        """The location itself, where the pull fails before; it may be what cannot be applied to the name."""
        place = self.evidence.table(registry.prefix)
        moved = registry.location not in ("", registry.prefix) or is_wildcard(registry.location)
        written = _rewritten(registry, registry.location, name) if moved else _Rewritten(str(name))
        if written.error:
            why = f"{written.text} is no image name: {written.error}"
            return Step(written.text, False, "unusable", registry.insecure, why, place)
        return Step(written.text, False, "skipped", registry.insecure, _FAILS_BEFORE, place)

    def _step(self, source: PullSource, place: Place | None) -> Step:
        if source.blocked:
            table = self.config.find(parse(source.reference).name)
            scope = table.prefix if table else ""
            blocking = self.evidence.table(scope, *_TABLE_FIELDS["blocked"])
            why = f"the table for {scope} is blocked"
            return Step(source.reference, source.mirror, "blocked", source.insecure, why, blocking)
        why = "TLS is not verified" if source.insecure else ""
        return Step(source.reference, source.mirror, "tried", source.insecure, why, place)

    def _help(self, attempt: Attempt, candidate: Candidate) -> Iterator[str]:
        name = parse(candidate.reference)
        if candidate.decision == "error":
            for step in attempt.steps:
                if step.verdict == "unusable":
                    yield from self.remedies.unusable(step.place, step.reference, step.mirror)
            return
        if candidate.decision == "blocked":
            if any(step.verdict == "skipped" for step in attempt.steps):
                yield self.remedies.other_form(name)
            for step in attempt.steps:
                if step.verdict == "blocked":
                    yield from self.remedies.blocked(step.place)
        if "reject" in candidate.policy.split("+"):
            yield from self.remedies.rejected(attempt.policy, name, candidate.policy_scope)
        if candidate.decision == "pull_if_signed":
            yield f"sign {name.name} as {attempt.policy.file}:{attempt.policy.line} demands"


_FAILS_BEFORE = "the pull fails before any registry is asked"
_POLICY_FIELDS: Mapping[str, tuple[str, ...]] = {
    "rejected_by_policy": ("blockedRegistries",),
    "pull": ("allowedRegistries",),
    "pull_if_signed": ("spec.scopes",),
}
_TABLE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "blocked": ("blockedRegistries", "Mirrors"),
    "pull": ("Mirrors",),
    "pull_if_signed": ("Mirrors",),
    "error": ("Mirrors",),
}
"""Which fields of resources give a line its say, by decision; a line may have others."""


class _Rewritten(NamedTuple):
    text: str
    error: str = ""


def _rewritten(registry: Registry, location: str, name: Reference) -> _Rewritten:
    """The name at another location, as `resolve` makes it."""
    text = location + name.name[prefix_length(name.name, registry.prefix) :] + name.suffix
    try:
        return _Rewritten(str(canonical(text)))
    except InputRejected as error:
        return _Rewritten(text, error.what)


def _is_short(text: str) -> bool:
    try:
        return is_short(parse(text).name)
    except InputRejected:
        return False
