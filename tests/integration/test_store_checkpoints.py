"""What leaves a valid chain behind is found by a signed checkpoint: a cut end, a rewritten one, an old dump gone on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.events.chain import GENESIS, Content, Record
from reconciler.events.checkpoint import Checkpoint, SignerKey, origin_of
from reconciler.store.database import transaction
from reconciler.store.event_log import PostgresEventLog, records_from
from reconciler.store.read_model import PostgresReadModel
from reconciler.store.records import Draft, Head, chained, stored
from reconciler.store.tables import EVENT_COLUMNS
from reconciler.verification import Signed, read_checkpoints, verify
from tests.conformance import toy_fold
from tests.conformance.event_log import registered
from tests.conftest import Server
from tests.integration.test_store_append_only import libpq

KEY = SignerKey("log.example.com", bytes(range(32)))
CUT = """
DELETE FROM events WHERE position > 6;
DELETE FROM streams WHERE last_position > 6"""


@pytest.fixture
async def log(engine: AsyncEngine) -> PostgresEventLog:
    """Eight events, each a group of its own."""
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    for number in range(1, 9):
        await log.append([registered(f"n{number}")], {})
    return log


async def signed(log: PostgresEventLog, *positions: int) -> list[Signed]:
    """Checkpoints as they are read from files, signed while the log was whole."""
    hashes = await log.hashes(positions)
    notes = {f"at-{place}": KEY.signed(Checkpoint(origin_of(log.log_id), place, hashes[place])) for place in positions}
    found, problems = read_checkpoints(notes, [KEY.public])
    assert problems == []
    return found


def as_superuser(server: Server, database: str, statements: str) -> None:
    with superuser(server, database) as connection:
        for statement in statements.split(";"):
            assert connection.execute(statement.encode()).rowcount > 0


def superuser(server: Server, database: str) -> psycopg.Connection[Any]:
    """A connection for which no trigger fires."""
    if not server.superuser_url:
        pytest.skip("needs a superuser: DATABASE_URL names a server that is not ours")
    connection = psycopg.connect(libpq(server.url_of(database, superuser=True)))
    connection.execute("SET session_replication_role = replica")
    return connection


async def rewrite(engine: AsyncEngine, server: Server, database: str, position: int) -> None:
    """Change what one event says, and compute every hash from there on anew, as whoever may write everything can."""
    async with transaction(engine) as connection:
        records, _ = await records_from(connection, 1, 1000)
    columns = sql.SQL(", ").join(map(sql.Identifier, EVENT_COLUMNS))
    with superuser(server, database) as rewriting, rewriting.cursor() as cursor:
        cursor.execute("DELETE FROM events")
        with cursor.copy(sql.SQL("COPY events ({}) FROM STDIN").format(columns)) as copy:
            for record in rechained(records, position):
                copy.write_row((*record[:-1], *record.content))


def rechained(records: Sequence[Record], position: int) -> Sequence[Record]:
    made: list[Record] = []
    versions: dict[str, int] = {}
    for record in records:
        content = record.content
        if record.position == position:
            content = Content(**{**content._asdict(), "actor": content.actor.replace("alice", "mallory")})
        last = Head(made[-1].position, made[-1].hash, made[-1].recorded_at) if made else Head(0, GENESIS, None)
        item = Draft.of(content, stored(record).body)
        made += [row for row, _ in chained([item], last, versions, record.recorded_at)]
        versions[content.stream] = record.version
    return made


async def test_checkpoints_of_a_whole_log_agree(log: PostgresEventLog) -> None:
    proof = await verify(log, await signed(log, 2, 8))
    assert (proof.problems, proof.agreeing, proof.trusted) == ((), (2, 8), ())


async def test_a_cut_end_with_everything_derived_is_found(
    log: PostgresEventLog, postgres: Server, database: str
) -> None:
    checkpoints = await signed(log, 5, 8)
    as_superuser(postgres, database, CUT)
    assert (await log.verify()).problems == ()
    assert (await verify(log, checkpoints)).problems == (
        "checkpoint #8 (at-8): the log ends at #6: its end was cut off, or it is an older copy",
    )


async def test_an_old_dump_that_went_on_is_found(
    log: PostgresEventLog, engine: AsyncEngine, postgres: Server, database: str
) -> None:
    checkpoints = await signed(log, 5, 8)
    as_superuser(postgres, database, CUT)
    await PostgresReadModel(engine, toy_fold).rebuild()
    for number in (20, 21, 22):
        await log.append([registered(f"n{number}")], {})
    assert (await log.verify()).problems == ()
    assert (await verify(log, checkpoints)).problems == (
        "event #8: its hash is not the one that was signed (at-8): the log was rewritten after #5",
    )


@pytest.mark.parametrize(
    ("position", "agreeing", "found"),
    [
        (1, (), ["event #3: {} (at-3): {} from some event on", "event #6: {} (at-6): {} from some event on"]),
        (4, (3,), ["event #6: {} (at-6): {} after #3"]),
        (7, (3, 6), []),
    ],
)
async def test_a_rewritten_end_with_a_valid_chain_is_found(
    log: PostgresEventLog, engine: AsyncEngine, postgres: Server, database: str,
    position: int, agreeing: tuple[int, ...], found: list[str],
) -> None:  # fmt: skip
    """As far as there are checkpoints: what comes after the last one is for the nodes to contradict."""
    checkpoints = await signed(log, 3, 6)
    await rewrite(engine, postgres, database, position)
    assert (await log.verify()).problems == ()
    proof = await verify(log, checkpoints)
    words = ("its hash is not the one that was signed", "the log was rewritten")
    assert proof.problems == tuple(problem.format(*words) for problem in found)
    assert proof.agreeing == agreeing


async def test_a_part_starts_from_what_was_signed_or_else_recorded(log: PostgresEventLog) -> None:
    checkpoints = await signed(log, 5)
    proof = await verify(log, checkpoints, 5)
    assert (proof.found.events, proof.problems, proof.trusted) == (3, (), ("the hash at #5 as signed in at-5",))
    proof = await verify(log, [], 6)
    assert (proof.found.events, proof.trusted) == (2, ("the hash at #6 as recorded, unsigned",))
    [wrong] = checkpoints
    wrong = replace(wrong, checkpoint=replace(wrong.checkpoint, hash="0" * 64))
    assert (
        "event #6: its previous hash is not the hash of the event before it" in (await verify(log, [wrong], 5)).problems
    )


async def test_a_checkpoint_of_another_log_proves_nothing(log: PostgresEventLog) -> None:
    [item] = await signed(log, 5)
    other = replace(item, checkpoint=replace(item.checkpoint, origin="reconciler.dev/log/other"))
    assert (await verify(log, [other])).problems == ("checkpoint at-5: is of another log: reconciler.dev/log/other",)
