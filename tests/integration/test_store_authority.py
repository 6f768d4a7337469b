"""Who may append what is the database's to say, whatever way a row comes in."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import psycopg
import pytest
import sqlalchemy as sa
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from reconciler.errors import AppendRefused, StoreError
from reconciler.events.catalogue import CATALOGUE, Event, NodeRecovered
from reconciler.events.chain import GENESIS, Content, Record, body_digest, event_hash
from reconciler.events.envelope import Actor, NewEvent, event_id, stream_of
from reconciler.ports import EventFilter
from reconciler.projections.fold import FOLD_VERSION
from reconciler.store.blobs import PostgresBlobs
from reconciler.store.database import copy_rows, driver_of, engine_for, parsed, transaction
from reconciler.store.event_log import PostgresEventLog
from reconciler.store.fold_version import SETTING
from reconciler.store.records import Draft, Head, chained, draft
from reconciler.store.tables import EVENT_COLUMNS, EVENTS, IDENTITIES
from reconciler.store.upgrade import check
from tests.conformance import toy_fold
from tests.conftest import ROLES, Server
from tests.integration.test_store_append_only import libpq
from tests.unit.bodies import bodies

FLEET = "default"
FOLDER = Path(__file__).parents[1] / "cases" / "approval"
REMEDY = "whoever administers the database decides: GRANT reconciler_{} TO {};"


Open = Callable[[str], AbstractAsyncContextManager[PostgresEventLog]]


@pytest.fixture
def session(logins: None, postgres: Server, database: str) -> Open:
    """A log as a login has it."""

    @asynccontextmanager
    async def opened(login: str) -> AsyncIterator[PostgresEventLog]:
        url = parsed(postgres.url_of(database)).set(username=login)
        engine = engine_for(url.render_as_string(hide_password=False))
        try:
            yield await PostgresEventLog.open(engine, toy_fold, tool_version="1")
        finally:
            await engine.dispose()

    return opened


def said(body: Event, subject: str = "someone@host", kind: str = "login", claimed: str = "") -> NewEvent:
    own = event_id(stream_of(FLEET, body), 0, body.type, uuid.uuid4().hex)
    return NewEvent(own, FLEET, stream_of(FLEET, body), body, Actor(kind, subject, claimed=claimed), own)


def body_of(event_type: str, **given: Any) -> Event:
    """A body of the type, its fields as plain as they may be."""
    plain: Mapping[Any, Any] = {str: "x", int: 1, bool: False}
    body = CATALOGUE[event_type]
    hints = get_type_hints(body)
    values = {
        field.name: plain.get(hints[field.name], () if "tuple" in str(hints[field.name]) else {})
        for field in fields(body)
    }
    values |= {name: None for name, hint in hints.items() if name in values and "None" in str(hint)}
    return body(**{**values, **given})


def words() -> Iterator[tuple[Event, set[str]]]:
    """A body for every rule of the catalogue, and whose word it is."""
    for event_type, body in sorted(CATALOGUE.items()):
        by_value: dict[tuple[str | None, str | None], set[str]] = {}
        for rule in body.authority:
            by_value.setdefault((rule.field, rule.value), set()).add(rule.role)
        for (field, value), roles in by_value.items():
            yield body_of(event_type, **({field: value or ("" if value == "" else "other")} if field else {})), roles


EMPTY = Head(0, GENESIS, None)


def row(content: Content, head: Head = EMPTY) -> Record:
    """The row that `append` would make of it now, in a stream of its own."""
    return next(chained([Draft.of(content, NodeRecovered("x"))], head, {}, datetime.now(UTC)))[0]


def flat(record: Record) -> tuple[object, ...]:
    return (*record[:-1], *record.content)


FOLDED = f"SET LOCAL {SETTING} = {FOLD_VERSION}"
"""What a program of this version says of itself before it appends."""


async def insert(log: PostgresEventLog, records: Sequence[Record]) -> None:
    async with transaction(log._engine) as connection:
        await connection.exec_driver_sql(FOLDED)
        for record in records:
            await connection.execute(sa.insert(EVENTS), dict(zip(EVENT_COLUMNS, flat(record), strict=True)))


async def copy(log: PostgresEventLog, records: Sequence[Record]) -> None:
    async with transaction(log._engine) as connection:
        await connection.exec_driver_sql(FOLDED)
        await copy_rows(connection, "events", EVENT_COLUMNS, [flat(record) for record in records])


Way = Callable[[PostgresEventLog, Sequence[Record]], Awaitable[None]]


async def test_the_view_is_the_catalogue(database_url: str) -> None:
    engine = engine_for(database_url)
    async with transaction(engine) as connection:
        found = await connection.execute(sa.text("SELECT type, field, value, role FROM event_authority"))
        rows = {tuple(row) for row in found}
    await engine.dispose()
    assert rows == {
        (name, rule.field, rule.value, rule.role) for name, body in CATALOGUE.items() for rule in body.authority
    }


@pytest.mark.parametrize("login", sorted(ROLES))
async def test_a_word_needs_the_role(session: Open, login: str) -> None:
    async with session(login) as log:
        for body, roles in words():
            if "cycle" in roles or roles & set(ROLES[login]):
                [stored] = await log.append([said(body)], {})
                assert stored.actor.session == login
            else:
                with pytest.raises(AppendRefused, match=f"login {login} may not append {body.type}") as caught:
                    await log.append([said(body)], {})
                assert caught.value.remedy == REMEDY.format(min(roles), login)
                assert (caught.value.exit_code, caught.value.retry) == (1, "on_change")


async def test_one_word_too_many_refuses_the_whole_append(session: Open) -> None:
    async with session("olga") as log:
        with pytest.raises(AppendRefused):
            await log.append([said(body_of("NodeRecovered")), said(body_of("ChangeApproved"))], {})
        assert await log.read(EventFilter()) == []


@pytest.mark.parametrize("login", sorted(ROLES))
async def test_what_the_cycle_says_all_of_them_may_append(session: Open, login: str) -> None:
    """The command line runs the cycle itself where no service does."""
    async with session(login) as log:
        bodies = [body_of(name) for name, body in sorted(CATALOGUE.items()) if not body.authority]
        assert len(await log.append([said(body) for body in bodies], {})) == len(bodies)


async def test_a_service_says_no_persons_word(session: Open) -> None:
    async with session("robot") as log:
        assert await log.append([said(body_of("HoldLifted", cause="fixed"), kind="service")], {})
        for event_type in ("RolledBack", "ChangeApproved"):
            with pytest.raises(AppendRefused, match=f"{event_type} is a person's word, and no service's"):
                await log.append([said(body_of(event_type), kind="service")], {})
    async with session("paula") as log:
        with pytest.raises(AppendRefused, match="names an actor that this session is not") as caught:
            await log.append([said(body_of("NodeRecovered"), kind="service")], {})
        assert "GRANT reconciler_service TO paula;" in caught.value.remedy


FORGED = [
    '{"claimed":"","kind":"login","session":"carol","subject":"carol@host"}',
    '{"claimed":"","kind":"login","subject":"carol@host"}',
    '{"claimed":"","kind":"root","session":"olga","subject":"olga@host"}',
    '{"claimed":"","session":"olga","subject":"olga@host"}',
    '{"claimed":"","kind":"service","session":"olga","subject":"service@host"}',
]


@pytest.mark.parametrize("actor", FORGED)
@pytest.mark.parametrize("way", [insert, copy])
async def test_a_forged_actor_is_refused_whatever_way_it_comes(session: Open, actor: str, way: Way) -> None:
    async with session("olga") as log:
        content = draft(said(body_of("NodeRecovered")), "olga", "1").content
        with pytest.raises(AppendRefused, match="names an actor that this session is not"):
            await way(log, [row(content._replace(actor=actor))])
        await way(log, [row(content)])
        assert len(await log.read(EventFilter())) == 1


@pytest.mark.parametrize("way", [insert, copy])
async def test_a_word_without_the_role_is_refused_whatever_way_it_comes(session: Open, way: Way) -> None:
    async with session("olga") as log:
        content = draft(said(body_of("RolloutApproved")), "olga", "1").content
        with pytest.raises(AppendRefused, match="login olga may not append RolloutApproved"):
            await way(log, [row(content)])


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"position": 3}, "not numbered from #2 on"),
    ({"append_group": 1}, "not numbered from #2 on"),
    ({"recorded_at": datetime(2026, 1, 31, tzinfo=UTC)}, "which is not now"),
    ({"recorded_at": datetime(2126, 1, 31, tzinfo=UTC)}, "which is not now"),
    ({"previous_hash": GENESIS}, "its hashes are not those of it and the event before it"),
    ({"version": 2}, "version 2 of stream node/default/x does not follow the one before it"),
]


@pytest.mark.parametrize(("changed", "problem"), CHANGES)
@pytest.mark.parametrize(("login", "chained_anew"), [("olga", False), ("olga", True), ("reconciler", True)])
async def test_a_row_that_does_not_continue_the_log_is_refused(
    session: Open, login: str, changed: dict[str, Any], problem: str, chained_anew: bool
) -> None:
    """To the owner of the log, too, where its hash is the right one for what it says."""
    async with session(login) as log:
        [first] = await log.append([said(body_of("SourceRecovered"))], {})
        content = draft(said(body_of("NodeRecovered")), login, "1").content
        right = row(content, Head(1, first.hash, first.recorded_at))
        wrong = right._replace(**changed)
        if chained_anew:
            place = (wrong.position, wrong.version, wrong.append_group, wrong.recorded_at)
            wrong = wrong._replace(hash=event_hash(wrong.previous_hash, *place, body_digest(content)))
        else:
            problem = "event #"  # which of two things that are wrong is named does not matter
        with pytest.raises(
            StoreError, match=f"does not continue the log.*{problem}|{problem}.*does not continue the log"
        ):
            await insert(log, [wrong])
        await insert(log, [right])
        assert (await log.verify()).problems == ()


@pytest.mark.parametrize("column", [name for name in Content._fields if name not in ("event_id", "schema_version")])
async def test_a_person_appends_no_wrong_hash_and_every_column_counts(session: Open, column: str) -> None:
    async with session("olga") as log:
        content = draft(said(body_of("NodeRecovered")), "olga", "1").content
        others: dict[str, Any] = {"correlation_id": uuid.uuid4(), "causation_id": uuid.uuid4()}
        others["actor"] = content.actor.replace("someone", "somebody")
        changed = content._replace(**{column: others.get(column, '{"node":"y"}')})
        with pytest.raises(StoreError, match="its hashes are not those of it"):
            await insert(log, [row(content)._replace(content=changed)])


async def test_a_wrong_hash_of_the_service_is_found_by_a_verification(session: Open) -> None:
    async with session("robot") as log:
        event = said(body_of("NodeRecovered"), kind="service")
        await insert(log, [row(draft(event, "robot", "1").content)._replace(hash=GENESIS)])
        assert (await log.verify()).problems == ("event #1: the row does not match its hash",)


async def test_a_statement_that_appends_while_it_runs_is_refused(session: Open) -> None:
    """By a function in its RETURNING: those rows come after its own, and their triggers run first."""
    async with session("olga") as log:
        event = said(body_of("NodeRecovered"))
        drafts = [draft(replace(event, event_id=uuid.uuid4()), "olga", "1") for _ in range(2)]
        first, second = (record for record, _ in chained(drafts, EMPTY, {}, datetime.now(UTC)))
        # Numbered as those of two appends would be, but for the versions, which are exchanged.
        before = rehashed(first._replace(version=2))
        after = rehashed(second._replace(version=1, append_group=2, previous_hash=before.hash))
        names = sql.SQL(", ").join(map(sql.Identifier, EVENT_COLUMNS))
        outer, inner = (sql.SQL(", ").join(map(sql.Literal, flat(record))) for record in (before, after))
        function = sql.SQL(
            "CREATE FUNCTION pg_temp.on_top() RETURNS integer LANGUAGE plpgsql VOLATILE AS $body$ "
            "BEGIN INSERT INTO public.events ({}) VALUES ({}); RETURN 1; END $body$"
        )
        statement = sql.SQL("INSERT INTO events ({}) VALUES ({}) RETURNING pg_temp.on_top()")
        with pytest.raises(StoreError, match="does not continue the log"):
            await execute(log, sql.SQL(FOLDED), function.format(names, inner), statement.format(names, outer))


async def execute(log: PostgresEventLog, *statements: sql.SQL | sql.Composed) -> None:
    async with transaction(log._engine) as connection:
        driver = await driver_of(connection)
        for statement in statements:
            await driver.execute(statement)


def rehashed(record: Record) -> Record:
    place = (record.position, record.version, record.append_group, record.recorded_at)
    return record._replace(hash=event_hash(record.previous_hash, *place, body_digest(record.content)))


async def test_rows_chain_among_themselves(engine: AsyncEngine) -> None:
    log = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    drafts = [draft(said(body_of("NodeRecovered", node=name)), "reconciler", "1") for name in ("a", "b", "c")]
    first, second, third = (record for record, _ in chained(drafts, EMPTY, {}, datetime.now(UTC)))
    for rows in ([first, third], [first, second, third._replace(previous_hash=first.hash)], [second, third]):
        with pytest.raises(StoreError, match="does not continue the log"):
            await copy(log, rows)
    await copy(log, [first, second, third])
    assert (await log.verify()).problems == ()


@given(bodies(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
@settings(max_examples=50, deadline=None)
def test_the_database_hashes_as_we_do(shared_database_url: str, body: Event, name: str) -> None:
    """Whatever stands in the columns: quotes, control characters, characters of any plane."""
    actor = Actor("login", name, claimed=name)
    with psycopg.connect(libpq(shared_database_url)) as connection:
        connection.execute(FOLDED.encode())
        connection.execute("ALTER TABLE events DISABLE TRIGGER events_approval")
        connection.execute("ALTER TABLE events DISABLE TRIGGER events_redact_blob")
        content = draft(NewEvent(uuid.uuid4(), name, name, body, actor, uuid.uuid4()), "reconciler", name).content
        names = sql.SQL(", ").join(sql.Placeholder() * len(EVENT_COLUMNS))
        record = row(content)
        connection.execute(sql.SQL("INSERT INTO events VALUES ({})").format(names), (*record[:-1], *record.content))
        connection.rollback()


async def test_nobody_moves_the_heads_of_streams_by_hand(session: Open) -> None:
    for login in ROLES:
        async with session(login) as log, transaction(log._engine) as connection:
            for change in ("UPDATE streams SET version = 9", "DELETE FROM streams", "INSERT INTO streams VALUES ('a')"):
                with pytest.raises(DBAPIError, match="permission denied for table streams"):
                    async with connection.begin_nested():
                        await connection.exec_driver_sql(change)


@pytest.mark.parametrize("mode", ["ROW EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"])
async def test_a_reader_holds_up_no_append(engine: AsyncEngine, mode: str) -> None:
    """No lock that an append would wait for is to be had by who may not append."""
    async with transaction(engine) as connection:
        await connection.exec_driver_sql("SET LOCAL ROLE reconciler_reader")
        with pytest.raises(DBAPIError, match="permission denied for table append_lock"):
            await connection.exec_driver_sql(f"LOCK TABLE append_lock IN {mode} MODE")


async def test_tables_of_ones_own_deceive_nobody(session: Open) -> None:
    """Temporary tables come first in everybody's search_path, but not in that of the functions."""
    async with session("olga") as log:
        content = draft(said(body_of("RolloutApproved")), "olga", "1").content
        harmless = draft(said(body_of("NodeRecovered")), "olga", "1").content
        async with transaction(log._engine) as connection:
            await connection.exec_driver_sql(FOLDED)
            for table in ("streams", "event_authority", "identities"):
                await connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {table} (LIKE {table}) ON COMMIT DROP")
            with pytest.raises(psycopg.Error, match="may not append RolloutApproved"):
                async with connection.begin_nested():
                    await copy_rows(connection, "events", EVENT_COLUMNS, [flat(row(content))])
            await copy_rows(connection, "events", EVENT_COLUMNS, [flat(row(harmless))])
        assert (await log.verify()).problems == ()


