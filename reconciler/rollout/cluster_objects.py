"""What is done to a cluster's resources so that they say what Git says, and in which order.

An object is ours once we applied it: then it carries our mark, and only then is it changed or removed. What stood there
before is unadopted: it is compared and left alone until a person adopts it. See docs/how-to/manage-openshift.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reconciler.registries.model import Resource
from reconciler.rollout.managed_fields import ClusterObject, Difference, differences, foreign_changes, owns

LOG_MARK = "reconciler.dev/log"
"""Annotation of what we applied: the id of the log that the object belongs to."""

FLEET_MARK = "reconciler.dev/fleet"
"""Label of the same: the fleet of that log."""

CA_NAMESPACE = "openshift-config"
IMAGE = "Image/cluster"
MIRROR_KINDS = ("ImageContentSourcePolicy", "ImageDigestMirrorSet", "ImageTagMirrorSet")
POLICY_KINDS = ("ClusterImagePolicy", "ImagePolicy")
APPLY_ORDER = ("ConfigMap", *MIRROR_KINDS, "Image", *POLICY_KINDS)
"""What others need comes first: a CA before the Image that names it, mirrors before what blocks their source, and
policies, which demand more of pulls, last. Removals come after all of these, in the opposite order."""

SAYS_NOTHING: Mapping[str, Any] = {"externalRegistryHostnames": []}
"""The spec of an Image that says nothing. When server-side apply takes the last field away, it leaves null, which the
API then refuses; an empty list of host names means what none means."""

_LEFT_OUT = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})


@dataclass(frozen=True)
class Wanted:
    """A resource in force: its identity in the log, and the document that is applied for it."""

    resource: str
    document: Mapping[str, Any]
    commit: str = ""


@dataclass(frozen=True)
class Known:
    """What the log knows of an object that we applied: what we sent, and what the API made of it."""

    resource: str
    sent: Mapping[str, Any]
    answer: Mapping[str, Any]
    uid: str


@dataclass(frozen=True)
class Action:
    """One call, or none: `forget` leaves an object alone that was ours. `against`: the field managers from whom fields
    may be taken."""

    verb: Literal["apply", "delete", "forget"]
    key: str
    resource: str
    document: Mapping[str, Any]
    live: ClusterObject | None
    against: frozenset[str] = frozenset()
    commit: str = ""
    purpose: Literal["rollout", "repair", "adopt"] = "rollout"


@dataclass(frozen=True)
class Unadopted:
    """An object that Git has, too, and that is not ours: what differs, and who manages it."""

    key: str
    resource: str
    differs: tuple[Difference, ...]
    managers: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The cluster against what is wanted. `actions` are in order; `foreign`: objects beside Git's, which are left
    alone; `others`: wanted objects that belong to another log or, as `fleet NAME`, to another fleet of ours."""

    actions: tuple[Action, ...] = ()
    unadopted: tuple[Unadopted, ...] = ()
    foreign: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)


def key_of(document: Mapping[str, Any]) -> str:
    """How an object is named in its cluster: KIND/NAME, or KIND/NAMESPACE/NAME of an ImagePolicy."""
    kind, metadata = document["kind"], document["metadata"]
    if kind == "ImagePolicy":
        return f"{kind}/{metadata['namespace']}/{metadata['name']}"
    return f"{kind}/{metadata['name']}"


def to_apply(resource: Resource, fleet: str, log_id: str) -> Mapping[str, Any]:
    """The document that is applied for a resource: what Git says, our labels and our mark."""
    given = resource.document.get("metadata") or {}
    return marked({**resource.document, "metadata": given}, fleet, log_id)


def marked(document: Mapping[str, Any], fleet: str, log_id: str) -> Mapping[str, Any]:
    """`document` with our labels and our mark, without what other tools keep in annotations."""
    given = document["metadata"]
    kept = {name: value for name, value in (given.get("annotations") or {}).items() if name not in _LEFT_OUT}
    ours = {"app.kubernetes.io/managed-by": "reconciler", FLEET_MARK: fleet}
    metadata = {
        "name": given["name"],
        "labels": {**(given.get("labels") or {}), **ours},
        "annotations": {**kept, LOG_MARK: log_id},
    }
    if document["kind"] == "ConfigMap":
        metadata["namespace"] = CA_NAMESPACE
    elif given.get("namespace"):
        metadata["namespace"] = given["namespace"]
    body = {name: _pruned(value) for name, value in document.items() if name not in ("metadata", "status")}
    if document["kind"] == "Image" and not body.get("spec"):
        body["spec"] = SAYS_NOTHING
    return {**body, "metadata": metadata}


def _pruned(value: Any) -> Any:
    """Without mappings that are empty: they say nothing, and apply would make null of them."""
    if not isinstance(value, Mapping):
        return value
    found = {name: _pruned(below) for name, below in value.items()}
    return {name: below for name, below in found.items() if below != {}}


