"""What every event log, blob store, read model and lease store must do; memory and PostgreSQL run it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.errors import ContentRedacted, EventConflict, InputRejected, LogCorrupt, UsageError, WrongExpectation
from reconciler.events.catalogue import (
    BaselineCaptured,
    BlobRedacted,
    Event,
    FilesRendered,
    NodeRegistered,
    NodeRemoved,
    ResourceAdded,
    ResourceRemoved,
    SourceRecovered,
    SourceUnreachable,
)
from reconciler.events.codec import canonical
from reconciler.events.envelope import Actor, NewEvent, StoredEvent, event_id, fleet_stream, node_stream, stream_of
from reconciler.ports import Blobs, EventFilter, EventLog, Leases, ReadModel, Redaction
from reconciler.projections.tables import FLEETS, NODE_STATES, NODES

ALICE = Actor("login", "login:alice@host", claimed="Alice")
FLEET = "default"
LOST = "0" * 64


class SteppingClock:
    """Moves on by a second at each look; at the look `back` it goes back to its start."""

    def __init__(self, back: int = 0) -> None:
        self._looks = 0
        self._back = back

    def now(self) -> datetime:
        self._looks += 1
        return datetime(2026, 1, 31, 9, tzinfo=UTC) + timedelta(seconds=self._looks if self._looks != self._back else 0)

    async def sleep(self, seconds: float) -> None:
        self._looks += int(seconds)


@dataclass
class Store:
    """The four ports over one storage."""

    log: EventLog
    blobs: Blobs
    reads: ReadModel
    leases: Leases


def new(body: Event, version: int = 0, key: str = "", fleet: str = FLEET) -> NewEvent:
    """An event as the cycle makes it: its id follows from the state it was decided on."""
    own = event_id(stream_of(fleet, body), version, body.type, key)
    return NewEvent(own, fleet, stream_of(fleet, body), body, ALICE, own)


def registered(node: str, fleet: str = FLEET, pool: str | None = "worker") -> NewEvent:
    body = NodeRegistered(node, pool, "c" * 40, {"labels": {"zone": "日本"}})
    return new(body, 0, node, fleet)


def unreachable(reason: str, version: int = 0) -> NewEvent:
    return new(SourceUnreachable(reason), version, reason)


class EventLogConformance:
    """Subclasses give a `store` fixture."""

    async def test_append_numbers_events_and_streams_without_gaps(self, store: Store) -> None:
        first = await store.log.append([unreachable("down"), registered("a")], {fleet_stream(FLEET): 0})
        second = await store.log.append([new(SourceRecovered(), 1)], {fleet_stream(FLEET): 1})
        events = [*first, *second]
        assert [(e.position, e.stream, e.version, e.group) for e in events] == [
            (1, "fleet/default", 1, 1),
            (2, "node/default/a", 1, 1),
            (3, "fleet/default", 2, 3),
        ]

    async def test_what_comes_back_is_what_is_stored(self, store: Store) -> None:
        given = registered("a")
        [appended] = await store.log.append([given], {})
        [read] = await store.log.read(EventFilter())
        assert read == appended
        assert read.body == given.body
        assert read.columns == {"node": "a", "pool": "worker", "resource": None, "commit": "c" * 40}
        assert (read.event_id, read.correlation_id, read.causation_id) == (given.event_id, given.event_id, None)
        assert read.tool_version == "1.2.3"
        assert replace(read.actor, session="") == ALICE
        assert read.actor.session
        assert read.recorded_at.utcoffset() == timedelta(0)

    async def test_recorded_at_never_goes_back(self, store: Store) -> None:
        for version in range(5):
            await store.log.append([unreachable(str(version), version)], {})
        times = [event.recorded_at for event in await store.log.read(EventFilter())]
        assert times == sorted(times)

    @pytest.mark.parametrize("expect", [{"fleet/default": 0}, {"fleet/default": 2}, {"node/default/a": 1}])
    async def test_a_wrong_expectation_appends_nothing(self, store: Store, expect: dict[str, int]) -> None:
        await store.log.append([unreachable("down")], {})
        with pytest.raises(WrongExpectation, match="is at version"):
            await store.log.append([registered("b")], expect)
        assert len(await store.log.read(EventFilter())) == 1

    async def test_every_named_stream_is_checked_even_without_events_for_it(self, store: Store) -> None:
        await store.log.append([registered("a")], {})
        expect = {node_stream(FLEET, "a"): 1, fleet_stream(FLEET): 0}
        assert len(await store.log.append([registered("b")], expect)) == 1
        with pytest.raises(WrongExpectation):
            await store.log.append([], {node_stream(FLEET, "b"): 0})
        assert await store.log.append([], {node_stream(FLEET, "b"): 1}) == []

    async def test_the_same_append_again_gives_the_stored_events(self, store: Store) -> None:
        batch = [unreachable("down"), registered("a")]
        first = await store.log.append(batch, {fleet_stream(FLEET): 0})
        bob = [replace(event, actor=Actor("login", "login:bob@host")) for event in batch]
        assert await store.log.append(batch, {fleet_stream(FLEET): 0}) == first
        assert await store.log.append(bob, {fleet_stream(FLEET): 0}) == first
        assert len(await store.log.read(EventFilter())) == 2

    async def test_an_id_used_for_other_content_is_a_conflict(self, store: Store) -> None:
        given = unreachable("down")
        await store.log.append([given], {})
        with pytest.raises(EventConflict, match=str(given.event_id)):
            await store.log.append([replace(given, body=SourceUnreachable("other"))], {})

    async def test_a_batch_partly_present_is_a_conflict(self, store: Store) -> None:
        await store.log.append([registered("a")], {})
        with pytest.raises(EventConflict):
            await store.log.append([registered("a"), registered("b")], {})
        with pytest.raises(EventConflict, match=str(registered("a").event_id)):
            await store.log.append([registered("b"), registered("a")], {})
        with pytest.raises(EventConflict):
            await store.log.append([registered("c"), registered("c")], {})
        assert len(await store.log.read(EventFilter())) == 1

    async def test_the_loser_of_a_race_is_told_to_decide_anew(self, store: Store) -> None:
        """Two replicas decide on the same state: same id, other content, and an expectation that no longer holds."""
        await store.log.append([unreachable("down")], {fleet_stream(FLEET): 0})
        other = replace(unreachable("down"), body=SourceUnreachable("refused"))
        with pytest.raises(WrongExpectation):
            await store.log.append([other], {fleet_stream(FLEET): 0})

    async def test_concurrent_appenders_leave_one_gapless_verified_order(self, store: Store) -> None:
        async def append_all(worker: int) -> None:
            for number in range(8):
                await store.log.append([registered(f"n{worker}-{number}"), registered(f"m{worker}-{number}")], {})

        await asyncio.gather(*(append_all(worker) for worker in range(4)))
        events = await store.log.read(EventFilter())
        assert [event.position for event in events] == list(range(1, 65))
        assert all(event.group == event.position - (event.position + 1) % 2 for event in events)
        assert (await store.log.verify()).problems == ()

    async def test_appends_at_once_to_a_stream_that_is_known_wait_for_each_other(self, store: Store) -> None:
        await store.log.append([unreachable("0")], {})
        await asyncio.gather(*(store.log.append([unreachable(str(number), number)], {}) for number in range(1, 9)))
        assert [event.version for event in await store.log.read(EventFilter())] == list(range(1, 10))

    async def test_only_one_of_several_with_the_same_expectation_wins(self, store: Store) -> None:
        attempts = [store.log.append([unreachable(str(n))], {fleet_stream(FLEET): 0}) for n in range(5)]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        assert sum(isinstance(result, WrongExpectation) for result in results) == 4
        assert len(await store.log.read(EventFilter())) == 1

    async def test_what_cannot_be_recorded_is_refused_whole(self, store: Store) -> None:
        with pytest.raises(InputRejected, match=r"SourceUnreachable\.reason.*U\+0000"):
            await store.log.append([registered("a"), unreachable("nul \0")], {})
        assert await store.log.read(EventFilter()) == []

    async def test_a_fold_that_fails_takes_the_append_back(self, store: Store) -> None:
        with pytest.raises(LookupError):
            await store.log.append([unreachable("fold: fail")], {})
        assert await store.log.read(EventFilter()) == []
        assert len(await store.log.append([unreachable("down")], {fleet_stream(FLEET): 0})) == 1

    @pytest.mark.parametrize(
        ("wanted", "positions"),
        [
            (EventFilter(), [1, 2, 3, 4]),
            (EventFilter(after=1, until=3), [2, 3]),
            (EventFilter(limit=2), [1, 2]),
            (EventFilter(limit=2, newest_first=True), [4, 3]),
            (EventFilter(fleet="other"), [4]),
            (EventFilter(types=["SourceUnreachable", "NodeRemoved"]), [1, 3]),
            (EventFilter(types=[]), []),
            (EventFilter(node="a"), [2, 3, 4]),
            (EventFilter(node="a", fleet="other"), [4]),
            (EventFilter(pool="worker"), [2, 4]),
            (EventFilter(resource="x"), []),
            (EventFilter(commit="ccccccc"), [2, 3, 4]),
            (EventFilter(commit="ccccc%c"), []),
            (EventFilter(commits=["c" * 40, "d" * 40]), [2, 3, 4]),
            (EventFilter(commits=["ccccccc"]), []),
            (EventFilter(node="a", types=["NodeRemoved"]), [3]),
            (EventFilter(since_time=datetime(2100, 1, 1, tzinfo=UTC)), []),
            (EventFilter(until_time=datetime(2000, 1, 1, tzinfo=UTC)), []),
            (EventFilter(correlation_id=unreachable("down").event_id), [1]),
            (EventFilter(correlation_ids=[unreachable("down").event_id, unreachable("up").event_id]), [1]),
            (EventFilter(correlation_ids=[]), []),
        ],
    )
    async def test_read_filters(self, store: Store, wanted: EventFilter, positions: list[int]) -> None:
        await store.log.append([unreachable("down"), registered("a")], {})
        await store.log.append([new(NodeRemoved("a", "c" * 40), 1)], {})
        await store.log.append([registered("a", "other")], {})
        assert [event.position for event in await store.log.read(wanted)] == positions

    @pytest.mark.parametrize(
        ("resources", "positions"), [(["Image/a", "Image/c"], [1, 3, 4]), ([], []), (["Image"], [])]
    )
    async def test_read_of_resources(self, store: Store, resources: list[str], positions: list[int]) -> None:
        added = [ResourceAdded(f"Image/{name}", (), "c" * 40, "i", 1, LOST, LOST, LOST, "meaning") for name in "abc"]
        events = [new(body, number) for number, body in enumerate(added)]
        await store.log.append([*events, new(ResourceRemoved("Image/a", (), "c" * 40, LOST), 3)], {})
        found = await store.log.read(EventFilter(resources=resources))
        assert [event.position for event in found] == positions

    async def test_follow_misses_nothing(self, store: Store) -> None:
        await store.log.append([registered("before")], {})
        follower = asyncio.create_task(first_events(store.log.follow(0), 41))

        async def append_all(worker: int) -> None:
            for number in range(10):
                await store.log.append([registered(f"n{worker}-{number}")], {})

        await asyncio.gather(*(append_all(worker) for worker in range(4)))
        followed = await asyncio.wait_for(follower, 30)
        assert [event.position for event in followed] == list(range(1, 42))

    async def test_follow_begins_after_the_position(self, store: Store) -> None:
        await store.log.append([registered("a"), registered("b")], {})
        [event] = await first_events(store.log.follow(1), 1)
        assert event.position == 2


class ReadModelConformance:
    """What a snapshot shows, now and as of every position."""

    async def test_an_empty_log(self, store: Store) -> None:
        snapshot = await store.reads.snapshot(FLEET)
        assert (snapshot.position, snapshot.at, snapshot.versions) == (0, None, {})
        assert snapshot.table(NODES) == {}
        assert await store.reads.fleets() == []
        assert (await store.reads.snapshot(FLEET, at=0)).position == 0

    async def test_the_rows_now(self, store: Store) -> None:
        [event] = await store.log.append([registered("a")], {})
        await store.log.append([registered("a", "other")], {})
        snapshot = await store.reads.snapshot(FLEET)
        assert snapshot.position == 2
        row = snapshot.one(NODES, FLEET, "a")
        assert row == {
            "fleet": FLEET, "node": "a", "pool": "worker", "spec": {"labels": {"zone": "日本"}}, "commit": "c" * 40,
            "discovered": None, "cluster": None,
        }  # fmt: skip
        state = snapshot.one(NODE_STATES, FLEET, "a")
        assert state is not None
        assert state.keys() == {"fleet", "node", *NODE_STATES.columns}
        assert (state["generation"], state["refused"], state["converged_at"]) == (1, False, event.recorded_at)
        assert snapshot.versions == {node_stream(FLEET, "a"): 1}
        assert await store.reads.fleets() == ["default", "other"]

    async def test_as_of_every_position(self, store: Store) -> None:
        await history(store)
        waiting = {0: None, 1: ["a", "b"], 2: ["a", "b"], 3: ["b"], 4: ["b"], 5: ["b"], 6: ["b", "c"]}
        for at, nodes in waiting.items():
            snapshot = await store.reads.snapshot(FLEET, at=at)
            row = snapshot.one(FLEETS, FLEET)
            assert (row and row["waiting"]) == nodes, at
            assert sorted(key[1] for key in snapshot.table(NODES)) == sorted(nodes or []), at
        assert await store.reads.snapshot(FLEET, at=6) == await store.reads.snapshot(FLEET)

    async def test_a_position_means_the_end_of_its_group(self, store: Store) -> None:
        await history(store)
        inside = await store.reads.snapshot(FLEET, at=1)
        assert (inside.position, inside) == (2, await store.reads.snapshot(FLEET, at=2))
        assert inside.versions == {node_stream(FLEET, "a"): 1, node_stream(FLEET, "b"): 1}
        assert (await store.reads.snapshot(FLEET, at=4)).versions[fleet_stream(FLEET)] == 2

    async def test_a_group_that_changes_a_row_and_back_leaves_no_trace(self, store: Store) -> None:
        await store.log.append([registered("a")], {})
        before = await store.reads.snapshot(FLEET)
        await store.log.append([unreachable("down"), new(SourceRecovered(), 1)], {})
        after = await store.reads.snapshot(FLEET)
        assert after.rows == before.rows
        await store.log.append([registered("x"), new(NodeRemoved("x", "c" * 40), 1)], {})
        assert (await store.reads.snapshot(FLEET)).table(NODES) == before.table(NODES)

    async def test_a_position_beyond_the_head_is_refused(self, store: Store) -> None:
        await store.log.append([registered("a")], {})
        with pytest.raises(UsageError, match="#2 is not in the log"):
            await store.reads.snapshot(FLEET, at=2)

    async def test_only_the_tables_asked_for(self, store: Store) -> None:
        await store.log.append([registered("a")], {})
        for at in (None, 1):
            of_one = await store.reads.snapshot(FLEET, at, [NODES])
            assert of_one.rows.keys() == {"nodes"}
            assert not of_one.versions

    async def test_rebuilt_equals_live(self, store: Store) -> None:
        await history(store)
        live = [await store.reads.snapshot(FLEET, at=at) for at in range(7)]
        assert await store.reads.rebuild() == 6
        assert [await store.reads.snapshot(FLEET, at=at) for at in range(7)] == live

    async def test_appends_go_on_after_a_rebuild(self, store: Store) -> None:
        await history(store)
        await store.reads.rebuild()
        await store.log.append([registered("d")], {})
        row = (await store.reads.snapshot(FLEET)).one(FLEETS, FLEET)
        assert row is not None
        assert row["waiting"] == ["b", "c", "d"]

    async def test_last_seen_is_no_part_of_the_log(self, store: Store) -> None:
        await store.reads.touch(FLEET, {"a": "1.33", "b": "1.34"})
        first = await store.reads.seen(FLEET)
        await store.reads.touch(FLEET, {"a": "1.34"})
        await store.reads.touch(FLEET, {})
        second = await store.reads.seen(FLEET)
        assert second.keys() == {"a", "b"}
        assert second["a"].at > first["a"].at
        assert second["a"].runtime == "1.34"
        assert second["b"] == first["b"]
        assert await store.reads.seen("other") == {}
        assert await store.log.read(EventFilter()) == []


class ProofConformance:
    async def test_hashes_are_those_of_the_events_that_are_there(self, store: Store) -> None:
        await history(store)
        hashes = {event.position: event.hash.hex() for event in await store.log.read(EventFilter())}
        assert await store.log.hashes([6, 2, 7, 0]) == {2: hashes[2], 6: hashes[6]}
        assert await store.log.hashes([]) == {}

    @pytest.mark.parametrize("after", range(1, 7))
    async def test_a_part_is_verified_from_a_trusted_hash(self, store: Store, after: int) -> None:
        await history(store)
        hashes = await store.log.hashes(range(1, 7))
        found = await store.log.verify_after(after, hashes[after])
        assert (found.events, found.head, found.problems) == (6 - after, hashes[6], ())
        if after < 6:
            wrong = f"event #{after + 1}: its previous hash is not the hash of the event before it"
            assert (await store.log.verify_after(after, "0" * 64)).problems == (wrong,)


class BlobsConformance:
    async def test_contents_come_back_by_their_hash(self, store: Store) -> None:
        contents = [b"", b"a", bytes(range(256)), b"a"]
        digests = await store.blobs.put(contents)
        assert digests == [hashlib.sha256(content).hexdigest() for content in contents]
        assert await store.blobs.put([b"a", b"new"]) == [digests[1], hashlib.sha256(b"new").hexdigest()]
        assert await store.blobs.get(digests) == dict(zip(digests, contents, strict=True))
        assert await store.blobs.get([]) == {}
        assert await store.blobs.put([]) == []
        assert await store.blobs.missing([digests[0], "0" * 64]) == {"0" * 64}
        assert await store.blobs.missing([]) == set()

    async def test_a_missing_blob_is_named(self, store: Store) -> None:
        with pytest.raises(LogCorrupt, match=f"blob {'0' * 64} is missing"):
            await store.blobs.get(["0" * 64])

    async def test_concurrent_puts_of_the_same_contents(self, store: Store) -> None:
        contents = [str(number).encode() for number in range(50)]
        puts = [store.blobs.put(contents if worker % 2 else contents[::-1]) for worker in range(4)]
        await asyncio.gather(*puts)
        assert (await store.log.verify()).blobs == 50

    async def test_what_is_redacted_is_gone_and_the_log_verifies(self, store: Store) -> None:
        text, other = await store.blobs.put([b"a secret", b"other"])
        added = ResourceAdded("Image/cluster", (), "c" * 40, "i.yaml", 1, text, other, other, "meaning")
        await store.log.append([new(added)], {})
        await store.log.append([new(BlobRedacted(text, 8, "a password"), 1)], {fleet_stream(FLEET): 1})
        for _ in range(2):
            assert await store.blobs.redacted([text, other, LOST]) == {text: Redaction(2, "a password")}
            assert await store.blobs.missing([text, other]) == set()
            with pytest.raises(ContentRedacted, match=f"blob {text[:12]} was redacted at #2: a password"):
                await store.blobs.get([other, text])
            assert await store.blobs.get([other]) == {other: b"other"}
            found = await store.log.verify()
            assert (found.blobs, found.problems) == (2, ())
            assert (await store.log.verify_after(1, (await store.log.hashes([1]))[1])).problems == ()
            await store.blobs.put([b"a secret"])  # it does not come back

    async def test_what_was_redacted_before_a_position_may_be_named_again_after_it(self, store: Store) -> None:
        [text] = await store.blobs.put([b"a secret"])
        added = ResourceAdded("Image/cluster", (), "c" * 40, "i.yaml", 1, text, text, text, "meaning")
        await store.log.append([new(added), new(BlobRedacted(text, 8, "a password"), 1)], {})
        await store.log.append([new(BaselineCaptured("a", "b" * 64, {"/etc/a": text}, "m"))], {})
        assert (await store.log.verify_after(2, (await store.log.hashes([2]))[2])).problems == ()

    async def test_verify_names_what_the_log_needs_and_lacks(self, store: Store) -> None:
        """Contents that events name, and the files that a file set names."""
        file, base, origins, text = await store.blobs.put([b"file", b"base", b"origins", b"text"])
        files = [{"mode": 420, "path": "/etc/a", "sha256": file}, {"mode": 420, "path": "/etc/b", "sha256": LOST}]
        [file_set] = await store.blobs.put([canonical({"files": files}).encode()])
        rendered = FilesRendered("worker", "", "b" * 64, "i" * 64, "1", file_set, origins, "none")
        captured = BaselineCaptured("a", "b" * 64, {"/etc/a": base, "/etc/b": None, "/etc/c": "1" * 64}, "m")
        added = ResourceAdded("Image/cluster", (), "c" * 40, "i.yaml", 1, text, text, "2" * 64, "meaning")
        await store.log.append([new(rendered), new(captured), new(added)], {})
        assert (await store.log.verify_after(2, (await store.log.hashes([2]))[2])).problems == (
            f"event #3: the blob {'2' * 64} that it needs is missing",
        )
        found = await store.log.verify()
        assert found.blobs == 5
        assert sorted(found.problems) == [
            f"event #1: the blob {LOST} that it needs is missing",
            f"event #2: the blob {'1' * 64} that it needs is missing",
            f"event #3: the blob {'2' * 64} that it needs is missing",
        ]


class LeasesConformance:
    async def test_one_owner_at_a_time(self, store: Store) -> None:
        assert await store.leases.acquire("cycle/default", "one", 60)
        assert not await store.leases.acquire("cycle/default", "two", 60)
        assert await store.leases.acquire("cycle/default", "one", 60)
        assert await store.leases.acquire("cycle/other", "two", 60)
        assert await store.leases.live("cycle/") == {"cycle/default": "one", "cycle/other": "two"}
        assert await store.leases.live("cycle/d") == {"cycle/default": "one"}

    async def test_only_the_owner_releases(self, store: Store) -> None:
        await store.leases.acquire("cycle", "one", 60)
        await store.leases.release("cycle", "two")
        assert await store.leases.live() == {"cycle": "one"}
        await store.leases.release("cycle", "one")
        assert await store.leases.live() == {}
        assert await store.leases.acquire("cycle", "two", 60)

    async def test_an_expired_lease_is_free(self, store: Store) -> None:
        assert await store.leases.acquire("cycle", "one", 0)
        assert await store.leases.live() == {}
        assert await store.leases.acquire("cycle", "two", 60)

    async def test_of_many_at_once_one_gets_it(self, store: Store) -> None:
        claims = await asyncio.gather(*(store.leases.acquire("cycle", str(n), 60) for n in range(8)))
        assert sum(claims) == 1


async def history(store: Store) -> None:
    """Six events in four groups: a and b come, a goes, the source fails twice, c comes."""
    await store.log.append([registered("a"), registered("b")], {})
    await store.log.append([new(NodeRemoved("a", "c" * 40), 1)], {})
    await store.log.append([unreachable("down"), unreachable("still down", 1)], {})
    await store.log.append([registered("c")], {})


async def first_events(events: AsyncIterator[StoredEvent], count: int) -> Sequence[StoredEvent]:
    found: list[StoredEvent] = []
    async for event in events:
        found.append(event)
        if len(found) == count:
            break
    if isinstance(events, AsyncGenerator):
        await events.aclose()
    return found
