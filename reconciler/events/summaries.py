"""One readable line per event, for history: what happened, to what effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from reconciler.events.catalogue import Event


def summary(body: Event) -> str:
    """The event in words, without its subject and time. Unknown types say their name."""
    line = _LINES.get(body.type)
    return line(body) if line else body.type


def _some(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _problems(body: Any) -> str:
    first = body.problems[0] if body.problems else {"message": ""}
    place = f"{first['file']}:{first['line']}: " if first.get("file") else ""
    more = f" (and {len(body.problems) - 1} more)" if len(body.problems) > 1 else ""
    return f"rejected for {'all pools' if body.whole else _some(body.pools)}: {place}{first['message']}{more}"


def _observed(body: Any) -> str:
    request = f" (pull request #{body.pull_request})" if body.pull_request else ""
    return f"{body.author}: {body.subject}{request}{_signed(body.signature)}"


def _signed(signature: Any) -> str:
    if signature is None:
        return ""
    if signature["verdict"] == "good":
        return f", signed by {signature['signer']}"
    return f", {signature['verdict'].replace('-', ' ')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _rendered(body: Any) -> str:
    whom = f"node {body.node}" if body.node else f"pool {body.pool}"
    return f"files {body.files[:12]} for {whom} over base {body.base[:12]}, class {body.disruption}"


def _rolled_back(body: Any) -> str:
    scope = f"node {body.node}" if body.node else f"pool {body.pool}" if body.pool else "fleet"
    resources = [entry["resource"] or "the baseline" for entry in body.entries]
    return f"{scope} back to #{body.position}, hold {body.hold} on {_some(resources)}: {body.reason}"


def _drained(body: Any) -> str:
    if body.skipped:
        return f"not drained: {body.skipped}"
    return f"drained, against disruption budgets: {_some(body.forced)}" if body.forced else "drained"


def _held_back(body: Any) -> str:
    if body.whole:
        return f"held back for {_some(body.pools)}: {body.reason.splitlines()[0]}"
    entries = [f"{entry['resource']} ({entry['git']}, hold {entry['hold']})" for entry in body.entries]
    return f"held back in part: {_some(entries)}"


def _judged(body: Any) -> str:
    known = f"guard: {_count(body.images, 'image')}" if body.images else "guard: NOT ARMED"
    lost = [item["image"] for change in body.changes for item in change["turned"] if not item["override"]]
    given_up = sum(len(c["turned"]) + c["more"] - c["blocking"] for c in body.changes)
    if lost:
        more = sum(change["blocking"] for change in body.changes) - len(lost)
        return f"{known}; no longer pullable: {_some(lost)}" + (f" (and {more} more)" if more > 0 else "")
    if not body.images and any(change["weakens"] for change in body.changes):
        return f"{known}; waits for approval: {_some([what for c in body.changes for what in c['weakens']])}"
    return known + (f"; {given_up} given up" if given_up else "")


def _approved(body: Any) -> str:
    what = f"the files {_some([name[:12] for name in body.files])} of pool {body.pool}" if body.pool else ""
    return f"approved {what or body.subject[:12]}: {body.reason}"


def _converged(body: Any) -> str:
    return f"has files {body.files[:12]}, generation {body.receipt.get('generation')}"


def _drift(body: Any) -> str:
    return f"differs from its receipt: {_some([item['path'] for item in body.differs])}"


def _contested(body: Any) -> str:
    package = f", package {body.package}" if body.package else ""
    moment = f"{datetime.fromtimestamp(body.mtime, UTC):%Y-%m-%dT%H:%M:%SZ}"
    written = f"written {moment} by uid {body.uid}{package}" if body.mtime else "removed"
    return f"{body.path} differs again after {body.count} repairs: {written}; left alone for 24 h"


def _shadows(body: Any) -> str:
    places = [f"{item['file']}:{item['line']} decides {_some(item['scopes'])}" for item in body.shadows]
    return f"shadowed: {_some(places)}" if places else "nothing shadows our files any more"


def _reload(body: Any) -> str:
    loaded = {True: "seen to load", False: "did not load", None: "loading cannot be seen"}[body.loaded]
    return f"{body.action}: {loaded}"


def _step(body: Any) -> str:
    actions = ", ".join(body.actions) or "no action"
    return f"{body.purpose} of {body.node}: files {body.files[:12]}, class {body.disruption}, {actions}"


def _placed(body: Any) -> str:
    return f"pool {body.pool or '(none)'}" + (f": {body.reason}" if body.reason else "")


def _condition(body: Any) -> str:
    if not body.uid:
        return "is not in the cluster any more"
    ready = "Ready" if body.ready else f"NotReady ({body.reason})"
    cordon = f" by step {body.cordoned_by}" if body.cordoned_by else " by somebody else"
    return f"{ready}{f', cordoned{cordon}' if body.unschedulable else ''}, kubelet {body.version}, {body.runtime}"


def _restored(body: Any) -> str:
    names = [f"{item['source']} {item['name']}" for item in body.evidence]
    others = f" and {body.more} more" if body.more else ""
    return (
        f"this copy of the log is contradicted by {_some(names)}{others}: nothing is written until a person accepts it"
    )


def _compared(body: Any) -> str:
    said = [
        f"not adopted: {_some([item['key'] for item in body.unadopted])}" if body.unadopted else "",
        f"beside Git: {_some(sorted(body.foreign))}" if body.foreign else "",
        f"of another log or fleet: {_some(sorted(body.others))}" if body.others else "",
        f"not served: {_some(body.unserved)}" if body.unserved else "",
    ]
    return "; ".join(filter(None, said)) or "nothing in the cluster is left that is not ours"


def _applied(body: Any) -> str:
    taken = f", fields taken from {_some(body.taken)}" if body.taken else ""
    what = f"changed {_some(body.changed)}" if body.changed else "nothing differed" if body.before else "created"
    return f"{body.key} applied to the cluster ({body.purpose}): {what}{taken}, generation {body.generation}"


def _edited(body: Any) -> str:
    first = body.differs[0]
    who = f"{first['manager']} ({first['operation']}, {first['time']})" if first["manager"] else "nobody known"
    what = _some([item["path"] for item in body.differs if item["path"]])
    return f"{body.key} was {f'changed by {who}: {what}' if what else f'removed or replaced by {who}'}"


def _machine_pool(body: Any) -> str:
    held = [name for name in ("RenderDegraded", "NodeDegraded") if _holds(body, name)]
    trouble = "".join(f", {name}: {body.conditions[name]['message']}" for name in held)
    paused = ", paused" if body.paused else ""
    return f"{body.updated} of {body.machines} machines have {body.target or 'no config'}{paused}{trouble}"


def _holds(body: Any, condition: str) -> bool:
    return bool(body.conditions.get(condition, {}).get("status") == "True")


def _machine(body: Any) -> str:
    reason = f": {body.reason}" if body.reason else ""
    to = f", is to get {body.desired}" if body.desired != body.current else ""
    return f"{body.state or 'no state'}{reason}, has {body.current}{to}"


_LINES: dict[str, Callable[[Any], str]] = {
    "ClusterResourcesUnreachable": lambda b: f"the cluster's resources cannot be read: {b.reason}",
    "ClusterResourcesRecovered": lambda _: "the cluster's resources can be read again",
    "ClusterBaselineCaptured": lambda b: (
        f"first contact with the cluster: {_some(sorted(b.objects)) or 'nothing'} stood"
    ),
    "ClusterCompared": _compared,
    "ClusterAdoptionAsked": lambda b: f"{_some(sorted(b.objects))} to be taken: {b.reason}",
    "ClusterResourceApplied": _applied,
    "ClusterResourceDeleted": lambda b: (
        f"{b.key} {'removed from the cluster' if b.uid else 'is not ours in the cluster any more'}"
    ),
    "ClusterResourceRefused": lambda b: f"{b.key} refused: {b.reason}",
    "ClusterContentApplied": lambda b: f"the cluster says what is wanted, files {b.files[:12]}",
    "ClusterDriftDetected": _edited,
    "ClusterDriftRepaired": lambda b: f"{b.key} is as applied again{' (from outside)' * (b.by == 'outside')}",
    "ClusterDriftAdopted": lambda b: f"branch {b.branch} says what the cluster says of {b.key}: {b.reason}",
    "ClusterRepairAsked": lambda b: f"{_some(sorted(b.objects))} to be put right: {b.reason}",
    "MachineConfigPoolChanged": _machine_pool,
    "MachineConfigChanged": _machine,
    "FleetConfigured": lambda b: f"source {b.url}, branch {b.branch}, path {b.path}",
    "CommitObserved": _observed,
    "CommitAccepted": lambda b: (
        f"accepted by {_some(b.pools) or 'no pool'}" + (f", {len(b.warnings)} warnings" if b.warnings else "")
    ),
    "CommitRejected": _problems,
    "MassRemovalDetected": lambda b: f"waits for approval: takes away {_some(b.removes)}",
    "ChangeApproved": _approved,
    "SourceUnreachable": lambda b: f"Git cannot be read: {b.reason}",
    "SourceRecovered": lambda _: "Git can be read again",
    "HistoryRewritten": lambda b: f"branch rewritten: {b.old_head[:12]} is gone, head is {b.commit[:12]}",
    "HistoryRestored": lambda b: f"branch contains what was recorded again, head is {b.commit[:12]}",
    "HistoryAccepted": lambda b: f"rewritten branch accepted: {b.reason}",
    "ResourceAdded": lambda b: f"added at {b.file}:{b.line} for {_some(b.pools)}",
    "ResourceChanged": lambda b: f"changed at {b.file}:{b.line} for {_some(b.pools)}",
    "ResourceRemoved": lambda b: f"removed for {_some(b.pools)}",
    "PoolConfigured": lambda b: f"configured at {b.file}:{b.line}, mode {b.spec['mode']}, base {b.spec['base']}",
    "PoolRemoved": lambda _: "removed from the repository",
    "FilesRendered": _rendered,
    "NodeRegistered": lambda b: f"{'discovered' if b.discovered else 'registered'} in {_placed(b)}",
    "NodeChanged": lambda b: f"changed, in {_placed(b)}",
    "NodeRemoved": lambda b: f"removed from the {'repository' if b.commit else 'cluster'}; it keeps its files",
    "NodeConditionChanged": _condition,
    "ClusterUnreachable": lambda b: f"the cluster cannot be asked: {b.reason}",
    "ClusterAccepted": lambda b: f"the cluster is the fleet's, though it has none of its nodes: {b.reason}",
    "ClusterRecovered": lambda _: "the cluster can be asked again",
    "BaselineCaptured": lambda b: f"base {b.base[:12]} captured",
    "NodeReset": lambda b: f"another machine: {b.old_machine_id} became {b.machine_id}",
    "NodeRenamed": lambda b: f"the machine that was node {b.previous}",
    "NodeUnreachable": lambda b: f"{'refused' if b.refused else 'unreachable'}: {b.reason}",
    "HostKeyChanged": lambda b: f"host key {b.old} became {b.new}{f', refused: {b.reason}' if b.reason else ''}",
    "ReleaseAsked": lambda b: f"to be given back, {'as it was' if b.restore else 'as it is'}: {b.reason}",
    "NodeReleased": lambda b: f"given back, {'as it was' if b.restored else 'as it is'}: {b.reason}",
    "AdoptionAsked": lambda b: f"to be taken from log {b.log_id}: {b.reason}",
    "NodeAdopted": lambda b: f"adopted: {b.reason}",
    "NodeRecovered": lambda _: "answers again",
    "RolledBack": _rolled_back,
    "HoldLifted": lambda b: f"hold {b.hold} lifted ({b.cause}): {b.reason}",
    "HoldExtended": lambda b: f"hold {b.hold} keeps out {_some([e['resource'] for e in b.entries])} as well",
    "HoldReinstated": lambda b: f"hold {b.hold} in force again, since {b.undone} is undone",
    "CommitHeldBack": _held_back,
    "RevertPushed": lambda b: f"branch {b.branch} says what hold {b.hold} restored, commit {b.commit[:12]}",
    "PlanBlocked": lambda b: f"blocked: {b.reason}" if b.reason else "no longer blocked",
    "GuardJudged": _judged,
    "OverrideGranted": lambda b: f"images {b.glob} given up: {b.reason}",
    "RolloutStarted": lambda b: f"{b.kind} of {_count(b.nodes, 'node')}, class {b.disruption}, action {b.effective}",
    "WaveStarted": lambda b: f"{'canary' if b.kind == 'canary' else f'wave {b.wave}'}: {_some(b.nodes)}",
    "RolloutApproved": lambda b: f"approved ({b.stage}): {b.reason}",
    "RolloutAborted": lambda b: f"rollout aborted: {b.reason}",
    "RolloutRetried": lambda b: f"rollout goes on: {b.reason}",
    "ContentRefused": lambda b: f"files {_some([name[:12] for name in b.files])} refused: {b.reason}",
    "PoolPaused": lambda b: f"paused under lock {b.lock}{f' until {b.until}' if b.until else ''}: {b.reason}",
    "PoolResumed": lambda b: f"lock {b.lock} lifted: {b.reason}",
    "WindowOverridden": lambda b: f"windows do not count until {b.until}: {b.reason}",
    "RolloutSuperseded": lambda b: f"rollout superseded by {b.by[:12]}",
    "RolloutHalted": lambda b: f"rollout halted: {b.reason}",
    "RolloutCompleted": lambda b: (
        f"rollout complete, {b.converged} converged"
        + (f", {len(b.deferred)} deferred: {_some(b.deferred)}" if b.deferred else "")
        + (f", {len(b.failed)} failed: {_some(b.failed)}" if b.failed else "")
    ),
    "StepStarted": _step,
    "StepTakenOver": lambda b: f"step of {b.node} taken over by {b.owner}",
    "StepAbandoned": lambda b: f"step abandoned, node untouched: {b.reason}",
    "CheckpointSigned": lambda b: f"#{b.position} {b.hash[:12]} signed with {b.key}, at {b.target}",
    "RestoreDetected": _restored,
    "RestoreAccepted": lambda b: f"this copy of the log goes on, with epoch {b.epoch}: {b.reason}",
    "BlobRedacted": lambda b: f"blob {b.blob[:12]} ({b.size} bytes) redacted: {b.reason}",
    "NodeDeferred": lambda b: f"deferred: {b.reason}",
    "FilesApplied": lambda b: f"wrote {_some([*b.written, *b.restored])}",
    "RuntimeReloaded": _reload,
    "RuntimeRestarted": lambda b: f"{b.action}: done",
    "HealthChecked": lambda b: f"health check {b.failed} failed" if b.failed else f"healthy: {_some(b.checks)}",
    "NodeCordoned": lambda _: "cordoned",
    "NodeDrained": _drained,
    "DrainBlocked": lambda b: f"drain blocked: {b.reason}",
    "NodeUncordoned": lambda b: f"left cordoned: {b.kept}" if b.kept else "uncordoned",
    "NodeConverged": _converged,
    "NodeFailed": lambda b: f"failed ({b.blame}): {b.reason}{', old files back' if b.reverted else ''}",
    "NodeReverted": lambda _: "previous files put back",
    "DriftDetected": _drift,
    "DriftRepaired": lambda b: (
        ("put right from outside: " if b.by == "outside" else "repaired: ")
        + _some([item["path"] for item in b.differs])
    ),
    "DriftIgnored": lambda b: (
        f"differs, and is ignored: {_some([item['path'] for item in b.differs])}"
        if b.differs
        else "nothing that is ignored differs any more"
    ),
    "DriftContested": _contested,
    "MassDriftDetected": lambda b: (
        f"the same drift on {_count(len(b.nodes), 'node')}, none is repaired: {_some(b.nodes)}"
        if b.nodes
        else "no node has the drift any more that many had"
    ),
    "RepairsAllowed": lambda b: f"repairs of {_some(sorted(b.nodes))} allowed: {b.reason}",
    "ShadowFound": _shadows,
    "StrayFound": lambda b: f"files that are not ours: {_some(b.paths)}" if b.paths else "no stray files any more",
}
