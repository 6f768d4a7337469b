"""Every query of docs/how-to/ask-with-sql.md is run on a real history, and answers what tests/cases/sql says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa
import yaml

from benchmarks.questions import QUESTIONS
from reconciler.store.database import engine_for, transaction
from tests.told import Told, tell

ROOT = Path(__file__).parents[2]
CASE: Mapping[str, Any] = yaml.safe_load((ROOT / "tests/cases/sql/questions.yaml").read_text())

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(shared_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    engine = engine_for(shared_database_url)
    yield await tell(tmp_path_factory.mktemp("told"), engine)
    await engine.dispose()


def plainly(told: Told, value: Any) -> Any:
    """A value as the case writes it: a time is the chapter it falls in, a commit its subject, a digest just one."""
    if isinstance(value, datetime):
        return next(name for name, moment in told.moments.items() if value <= moment)
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, timedelta):
        return "a while" if value > timedelta(0) else value
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40}", value):
        return told.world.repository.git("show", "--no-patch", "--format=%s", value)
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return "a digest"
    if isinstance(value, str) and re.fullmatch(r"h-[0-9a-f]{8}", value):
        return "a hold"
    if isinstance(value, str) and "\n" in value:
        texts = {
            files[path].decode(): f"{path} as {node} had it, {moment}"
            for moment, nodes in reversed(list(told.files.items()))
            for node, files in reversed(list(nodes.items()))
            for path in files
        }
        return texts[value]
    return value


@pytest.mark.docs
async def test_every_question_has_an_answer() -> None:
    assert list(QUESTIONS) == list(CASE["answers"])
    assert len(QUESTIONS) >= 10


@pytest.mark.parametrize("question", QUESTIONS)
async def test_answers(question: str, told: Told) -> None:
    query = QUESTIONS[question]
    for written, chapter in CASE["moments"].items():
        query = query.replace(written, told.moments[chapter].astimezone(UTC).isoformat())
    async with transaction(told.engine) as connection:
        await connection.exec_driver_sql("SET ROLE reconciler_reader")
        await connection.exec_driver_sql("SET search_path = reconciler_v1, public; SET jit = off")
        rows = (await connection.execute(sa.text(query.replace(":", r"\:")))).mappings().all()
    found = [{name: plainly(told, value) for name, value in row.items()} for row in rows]
    assert found == CASE["answers"][question], yaml.safe_dump(found, sort_keys=False, allow_unicode=True)
