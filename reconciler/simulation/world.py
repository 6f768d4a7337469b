"""A fleet in memory to simulate with: from two directories of manifests, or from where a real fleet stands."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from reconciler import __version__
from reconciler.events.catalogue import Event, NodeConverged, RolloutCompleted, RolloutStarted, StepStarted
from reconciler.events.envelope import Actor
from reconciler.ports import ApplyRequest, Commit, FileContent, ManifestFile, Owner, Snapshot, Source
from reconciler.projections.fold import LogFold
from reconciler.projections.tables import FLEETS, HOLDS, NODE_STATES, NODES, POOLS, RENDERS, RESOURCES, Row
from reconciler.rollout.pools import Pool
from reconciler.source.memory import MemorySource
from reconciler.stages.context import EPOCH, Context, FleetSettings, decode_file_set
from reconciler.stages.observe import observe, wanted_files
from reconciler.stages.project import project
from reconciler.stages.record import fetch, record
from reconciler.stages.sight import Sight
from reconciler.store.memory import MemoryBlobs, MemoryEventLog, MemoryLeases, MemoryReadModel
from reconciler.transport.memory_parts import Entry
from reconciler.transport.simulated import Availability, Pace, SimulatedDrainer, SimulatedTransport
from reconciler.work.inline import InlineRunner
from reconciler.work.virtual import VirtualClock

OWNER = "simulation"


@dataclass
class World:
    """The parts of a simulated fleet."""

    context: Context
    clock: VirtualClock
    log: MemoryEventLog
    source: MemorySource
    transport: SimulatedTransport
    drainer: SimulatedDrainer
    availability: Availability
    troubled: Counter[str] = field(default_factory=Counter)
    """Nodes with trouble now."""

    def trouble(self, name: str, kind: str, *, on: bool) -> None:
        """A fault of simulation.faults.KINDS comes upon a node, or leaves it."""
        self.troubled[name] += 1 if on else -1
        self.troubled += Counter()  # without those at 0
        faults = self.transport.node(name).faults
        if kind == "unreachable":
            faults.unreachable = on
            self.availability.mark(name, "away", on=on)
        elif kind == "reload":
            faults.reload = "unable" if on else ""
        elif kind == "health":
            faults.unhealthy_after = on
        elif kind == "disk-full":
            faults.disk_full = on
        else:
            nodes = self.drainer.stuck if kind == "drain" else self.drainer.kept
            (nodes.add if on else nodes.discard)(name)


@dataclass(frozen=True)
class Standing:
    """Where a real fleet stands: its read tables, the log's id, and the contents that they name.

    `files` are those of the repository's head, or None where the log has that commit already.
    """

    fleet: FleetSettings
    snapshot: Snapshot
    log_id: str
    contents: Mapping[str, bytes]
    files: Sequence[ManifestFile] | None


def make_world(
    fleet: FleetSettings, pools: Mapping[str, str | None], pace: Pace, start: datetime, stands: Standing | None = None
) -> World:
    """An empty world, or one whose log goes on from where a fleet stands. `pools` maps each node to its pool."""
    contents, since = (stands.contents, stands.snapshot) if stands else ({}, None)
    clock, availability, blobs = VirtualClock(start), Availability(pools), MemoryBlobs(contents)
    transport = SimulatedTransport(clock, pace, availability)
    drainer = SimulatedDrainer(clock, pace.drain, availability)
    log = MemoryEventLog(LogFold(), clock, blobs=blobs, tool_version=__version__, since=since)
    source = MemorySource([])
    context = Context(
        fleet,
        source,
        log,
        blobs,
        MemoryReadModel(log, clock),
        MemoryLeases(clock),
        InlineRunner(transport, limit=1_000_000),
        clock,
        Actor("login", OWNER),
        OWNER,
        __version__,
        drainers={"command": drainer, "kubernetes": drainer},
    )
    return World(context, clock, log, source, transport, drainer, availability)


def commit_of(files: Sequence[ManifestFile], parent: str | None, at: datetime, message: str) -> Commit:
    """A commit with these files, as it could be one of the repository."""
    content = "\n".join(f"{file.path} {file.blob}" for file in files)
    sha = hashlib.sha1(f"{parent}\n{message}\n{content}".encode(), usedforsecurity=False).hexdigest()
    day = f"{at:%Y-%m-%dT%H:%M:%SZ}"
    return Commit(sha, parent, OWNER, "", day, OWNER, "", day, message)


# --- A fleet that stands where a real one does ----------------------------------------------------------------------


async def standing(context: Context, source: Source) -> Standing:
    """Read where a fleet stands from its log, and what comes next from `source`. Raises SourceError."""
    snapshot = await context.snapshot()
    sets = await context.blobs.get(sorted(_file_sets(snapshot)))
    entries = {entry.sha256 for blob in sets.values() for entry in decode_file_set(blob).entries}
    contents = {**sets, **await context.blobs.get(sorted(entries | _contents(snapshot)))}
    head, recorded = await source.head(), (snapshot.one(FLEETS, context.name) or {}).get("head")
    files = await source.manifests(head) if head != recorded else None
    return Standing(context.fleet, snapshot, context.log.log_id, contents, files)


def _file_sets(snapshot: Snapshot) -> set[str]:
    """Every file set that a node has, should have, or may go back to."""
    states = snapshot.table(NODE_STATES).values()
    found = {row["files"] for row in (*states, *snapshot.table(RENDERS).values()) if row["files"]}
    found |= {name for row in states for name in row["unproven"] or ()}
    found |= {name for row in snapshot.table(POOLS).values() for name in _completed(row).values()}
    return found | {files["files"] for hold in snapshot.table(HOLDS).values() for files in hold["files"]}


def _contents(snapshot: Snapshot) -> set[str]:
    """What the resources in force and the nodes' base files consist of."""
    versions: list[Mapping[str, str]] = list(snapshot.table(RESOURCES).values())
    for hold in snapshot.table(HOLDS).values():
        versions += [entry["restored"] for entry in hold["entries"] if entry["restored"]]
    found = {version[name] for version in versions for name in ("content", "text", "lines")}
    bases = [row["base_files"] or {} for row in snapshot.table(NODE_STATES).values()]
    return found | {sha256 for base in bases for sha256 in base.values() if sha256}