CASES = {case["name"]: case for case in yaml.safe_load((FOLDER / "authors.yaml").read_text())}


HUNG = {
    "redact_blob": "AFTER INSERT ON mine FOR EACH ROW",
    "keep_entries": "AFTER INSERT ON mine FOR EACH ROW",
    "advance_streams": "AFTER INSERT ON mine REFERENCING NEW TABLE AS appended FOR EACH STATEMENT",
}
EVIL = """CREATE FUNCTION pg_temp.evil(pg_catalog.jsonb) RETURNS boolean LANGUAGE sql AS
    'INSERT INTO pg_temp.ran VALUES (current_user) RETURNING true'"""
MINE = "CREATE TEMPORARY TABLE mine (position bigint, version bigint, stream text, fleet text, data text, sha256 text)"


@pytest.mark.parametrize("function", HUNG)
async def test_nobody_hangs_the_owners_triggers_on_a_table_of_their_own(
    session: Open, engine: AsyncEngine, function: str
) -> None:
    """They run with the owner's rights; should the privilege be lost (by a restore), they serve no other table."""
    trigger = f"CREATE TRIGGER t {HUNG[function]} EXECUTE FUNCTION public.{function}()"
    async with session("olga") as log, transaction(log._engine) as connection:
        await connection.exec_driver_sql(MINE)
        with pytest.raises(DBAPIError, match=rf"permission denied for function (public\.)?{function}"):
            async with connection.begin_nested():
                await connection.exec_driver_sql(trigger)
    async with transaction(engine) as connection:
        await connection.exec_driver_sql(MINE)
        await connection.exec_driver_sql(trigger)
        with pytest.raises(DBAPIError, match="this function serves the table"):
            async with connection.begin_nested():
                await connection.exec_driver_sql(
                    "INSERT INTO mine VALUES (1, 1, 'fleet/default', 'default', '{}', 'x')"
                )


