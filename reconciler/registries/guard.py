"""The lock-out guard: which images that nodes need could be pulled under the old files and no longer under the new.

An image is judged by `resolve` alone, so only what the files say counts; nothing is contacted. With no image to
judge the guard is not armed, and `weakens` says what then asks for a person's approval.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from reconciler.errors import InputRejected
from reconciler.registries.disruption import Files
from reconciler.registries.model import CERTS_D
from reconciler.registries.references import parse
from reconciler.registries.registries_file import Registry
from reconciler.registries.resolve import Candidate, PullSource, Resolution, resolve
from reconciler.registries.runtime_config import NAMESPACE_POLICIES, RuntimeConfig, load
from reconciler.registries.scopes import covered, policy_lookup, table_lookup
from reconciler.registries.signature_policy import Policy

_ANY_DIGEST = f"sha256:{'0' * 64}"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class Override(NamedTuple):
    """A person's word that images matching `glob` (`*` takes in `/`) may be lost to exactly this content.

    `content` identifies the candidate files, as given to `judge`.
    """

    glob: str
    content: str
    reason: str = ""


class Turned(NamedTuple):
    """An image that can no longer be pulled. `asked`: by tag, by digest, or as written. `override`: its glob. `kept`:
    nobody can give it up."""

    image: str
    asked: str
    reason: str
    remedy: str = ""
    override: str = ""
    kept: bool = False


class GuardReport(NamedTuple):
    """`armed`: how many images were judged. `signed`: images that from now on are pulled only if signed."""

    armed: int
    turned: tuple[Turned, ...] = ()
    signed: tuple[str, ...] = ()

    @property
    def blocking(self) -> tuple[Turned, ...]:
        """What stops the plan: images that turned and that nobody gave up."""
        return tuple(turned for turned in self.turned if not turned.override)

    @property
    def text(self) -> str:
        """As plan and status show it."""
        return f"guard: {self.armed} image{'s' * (self.armed != 1)}" if self.armed else "guard: NOT ARMED"


def judge(
    images: Iterable[str],
    old: RuntimeConfig,
    new: RuntimeConfig,
    reachable: Sequence[str] | None = None,
    *,
    overrides: Iterable[Override] = (),
    content: str = "",
    kept: Collection[str] = (),
) -> GuardReport:
    """Judge every image under the old and the new files; no image is reported whose answer did not change.

    With `reachable`, only sources inside one of these registries, namespaces or repositories count
    (`HOST` does not cover `HOST:PORT`). An image without tag and digest is judged both ways. No override is
    about images in `kept`. Never raises.
    """
    accepted = [override.glob for override in overrides if override.content == content]
    inside = None if reachable is None else frozenset(entry.rstrip("/") for entry in reachable)
    wanted = dict.fromkeys(images)
    turned: list[Turned] = []
    signed: list[str] = []
    for image in wanted:
        for asked, name in _forms(image):
            before, after = resolve(old, name), resolve(new, name)
            if before == after or not _usable(before, inside):
                continue
            usable = _usable(after, inside)
            if not usable:
                glob = next((glob for glob in accepted if fnmatchcase(image, glob) and image not in kept), "")
                turned.append(Turned(image, asked, _reason(after), _remedy(after), glob, image in kept))
            elif all(c.decision == "pull_if_signed" for c in usable) and image not in signed:
                signed += [image] * any(c.decision == "pull" for c in _usable(before, inside))
    return GuardReport(len(wanted), tuple(turned), tuple(signed))


def _forms(image: str) -> tuple[tuple[str, str], ...]:
    """How nodes may ask for the image: as it is written, or both ways where it does not say."""
    try:
        written = parse(image)
    except InputRejected:
        return (("as written", image),)
    if written.tag or written.digest:
        return (("by digest" if written.digest else "by tag", image),)
    return ("by tag", f"{image}:latest"), ("by digest", f"{image}@{_ANY_DIGEST}")


def _usable(answer: Resolution, reachable: frozenset[str] | None) -> list[Candidate]:
    """The candidates that may be pulled from somewhere that counts."""
    return [
        candidate
        for candidate in answer.candidates
        if candidate.decision in ("pull", "pull_if_signed") and any(_counts(s, reachable) for s in candidate.sources)
    ]


def _counts(source: PullSource, reachable: frozenset[str] | None) -> bool:
    if source.blocked:
        return False
    return reachable is None or covered(parse(source.reference).name, reachable) is not None


def _reason(answer: Resolution) -> str:
    if answer.error:
        return answer.error
    return "; ".join(dict.fromkeys(map(_refusal, answer.candidates)))


def _refusal(candidate: Candidate) -> str:
    if candidate.decision == "error":
        return f"{candidate.reference}: {candidate.sources_error}"
    if candidate.decision == "rejected_by_policy":
        return f"the policy rejects {candidate.reference} ({candidate.policy_scope})"
    if candidate.decision == "blocked":
        return f"every source of {candidate.reference} is blocked"
    left = ", ".join(source.reference for source in candidate.sources if not source.blocked)
    return f"no reachable registry serves {candidate.reference}: only {left} is left"


def _remedy(answer: Resolution) -> str:
    """A blocked entry rejects the name also for its mirrors; there is a setting that does not."""
    for candidate in answer.candidates:
        served = any(source.mirror and not source.blocked for source in candidate.sources)
        if candidate.decision == "rejected_by_policy" and candidate.policy_scope != "default" and served:
            scope = candidate.policy_scope.removeprefix("docker:")
            return (
                f"to keep the mirrors in use, remove {scope} from blockedRegistries and give its mirror set "
                "mirrorSourcePolicy: NeverContactSource"
            )
    return ""


def weakens(old_files: Files, new_files: Files) -> tuple[str, ...]:
    """What of a change may lock images out, in words: blocks, rejections, and mirrors and CAs that go.

    An unarmed guard cannot tell whether an image that nodes need is among them, so that a person has to.
    """
    old, new = load(old_files), load(new_files)
    found = [*_unloadable(old, new), *_tables(old, new), *_policies(old, new), *_authorities(old_files, new_files)]
    return tuple(dict.fromkeys(found))


def _unloadable(old: RuntimeConfig, new: RuntimeConfig) -> Iterator[str]:
    if new.registries_error and not old.registries_error:
        yield f"no registries can be loaded: {new.registries_error}"


def _tables(old: RuntimeConfig, new: RuntimeConfig) -> Iterator[str]:
    """Judged where either side has a table: a table that goes brings a wider one into force, and the reverse."""
    if new.registries_error:
        return
    for scope in sorted({*old.registries, *new.registries}):
        before, after = _table(old, scope), _table(new, scope)
        if after is not None and after.blocked and not (before is not None and before.blocked):
            yield f"blocks {scope}"
        gone = _mirrors(before, scope) - _mirrors(after, scope)
        for location in sorted({location for location, _ in gone}):
            forms = {form for where, form in gone if where == location}
            yield f"removes the mirror {location} of {scope}{_for_form[frozenset(forms)]}"


_for_form = {
    frozenset({"digest", "tag"}): "",
    frozenset({"digest"}): " for pulls by digest",
    frozenset({"tag"}): " for pulls by tag",
}


def _table(config: RuntimeConfig, scope: str) -> Registry | None:
    """The table in force for the names of a scope."""
    tables = config.registries
    return next((tables[outer] for outer in table_lookup(scope) if outer in tables), None)


def _mirrors(table: Registry | None, scope: str) -> set[tuple[str, str]]:
    """Where names of `scope` are looked for, with the forms of name that each place serves."""
    found: set[tuple[str, str]] = set()
    for mirror in table.mirrors if table else ():
        limit = mirror.pull_from_mirror or ("digest-only" if table and table.mirror_by_digest_only else "all")
        forms = ("digest", "tag") if limit == "all" else (limit.removesuffix("-only"),)
        rest = scope[len(table.prefix) :] if table and scope.startswith(table.prefix) else ""
        found |= {(mirror.location + rest, form) for form in forms}
    return found


def _policies(old: RuntimeConfig, new: RuntimeConfig) -> Iterator[str]:
    start, end = f"{NAMESPACE_POLICIES}/", ".json"
    paths = sorted(path for path in {*old.policies, *new.policies} if path.startswith(start))
    for namespace in (None, *(path.removeprefix(start).removesuffix(end) for path in paths)):
        before, after = old.policy(namespace), new.policy(namespace)
        where = f" in namespace {namespace}" if namespace else ""
        if isinstance(before, str):
            continue  # nothing could be pulled
        if isinstance(after, str):
            yield f"no image can be pulled{where}: {after}"
            continue
        if "reject" in after.default and "reject" not in before.default:
            yield f"rejects by default{where}"
        for scope in sorted({*before.scopes, *after.scopes}):
            if "reject" in _needs(after, scope) and "reject" not in _needs(before, scope):
                yield f"rejects {scope or 'every registry'}{where}"


def _needs(policy: Policy, scope: str) -> tuple[str, ...]:
    return next((policy.scopes[outer] for outer in policy_lookup(scope) if outer in policy.scopes), policy.default)


def _authorities(old: Files, new: Files) -> Iterator[str]:
    for path in sorted(old):
        host = path.removeprefix(f"{CERTS_D}/").rpartition("/")[0]
        if path.startswith(f"{CERTS_D}/") and path.endswith(".crt"):
            gone = _certificates(old[path]) - _certificates(new.get(path))
            if gone:
                yield f"removes {len(gone)} CA certificate{'s' * (len(gone) != 1)} of {host}"


def _certificates(content: bytes | None) -> set[bytes]:
    return {b"".join(found.split()) for found in _CERTIFICATE.findall(content or b"")}
