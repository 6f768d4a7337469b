"""docs/reference/event-log.md says what the code says."""

from __future__ import annotations

import inspect
import re
import subprocess
from pathlib import Path

import pytest

from reconciler.data import data_path
from reconciler.events.catalogue import CATALOGUE, Authority
from reconciler.events.chain import GENESIS, body_digest, event_hash
from reconciler.store.tables import EVENT_COLUMNS
from tests.unit.test_chain import CONTENT, TIME

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "event-log.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text()


def rows(page: str, heading: str) -> list[str]:
    """The rows of the table under a heading."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_the_catalogue(page: str) -> None:
    expected = []
    for name, body in sorted(CATALOGUE.items()):
        meaning = " ".join((inspect.getdoc(body) or "").split("\n\n")[0].split())
        expected.append(f"| `{name}` | {body.scope} | {meaning} |")
    assert rows(page, "Catalogue") == expected, "the table should be:\n" + "\n".join(expected)


def test_the_envelope(page: str) -> None:
    definition = (data_path("migrations") / "sql" / "tables" / "events.sql").read_text()
    comments = dict(re.findall(r"COMMENT ON COLUMN events\.(\w+) IS '(.*)';", definition))
    assert set(comments) == set(EVENT_COLUMNS)
    expected = ["| `{}` | {} |".format(name, comment.replace("''", "'")) for name, comment in comments.items()]
    assert rows(page, "The envelope") == expected, "the table should be:\n" + "\n".join(expected)


def test_whose_word_it_is(page: str) -> None:
    expected = [
        f"| `{name}` | {_where(rule)} | {rule.role} |"
        for name, body in sorted(CATALOGUE.items())
        for rule in sorted(body.authority, key=lambda rule: (rule.field or "", rule.value or "", rule.role))
    ]
    section = page.partition("\n### Whose word it is\n")[2].partition("\n#")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == expected, "\n".join(expected)


def _where(rule: Authority) -> str:
    if rule.field is None:
        return "always"
    if rule.value is None:
        return f"any other `{rule.field}`"
    return f"`{rule.field}` is `{rule.value}`" if rule.value else f"`{rule.field}` is empty"


def test_the_roles(page: str) -> None:
    created = (data_path("migrations") / "sql" / "privileges" / "roles.sql").read_text()
    named = {row.split("`")[1] for row in rows(page, "Who may do what")}
    assert named == set(re.findall(r"CREATE ROLE (\w+)", created))


def test_the_worked_example_gives_our_hashes(page: str) -> None:
    """The commands are run as a reader would run them."""
    section = page.partition("\n## Hashes\n")[2]
    commands = re.findall(r"^\$ (printf .*)\n(\w{64})$", section, re.MULTILINE)
    assert len(commands) == 2
    for command, shown in commands:
        answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        assert answer.stdout.split()[0] == shown
    digest = body_digest(CONTENT)
    assert [shown for _, shown in commands] == [digest.hex(), event_hash(GENESIS, 1, 1, 1, TIME, digest).hex()]
