"""A long history of a fleet, appended through the real log: its bodies, chain, blobs and folds; only nobody acts.

Pools of nodes; commits that change the Image of all or the mirrors of one pool, each rolled out node by node; drift
that is repaired; now and then a rollback and its end. The same shape and seed give the same events, times apart.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.events.catalogue import (
    BaselineCaptured,
    CommitAccepted,
    CommitObserved,
    DriftDetected,
    DriftRepaired,
    Event,
    FilesApplied,
    FilesRendered,
    HealthChecked,
    HoldLifted,
    NodeConverged,
    NodeCordoned,
    NodeDrained,
    NodeRegistered,
    NodeUncordoned,
    PoolConfigured,
    ResourceAdded,
    ResourceChanged,
    RolledBack,
    RolloutCompleted,
    RolloutStarted,
    RuntimeReloaded,
    StepStarted,
    WaveStarted,
)
from reconciler.events.envelope import Actor, NewEvent, event_id, stream_of
from reconciler.ports import Blobs, EventLog
from reconciler.projections.desired import base_digest, meaning
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, canonical_json
from reconciler.rollout.pools import Pool
from reconciler.stages.context import FileEntry, FileSet

FLEET = "default"
ACTOR = Actor("login", "somebody@bench")
"""Who runs the cycle from the command line may say the cycle's word and, in an embedded database, a person's."""
BATCH = 1000
"""Events appended at once, as in a wave."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """How large the history becomes: it ends after the commit with which it has `events` events."""

    events: int
    pools: int = 20
    nodes_per_pool: int = 500
    entries: int = 200
    seed: int = 7


@dataclass
class History:
    """What was made, for questions about it."""

    events: int = 0
    commits: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    """Registries that were allowed for a time."""
    holds: list[str] = field(default_factory=list)


class Generator:
    """Appends a history of a shape to an empty log."""

    def __init__(self, log: EventLog, blobs: Blobs, shape: Shape) -> None:
        self.made = History()
        self._log = log
        self._blobs = blobs
        self._shape = shape
        self._random = random.Random(shape.seed)
        self._pools = {
            f"pool-{number:02}": [f"node-{number:02}-{node:03}" for node in range(shape.nodes_per_pool)]
            for number in range(shape.pools)
        }
        self._allowed = [f"registry-{number}.example.com" for number in range(shape.entries)]
        self._documents: dict[str, tuple[Json, str, str]] = {}
        """Resource → document, its blob, its commit."""
        self._files: dict[str, str] = {}
        """Pool → the file set of its nodes."""
        self._base = ""
        self._hold = ""
        self._roots: set[uuid.UUID] = set()

    async def run(self) -> History:
        await self._begin()
        while self.made.events < self._shape.events:
            number = len(self.made.commits)
            if number % 25 == 24:
                await self._roll_back(number)
            elif number % 25 == 12:
                await self._commit(number, "Image/cluster", self._image(), list(self._pools))
            else:
                pool = self._random.choice(list(self._pools))
                await self._commit(number, f"sites/{pool}:ImageDigestMirrorSet/site", self._mirrors(number), [pool])
            await self._drift()
        return self.made

    # --- commits --------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        commit, root = self._observed(0)
        names = list(self._pools)
        bodies: list[Event] = [commit, CommitAccepted(commit.commit, tuple(names))]
        for name in names:
            spec = Pool(name, {"mode": "enforce", "paths": [".", f"sites/{name}"]}).spec
            bodies.append(PoolConfigured(name, commit.commit, f"sites/{name}/pool.yaml", 1, spec, {}))
        bodies.append(await self._resource(commit.commit, "Image/cluster", self._image(), names))
        for name in names:
            identity = f"sites/{name}:ImageDigestMirrorSet/site"
            bodies.append(await self._resource(commit.commit, identity, self._mirrors(0), [name]))
        spec = {"transport": "ssh", "address": "192.0.2.1", "port": 22, "user": "core", "labels": {"site": ""}}
        bodies += [NodeRegistered(node, name, commit.commit, spec) for name in names for node in self._pools[name]]
        await self._append(bodies, root)
        (empty,) = await self._blobs.put([b"# as installed\n"])
        files = {REGISTRIES_CONF: empty, POLICY_JSON: None}
        self._base = base_digest(files)
        captured = [BaselineCaptured(node, self._base, files, "f" * 32) for name in names for node in self._pools[name]]
        await self._append_all(captured)
        await self._roll_out(commit.commit, root, names)

    async def _commit(self, number: int, identity: str, document: Json, pools: Sequence[str]) -> None:
        commit, root = self._observed(number)
        changed = await self._resource(commit.commit, identity, document, pools)
        await self._append([commit, CommitAccepted(commit.commit, tuple(pools)), changed], root)
        await self._roll_out(commit.commit, root, pools)

    def _observed(self, number: int) -> tuple[CommitObserved, uuid.UUID]:
        sha = f"{self._random.getrandbits(160):040x}"
        who = f"author-{self._random.randrange(12)}"
        day = f"2026-{1 + number // 28 % 12:02}-{1 + number % 28:02}T09:00:00Z"
        person = (who, f"{who}@example.com", day)
        parent = self.made.commits[-1] if self.made.commits else None
        body = CommitObserved(sha, parent, *person, *person, f"Change {number}", "", str(number), "judged")
        self.made.commits.append(sha)
        return body, self._identity(body)

    async def _resource(
        self, commit: str, identity: str, document: Json, pools: Sequence[str]
    ) -> ResourceAdded | ResourceChanged:
        contents = (canonical_json(document).encode(), f"# {commit}\n".encode(), b'{"": 1}')
        content, text, lines = await self._blobs.put(contents)
        before = self._documents.get(identity)
        self._documents[identity] = (document, content, commit)
        added = ResourceAdded(
            identity, tuple(sorted(pools)), commit, "file.yaml", 1, content, text, lines, meaning(document)
        )
        return ResourceChanged(**added.as_data(), previous=before[1]) if before else added

    def _image(self) -> Json:
        """The Image: each time one registry less and a new one."""
        gone = self._allowed.pop(self._random.randrange(len(self._allowed)))
        self.made.entries.append(gone)
        self._allowed.append(f"registry-{len(self.made.commits)}-new.example.com")
        sources = {"allowedRegistries": list(self._allowed)}
        return _document("Image", "cluster", {"registrySources": sources})

    def _mirrors(self, number: int) -> Json:
        rows = [
            {"source": f"quay.io/team-{row}", "mirrors": [f"mirror-{number}.example.com/{row}"]} for row in range(8)
        ]
        return _document("ImageDigestMirrorSet", "site", {"imageDigestMirrors": rows})

    # --- rollback -------------------------------------------------------------------------------------------------

    async def _roll_back(self, number: int) -> None:
        """The fleet's Image goes back to what it is and is held; or the hold is lifted."""
        pools = tuple(self._pools)
        if self._hold:
            lifted = HoldLifted(self._hold, pools, (0,), "resumed", None, "the mirror is back")
            await self._append([lifted], self._identity(lifted))
            self._hold = ""
        else:
            document, content, commit = self._documents["Image/cluster"]
            said = meaning(document)
            restored = {
                "content": content, "meaning": said, "text": content, "lines": content, "file": "file.yaml", "line": 1,
                "commit": commit,
            }  # fmt: skip
            entry = {"id": 0, "resource": "Image/cluster", "scope": {"kind": "fleet", "name": ""}, "restored": restored}
            self._hold = f"h-{number:08x}"
            self.made.holds.append(self._hold)
            body = RolledBack(self._hold, pools, 1, None, None, ({**entry, "refused": ()},), (), (), "pulls fail")
            await self._append([body], self._identity(body))
        self.made.commits.append("")

    # --- rollouts -------------------------------------------------------------------------------------------------

    async def _roll_out(self, commit: str, root: uuid.UUID, pools: Sequence[str]) -> None:
        for pool in pools:
            files = await self._render(pool)
            rendered = FilesRendered(pool, "", self._base, files[:40], "2", files, files, "reload")
            rollout = str(uuid.UUID(int=self._random.getrandbits(128)))
            nodes = self._pools[pool]
            started = RolloutStarted(
                pool, rollout, files, {self._base: files}, len(nodes), "reload", "reload", ("a row changed",), commit
            )
            waves = (nodes[:1], nodes[1:])
            await self._append([rendered], root)
            await self._append([started, WaveStarted(pool, rollout, 0, "canary", tuple(waves[0]))], root)
            await self._append_all(self._turn(pool, rollout, waves[0][0], files), root)
            await self._append([WaveStarted(pool, rollout, 1, "wave", tuple(waves[1]))], root)
            await self._append_all([body for node in waves[1] for body in self._turn(pool, rollout, node, files)], root)
            await self._append([RolloutCompleted(pool, rollout, len(nodes), ())], root)

    async def _render(self, pool: str) -> str:
        """The pool's file set for its documents; stored as rendering would."""
        contents = [
            f"# {pool}\n{self._documents['Image/cluster'][1]}\n".encode(),
            canonical_json(
                {name: content for name, (_, content, _) in self._documents.items() if pool in name}
            ).encode(),
        ]
        names = await self._blobs.put(contents)
        paths = (REGISTRIES_CONF, POLICY_JSON)
        file_set = FileSet(tuple(FileEntry(path, 0o644, name) for path, name in zip(paths, names, strict=True)))
        (files,) = await self._blobs.put([file_set.encode()])
        self._files[pool] = files
        return files

    def _turn(self, pool: str, rollout: str, node: str, files: str, purpose: str = "rollout") -> Iterator[Event]:
        """What one node's turn tells; each fiftieth is drained."""
        step = f"step-{rollout[:8]}-{node}"
        drained = self._random.random() < 0.02
        actions = ("reload:crio.service",)
        yield StepStarted(
            pool, node, rollout, step, purpose, files, self._base, "d" * 64, (), actions, "reload", "owner", 1,
            "drain" if drained else "reload",
        )  # fmt: skip
        if drained:
            yield NodeCordoned(node, pool, step)
            yield NodeDrained(node, pool, step)
        yield FilesApplied(node, pool, step, files, (REGISTRIES_CONF,), ())
        yield RuntimeReloaded(node, pool, step, actions[0], True)
        yield HealthChecked(node, pool, step, ("active",))
        receipt = {
            "result": "applied", "generation": len(self.made.commits), "machine_id": "f" * 32, "manifest": "e" * 64,
            "active": "active", "loaded": True, "unit": "crio.service",
        }  # fmt: skip
        yield NodeConverged(node, pool, step, files, self._base, receipt)
        if drained:
            yield NodeUncordoned(node, pool, step)

    async def _drift(self) -> None:
        """Some nodes differ and are repaired; those that drift do so often."""
        nodes = [(pool, node) for pool, members in self._pools.items() for node in members]
        bodies: list[tuple[Event, uuid.UUID]] = []
        for pool, node in self._random.choices(nodes[:: max(1, len(nodes) // 500)], k=max(1, len(nodes) // 200)):
            files = self._files[pool]
            differs = ({"path": REGISTRIES_CONF, "expected": files, "observed": "c" * 64, "mode": "0644"},)
            detected = DriftDetected(node, pool, "c" * 64, differs)
            root = self._identity(detected)
            rollout = str(uuid.UUID(int=self._random.getrandbits(128)))
            turn = list(self._turn(pool, rollout, node, files, "repair"))
            bodies += [
                (body, root) for body in (detected, *turn[:-1], DriftRepaired(node, pool, rollout, differs), turn[-1])
            ]
        await self._append_pairs(bodies)

    # --- appending ------------------------------------------------------------------------------------------------

    def _identity(self, body: Event) -> uuid.UUID:
        return event_id(stream_of(FLEET, body), self.made.events, body.type, str(self._random.getrandbits(64)))

    async def _append(self, bodies: Sequence[Event], root: uuid.UUID) -> None:
        """One group; a root among them comes first and has the identity that the others name."""
        pairs = [(body, root) for body in bodies]
        await self._append_pairs(pairs, whole=True)

    async def _append_all(self, bodies: Sequence[Event] | Iterator[Event], root: uuid.UUID | None = None) -> None:
        await self._append_pairs([(body, root or self._identity(body)) for body in bodies])

    async def _append_pairs(self, pairs: Sequence[tuple[Event, uuid.UUID]], *, whole: bool = False) -> None:
        size = max(1, len(pairs)) if whole else BATCH
        for start in range(0, len(pairs), size):
            events = [self._new(body, root) for body, root in pairs[start : start + size]]
            await self._log.append(events, {})
            self.made.events += len(events)

    def _new(self, body: Event, root: uuid.UUID) -> NewEvent:
        own = root if root not in self._roots else self._identity(body)
        self._roots.add(root)
        return NewEvent(own, FLEET, stream_of(FLEET, body), body, ACTOR, root, None if own == root else root)


def _document(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
