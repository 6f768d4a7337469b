"""Signatures of commits: what is wrong with them, how that is told, and what is recorded of who signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reconciler.ports import Signature, SignatureVerdict, Snapshot
from reconciler.projections.tables import FLEETS, Row
from reconciler.registries.model import Problem
from reconciler.stages.context import Context

MOST = 20
"""Problems that one refusal lists; the others are counted."""

_NEXT: Mapping[SignatureVerdict, str] = {
    "unsigned": "sign it: git commit --amend --no-edit -S, or git rebase --exec with that for several",
    "signature-untrusted": "sign it with a listed key; or list the key, if it is really that person's",
    "signature-bad": "find out who changed the commit after it was signed; sign it anew",
    "signature-expired": "sign it anew",
    "signer-not-committer": "commit under an address that the key is listed for, or list the key for this one",
    "key-revoked": "find out who made the commit; have it signed with a key in force",
    "key-expired": "sign it with a key in force; or extend the key, and give its owner's new copy to the settings",
}


@dataclass(frozen=True)
class Checked:
    """What was found for one commit. `data`: as CommitObserved holds it; None: nothing was checked."""

    data: Mapping[str, Any] | None = None
    problems: tuple[Problem, ...] = ()


async def check_signatures(context: Context, snapshot: Snapshot, commit: str) -> Checked:
    """Judge a commit and all that it brings since the last accepted one, as the fleet's `verify` says."""
    verify = context.fleet.verify
    if verify == "none":
        return Checked()
    found = await context.source.signatures(last_accepted(snapshot), commit)
    severity: Literal["error", "warning"] = "error" if verify == "required" else "warning"
    wrong = [_problem(signature, severity) for signature in found if signature.verdict != "good"]
    if len(wrong) > MOST:
        message = f"{len(wrong) - MOST} more commits are not signed as they should be"
        wrong = [*wrong[:MOST], Problem("unsigned", message, object=f"commit {commit[:12]}", severity=severity)]
    own = found[-1]
    data = {"verify": verify, "verdict": own.verdict, "kind": own.kind, "signer": own.signer, "key": own.key}
    return Checked({**data, "commits": len(found)}, tuple(wrong))


async def check_ahead(context: Context, snapshot: Snapshot, head: str) -> None:
    """Have the signatures of everything new judged together; commit by commit would start a process for each."""
    if context.fleet.verify != "none":
        await context.source.signatures(last_accepted(snapshot), head)


def last_accepted(snapshot: Snapshot) -> str | None:
    """The commit up to which signatures have been judged, or were not asked for."""
    row = snapshot.one(FLEETS, snapshot.fleet)
    return row["accepted"] if row else None


def signatures_text(verify: str, row: Row) -> str:
    """For `status`: `not checked`, or the mode and who signed the last accepted commit."""
    if verify == "none":
        return "not checked"
    if row.get("accepted") is None:
        return f"{verify}, no commit accepted yet"
    return f"{verify}, last accepted commit {signed_by(row.get('accepted_signature'))}"


def signed_by(data: Mapping[str, Any] | None) -> str:
    """A recorded signature in words."""
    if data is None:
        return "not checked"
    if data["verdict"] == "good":
        return f"signed by {data['signer']}"
    return str(data["verdict"]).replace("-", " ")


def _problem(signature: Signature, severity: Literal["error", "warning"]) -> Problem:
    return Problem(
        signature.verdict,
        _message(signature),
        object=f"commit {signature.commit[:12]}",
        remedy=_NEXT.get(signature.verdict, ""),
        severity=severity,
    )


def _message(signature: Signature) -> str:
    key = f"{signature.kind} key {signature.key}" if signature.key else f"an {signature.kind} signature"
    committer = f"its committer is {signature.committer}"
    return {
        "unsigned": f"is not signed; {committer}",
        "signature-untrusted": f"is signed with a key that is not listed for commits ({key}); {committer}",
        "signature-bad": f"its signature does not belong to its content; {committer}",
        "signature-expired": f"its signature by {signature.signer} has expired ({key})",
        "signer-not-committer": f"is signed by {signature.signer}, but {committer} ({key})",
        "key-revoked": f"is signed by {signature.signer} with a revoked key ({key})",
        "key-expired": f"is signed with a key that {_not_in_force(signature)} ({key}); {committer}",
    }[signature.verdict]


def _not_in_force(signature: Signature) -> str:
    """An SSH key's dates are compared with the commit's, a GPG key's with today."""
    return "has expired" if signature.kind == "gpg" else f"was not in force at {signature.committed_at}"
