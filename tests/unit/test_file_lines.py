"""Lines of tables, keys and elements in TOML and JSON texts."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.registries.file_lines import KeyPath, json_lines, line_of, toml_lines
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from tests.unit.runtime_files import file_sets

TOML = '''\
# x
unqualified-search-registries = [
  "a", # not b
  "b",
]
short-name-mode = """
[[registry]]
"""
[[registry]]
prefix = "a.com"
Location = 'x'
[[registry.mirror]]
location = "m"
[[registry.mirror]]
location = "n"
[[ "registry" ]]
location="b"  # [[registry]]
mirror = [ {location = "q", insecure=true},
  {location="r"} ]
[aliases]
"foo.bar" = "x"
a.b = 1
"\\u00e9" = 07:32:00
'''
JSON = """\
{
  "default": [{"type": "reject"}],
  "transports": {"docker": {
    "a.com/x": [
      {"type": "r"}],
    "b": []}}
}
"""
WHERE: dict[KeyPath, int] = {
    ("unqualified-search-registries",): 2,
    ("unqualified-search-registries", 0): 3,
    ("unqualified-search-registries", 1): 4,
    ("short-name-mode",): 6,
    ("registry",): 9,
    ("registry", 0): 9,
    ("registry", 0, "prefix"): 10,
    ("registry", 0, "location"): 11,
    ("registry", 0, "mirror"): 12,
    ("registry", 0, "mirror", 0): 12,
    ("registry", 0, "mirror", 0, "location"): 13,
    ("registry", 0, "mirror", 1): 14,
    ("registry", 0, "mirror", 1, "location"): 15,
    ("registry", 1): 16,
    ("registry", 1, "location"): 17,
    ("registry", 1, "mirror"): 18,
    ("registry", 1, "mirror", 0): 18,
    ("registry", 1, "mirror", 0, "location"): 18,
    ("registry", 1, "mirror", 0, "insecure"): 18,
    ("registry", 1, "mirror", 1): 19,
    ("registry", 1, "mirror", 1, "location"): 19,
    ("aliases",): 20,
    ("aliases", "foo.bar"): 21,
    ("aliases", "a"): 22,
    ("aliases", "a", "b"): 22,
    ("aliases", "é"): 23,
}


def test_every_table_and_key_has_its_line() -> None:
    tomllib.loads(TOML)
    assert toml_lines(TOML) == WHERE


def test_what_has_no_line_stands_in_what_encloses_it() -> None:
    assert line_of(WHERE, ("registry", 1, "mirror", 1, "insecure")) == 19
    assert line_of(WHERE, ("registry", 2, "blocked")) == 9
    assert line_of({}, ("registry", 0)) == 1


def test_json() -> None:
    lines = json_lines(JSON)
    assert {path: lines[path] for path in lines if path[-1:] != ("type",)} == {
        (): 1,
        ("default",): 2,
        ("default", 0): 2,
        ("transports",): 3,
        ("transports", "docker"): 3,
        ("transports", "docker", "a.com/x"): 4,
        ("transports", "docker", "a.com/x", 0): 5,
        ("transports", "docker", "b"): 6,
    }


@settings(deadline=None)
@given(file_sets())
def test_a_line_holds_what_it_is_said_to_hold(files: dict[str, bytes | None]) -> None:
    registries = (files[REGISTRIES_CONF] or b"").decode()
    lines, rows = toml_lines(registries), registries.splitlines()
    for index, table in enumerate(tomllib.loads(registries).get("registry", [])):
        assert rows[lines["registry", index] - 1].strip() == "[[registry]]"
        _check(table, ("registry", index), lines, rows)
    policy = json.dumps(json.loads(files[POLICY_JSON] or b"{}"), indent=1)
    for scope in json.loads(policy)["transports"]["docker"]:
        line = json_lines(policy)["transports", "docker", scope]
        assert policy.splitlines()[line - 1].strip().startswith(json.dumps(scope))


def _check(table: dict[str, Any], path: KeyPath, lines: Any, rows: list[str]) -> None:
    for key, value in table.items():
        if key == "mirror":
            for index, mirror in enumerate(value):
                _check(mirror, (*path, "mirror", index), lines, rows)
        else:
            assert f"{key} = " in rows[lines[*path, key] - 1]
            assert str(value).lower() in rows[lines[*path, key] - 1]


@settings(deadline=None)
@given(st.text(alphabet="[]{}=:.,'\"#\n ab\\") | st.text())
def test_any_text_gives_lines_in_it(text: str) -> None:
    for lines in (toml_lines(text), json_lines(text)):
        assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