def compare(
    wanted: Mapping[str, Wanted],
    known: Mapping[str, Known],
    live: Mapping[str, ClusterObject],
    *,
    log_id: str,
    fleet: str,
    heal: Mapping[str, frozenset[str]],
    adopted: Mapping[str, frozenset[str]],
) -> Comparison:
    """What is to be done. `heal`: objects that drifted and are to be put right, and `adopted`: those that a person
    took, each with the managers from whom fields may be taken. Everything is by `key_of`."""
    actions: list[Action] = []
    unadopted, others = [], {}
    for key, wish in wanted.items():
        found, ours = live.get(key), known.get(key)
        if found is not None and (owner := _other_owner(found, log_id, fleet)):
            others[key] = owner
        elif found is None or _is_ours(found, ours, log_id):
            actions.extend(_wish(key, wish, ours, found, heal))
        elif key in adopted:
            taken = Action("apply", key, wish.resource, wish.document, found, adopted[key], wish.commit, "adopt")
            actions.append(taken)
        else:
            managers = tuple(sorted({manager.manager for manager in found.managers}))
            differs = differences(wish.document, found.document)
            unadopted.append(Unadopted(key, wish.resource, differs, managers))
    for key, ours in known.items():
        if key not in wanted:
            actions.extend(_removal(key, ours, live.get(key), log_id, fleet))
    foreign = sorted(key for key in live if key not in wanted and key not in known)
    return Comparison(in_order(actions), tuple(unadopted), tuple(foreign), others)


def _other_owner(found: ClusterObject, log_id: str, fleet: str) -> str:
    """The log, or the fleet of our log, that an object is marked for, if that is not us."""
    metadata = found.document["metadata"]
    mark = str((metadata.get("annotations") or {}).get(LOG_MARK) or "")
    label = str((metadata.get("labels") or {}).get(FLEET_MARK) or fleet)
    return mark if mark != log_id else f"fleet {label}" if label != fleet else ""


def _is_ours(found: ClusterObject, ours: Known | None, log_id: str) -> bool:
    """Applied by us, as the log knows, or as the object's mark tells where we ended before we could record it. One that
    was made anew under the name of ours is not."""
    mark = (found.document["metadata"].get("annotations") or {}).get(LOG_MARK)
    return mark == log_id or (ours is not None and ours.uid == found.uid)


def _wish(
    key: str, wish: Wanted, ours: Known | None, found: ClusterObject | None, heal: Mapping[str, frozenset[str]]
) -> Iterable[Action]:
    """The call that brings an object of ours, or one that is not there, to what is wanted; none where it is."""
    if ours is None or wish.document != ours.sent:
        purpose: Literal["rollout", "repair"] = "rollout"
    elif key in heal:
        purpose = "repair"
    else:
        return
    against = heal.get(key, frozenset()) | _agreeing(ours, wish, found)
    yield Action("apply", key, wish.resource, wish.document, found, against, wish.commit, purpose)


def _agreeing(ours: Known | None, wish: Wanted, found: ClusterObject | None) -> frozenset[str]:
    """Who once wrote by hand, into fields that change now, what we had applied: nothing of theirs is overwritten. Who
    applies such a field, as another tool does, goes on doing so, and is asked first; so is who made it differ."""
    if ours is None or found is None or foreign_changes(ours.answer, found):
        return frozenset()
    paths = [item.path for item in differences(wish.document, found.document) if item.kind == "changed"]
    editors = [entry for entry in found.managers if entry.operation == "Update"]
    return frozenset(entry.manager for entry in editors if any(owns(entry.fields, path) for path in paths))


def _removal(key: str, ours: Known, found: ClusterObject | None, log_id: str, fleet: str) -> Iterable[Action]:
    """Of the Image only our fields are taken away, since a cluster is never without one. What another log or fleet took
    over, or somebody made anew, is theirs."""
    if found is not None and (_other_owner(found, log_id, fleet) or not _is_ours(found, ours, log_id)):
        yield Action("forget", key, ours.resource, ours.sent, found)
        return
    if key == IMAGE:
        names = ("apiVersion", "kind", "metadata")
        emptied = {**{name: ours.sent[name] for name in names}, "spec": SAYS_NOTHING}
        if ours.sent != emptied:
            yield Action("apply", key, ours.resource, emptied, found)
        return
    yield Action("delete", key, ours.resource, ours.sent, found)


def in_order(actions: Iterable[Action]) -> tuple[Action, ...]:
    """As they are carried out, so that no state in between keeps out what the states before and after let in."""

    def place(action: Action) -> tuple[int, int, str]:
        rank = APPLY_ORDER.index(action.key.partition("/")[0])
        return (0, rank, action.key) if action.verb == "apply" else (1, -rank, action.key)

    return tuple(sorted(actions, key=place))


def unserved(wanted: Collection[str], kinds: Collection[str]) -> tuple[str, ...]:
    """The kinds of wanted objects that the cluster does not serve."""
    return tuple(sorted({key.partition("/")[0] for key in wanted} & set(kinds)))