async def test_types_of_ones_own_deceive_nobody(session: Open, engine: AsyncEngine) -> None:
    """A cast to jsonb in a trigger with the owner's rights is to the server's jsonb."""
    await PostgresBlobs(engine).put([b"content"])
    digest = hashlib.sha256(b"content").hexdigest()
    async with session("carol") as log, transaction(log._engine) as connection:
        for statement in (
            "CREATE TEMPORARY TABLE ran (login text)",
            "GRANT ALL ON ran TO PUBLIC",
            EVIL,
            "CREATE DOMAIN pg_temp.jsonb AS pg_catalog.jsonb CHECK (pg_temp.evil(VALUE))",
            FOLDED,
        ):
            await connection.exec_driver_sql(statement)
        record = row(draft(said(body_of("BlobRedacted", blob=digest)), "carol", "1").content)
        await copy_rows(connection, "events", EVENT_COLUMNS, [flat(record)])
        assert (await connection.exec_driver_sql("SELECT count(*) FROM ran")).scalar() == 0
    assert digest in await PostgresBlobs(engine).redacted([digest])


def commit_group(number: int, case: Mapping[str, Any]) -> list[Event]:
    """What the cycle says of a commit: it was read, and what it changes."""
    commit, pools = f"{number}" * 40, tuple(case.get("pools", ["worker"]))
    given = {name: value for name, value in case.items() if name.startswith(("author", "committer"))}
    seen = body_of("CommitObserved", commit=commit, **{"committer": "GitHub", "committer_email": "noreply@x", **given})
    if "configures" in case:
        return [seen, body_of("PoolConfigured", pool=case["configures"], commit=commit)]
    return [seen, body_of("ResourceChanged", commit=commit, pools=pools)]