def _completed(row: Row) -> Mapping[str, str]:
    targets: Mapping[str, str] = (row["completed"] or {}).get("targets") or {}
    return targets


def continued(stands: Standing, pools: Mapping[str, str | None], pace: Pace, start: datetime) -> World:
    """The fleet in memory, each node with the files that its last receipt proved. `pools`: of nodes, as they will be.

    A node that did not answer does not answer here either.
    """
    nodes = {key[1]: row["pool"] for key, row in stands.snapshot.table(NODES).items()}
    world = make_world(stands.fleet, {**nodes, **pools}, pace, start, stands)
    world.log.log_id = stands.log_id
    for name in nodes:
        _put(world, stands, name, stands.snapshot.one(NODE_STATES, stands.snapshot.fleet, name) or {})
    return world


def _put(world: World, stands: Standing, name: str, state: Row) -> None:
    """Make one node as its row says."""
    node = world.transport.node(name)
    node.machine_id = state.get("machine_id") or ""
    base = {path: stands.contents[sha256] for path, sha256 in (state.get("base_files") or {}).items() if sha256}
    node.files = {path: Entry(content) for path, content in base.items()}
    if state.get("files"):
        entries = decode_file_set(stands.contents[state["files"]]).entries
        node.files |= {entry.path: Entry(stands.contents[entry.sha256], entry.mode) for entry in entries}
        node.baseline = {entry.path: Entry(base[entry.path]) if entry.path in base else None for entry in entries}
        node.owner = Owner(stands.log_id, EPOCH, 0, state.get("generation") or 0, "")
    if state.get("unreachable") and not state.get("refused"):
        world.trouble(name, "unreachable", on=True)
    if state.get("cordoned"):
        world.availability.mark(name, "cordoned", on=True)


# --- A fleet that has converged on a directory of manifests ---------------------------------------------------------


async def converge(world: World) -> None:
    """Give every node of the enforcing pools the files of the newest commit at once, as if it had long had them."""
    context = world.context
    head = await fetch(context)
    assert head is not None  # noqa: S101  the source is in memory
    await record(context, head)
    sights = await observe(context)
    await project(context)
    snapshot = await context.snapshot()
    for (_, pool), row in sorted(snapshot.table(POOLS).items()):
        nodes = [sight for sight in sights.values() if sight.pool == pool]
        if nodes and row["spec"] and Pool(pool, row["spec"]).enforces:
            await _converge_pool(world, pool, row["commit"], nodes)


async def _converge_pool(world: World, pool: str, commit: str | None, nodes: Sequence[Sight]) -> None:
    context, snapshot = world.context, await world.context.snapshot()
    states = {sight.name: snapshot.table(NODE_STATES)[snapshot.fleet, sight.name] for sight in nodes}
    wanted = {sight.name: wanted_files(snapshot, replace(sight, state=states[sight.name])) for sight in nodes}
    targets = {str(states[name]["base"]): files for name, files in wanted.items() if files}
    rollout = f"before-{pool}"
    begun: list[Event] = [RolloutStarted(pool, rollout, "", targets, len(nodes), "none", "none", (), commit)]
    begun += [_step(pool, name, rollout, files, str(states[name]["base"])) for name, files in wanted.items() if files]
    stored = await context.append(context.events(snapshot, begun), snapshot)
    snapshot = await context.snapshot()
    ended: list[Event] = []
    for event in stored:
        if isinstance(event.body, StepStarted):
            request = await _request(context, event.body, event.position)
            receipt = world.transport.node(event.body.node).apply(request, int(world.clock.now().timestamp()))
            body = event.body
            ended.append(NodeConverged(body.node, pool, body.step, body.files, body.base, receipt.as_data()))
    ended.append(RolloutCompleted(pool, rollout, len(ended), ()))
    await context.append(context.events(snapshot, ended), snapshot)


def _step(pool: str, node: str, rollout: str, files: str, base: str) -> StepStarted:
    return StepStarted(pool, node, rollout, f"before-{node}", "rollout", files, base, "", (), (), "none", OWNER, EPOCH)


async def _request(context: Context, step: StepStarted, fence: int) -> ApplyRequest:
    entries = (await context.load_file_set(step.files)).entries
    contents = await context.load(entry.sha256 for entry in entries)
    files = tuple(FileContent(entry.path, contents[entry.sha256], entry.mode) for entry in entries)
    return ApplyRequest(context.log.log_id, EPOCH, fence, step.step, "crio", files)
