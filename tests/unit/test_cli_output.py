"""Tables, ages, names, JSON and YAML of the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from reconciler.cli.diff import print_difference
from reconciler.cli.output import Column, age, count, print_list, problem_text, table, text_of

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
COLUMNS = (
    Column("NAME", lambda item: item["name"]),
    Column("COUNT", lambda item: item["count"]),
    Column("MORE", lambda item: item["name"] * 2, wide=True),
)
ITEMS: list[dict[str, Any]] = [{"name": "a", "count": 1}, {"name": "long-name", "count": None}]


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        ({"seconds": 0}, "0s"),
        ({"seconds": 119}, "119s"),
        ({"seconds": 120}, "2m"),
        ({"seconds": 200}, "3m20s"),
        ({"minutes": 27}, "27m"),
        ({"hours": 5, "minutes": 12}, "5h12m"),
        ({"hours": 31}, "31h"),
        ({"days": 3, "hours": 4}, "3d4h"),
        ({"days": 12, "hours": 5}, "12d"),
        ({"seconds": -30}, "0s"),
    ],
)
def test_ages_are_those_of_oc(ago: dict[str, int], expected: str) -> None:
    assert age((NOW - timedelta(**ago)).isoformat().replace("+00:00", "Z"), NOW) == expected


def test_an_age_that_is_not_known() -> None:
    assert age(None) == "<unknown>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "<none>"),
        ("", "<none>"),
        ([], "<none>"),
        (["a", "b"], "a,b"),
        (False, "False"),
        (0, "0"),
        ("two\nlines\tand  blanks", "two lines and blanks"),
    ],
)
def test_a_cell_is_one_line_and_never_empty(value: object, expected: str) -> None:
    assert text_of(value) == expected


def test_a_table() -> None:
    assert table(ITEMS, COLUMNS) == ["NAME        COUNT", "a           1", "long-name   <none>"]
    assert table(ITEMS, COLUMNS, wide=True)[0] == "NAME        COUNT    MORE"
    assert table(ITEMS[:1], COLUMNS, header=False) == ["a   1"]
    assert table([], COLUMNS, header=False) == []


def test_lists_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    printed = {}
    for form in ("table", "json", "yaml", "name"):
        print_list(form, ITEMS, COLUMNS, lambda item: f"thing/{item['name']}")
        printed[form] = capsys.readouterr().out
    expected = {"apiVersion": "reconciler.dev/v1alpha1", "kind": "List", "items": ITEMS}
    assert json.loads(printed["json"]) == expected
    assert yaml.safe_load(printed["yaml"]) == expected
    assert printed["name"] == "thing/a\nthing/long-name\n"
    assert printed["table"].startswith("NAME ")


def test_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_list("table", [], COLUMNS, str)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "No resources found.\n")
    print_list("json", [], COLUMNS, str)
    assert json.loads(capsys.readouterr().out)["items"] == []


def test_counts_in_words() -> None:
    assert [count(number, "node") for number in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]


def test_a_problem_without_place_field_or_remedy() -> None:
    problem = {"file": "", "line": 0, "object": "", "field": "", "message": "no", "name": "bad", "remedy": ""}
    assert problem_text(problem) == "no [bad]"


def test_a_difference(capsys: pytest.CaptureFixture[str]) -> None:
    print_difference({"node": "n", "path": "/etc/x", "from": "a\nb\n", "to": "a\nc\n"}, "now", "wanted")
    assert capsys.readouterr().out.splitlines() == [
        "--- n:/etc/x (now)",
        "+++ n:/etc/x (wanted)",
        "@@ -1,2 +1,2 @@",
        " a",
        "-b",
        "+c",
    ]