async def rollout(log: PostgresEventLog, name: str, root: uuid.UUID, *, completes: bool) -> None:
    begun = said(body_of("RolloutStarted", pool="worker", rollout=name))
    ended = [said(body_of("RolloutCompleted", pool="worker", rollout=name))] if completes else []
    await log.append([replace(begun, correlation_id=root), *ended], {})


def approval(wanted: Any) -> Event:
    if isinstance(wanted, int):
        return body_of("ChangeApproved", subject=f"{wanted}" * 40, commit=f"{wanted}" * 40)
    if wanted == "pool":
        return body_of("ChangeApproved", pool="worker", files=("f" * 64,))
    return body_of("RolloutApproved", pool="worker", rollout="r-now", stage=wanted)


@pytest.mark.parametrize("name", CASES)
async def test_an_author_does_not_approve(session: Open, engine: AsyncEngine, name: str) -> None:
    case, approver = CASES[name], CASES[name].get("login", "carol")
    async with transaction(engine) as connection:
        for identity in case.get("identities", ()):
            await connection.execute(sa.insert(IDENTITIES), {"login": approver, "identity": identity})
    cycle = await PostgresEventLog.open(engine, toy_fold, tool_version="1")
    root = uuid.uuid4()
    for number, commit in enumerate(case["commits"]):
        events = [said(body) for body in commit_group(number, commit)]
        root = events[0].event_id
        await cycle.append([replace(event, correlation_id=root) for event in events], {})
        if number in case.get("completes", ()):
            await rollout(cycle, f"r-{number}", root, completes=True)
    if case.get("rolled_back"):
        back = said(body_of("RolledBack"))
        root = back.event_id
        await cycle.append([back], {})
    await rollout(cycle, "r-now", root, completes=False)
    word = said(approval(case["approves"]), case.get("subject", "someone@host"), claimed=case.get("claimed", ""))
    async with session(approver) as log:
        if "refused" not in case:
            assert await log.append([word], {})
            return
        with pytest.raises(AppendRefused, match=f"{case['refused']} is an author of what is approved") as caught:
            await log.append([word], {})
        alone = "; alone, give the pool another approval" if approver == "reconciler" else ""
        assert caught.value.remedy == f"another person with the approver role approves it{alone}"


def test_check_tells_of_every_trigger_that_is_off(database_url: str) -> None:
    triggers = ("events_approval", "events_authority", "events_chain", "events_streams")
    with psycopg.connect(libpq(database_url)) as connection:
        for trigger in triggers:
            connection.execute(sql.SQL("ALTER TABLE events DISABLE TRIGGER {}").format(sql.Identifier(trigger)))
    problems = check(database_url)
    assert [problem.split()[2] for problem in problems] == list(triggers)
    assert all("ALTER TABLE events ENABLE TRIGGER" in problem for problem in problems)
