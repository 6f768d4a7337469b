"""Generated sets of registries.conf, search drop-in and policy.json, small enough to collide often."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import tomlkit
from hypothesis import strategies as st

from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, SEARCH_REGISTRIES

_DIGEST = "sha256:" + "9" * 64
_PLACES = ["a.com", "a.com:5000", "a.com/ns", "x.a.com", "b.com", "b.com/ns/app", "a.com/ns/app"]
_WILDCARDS = ["*.a.com", "*.com"]
_HOSTS = ["a.com", "x.a.com", "b.com", "docker.io", "localhost:5000"]

REFERENCES = [
    f"{name}{suffix}"
    for name in ("app", "a.com/ns/app", "a.com:5000/ns/app", "x.a.com/app", "b.com/ns/app/sub", "b.com/ns2", "y.com/z")
    for suffix in (":1", f"@{_DIGEST}")
]
"""Names that the generated tables and scopes may or may not cover."""

_mirrors = st.fixed_dictionaries(
    {"location": st.sampled_from(["m.lan", "m.lan/ns", "n.lan:5000/x", "b.com/ns"])},
    optional={
        "insecure": st.booleans(),
        "pull-from-mirror": st.sampled_from(["all", "digest-only", "tag-only"]),
    },
)
_flags = {"insecure": st.booleans(), "blocked": st.booleans(), "mirror": st.lists(_mirrors, max_size=3)}
_tables = st.fixed_dictionaries({"location": st.sampled_from(_PLACES)}, optional=_flags) | st.fixed_dictionaries(
    {"prefix": st.sampled_from(_WILDCARDS)}, optional=_flags
)
_searches = st.lists(st.sampled_from(_HOSTS), max_size=3, unique=True)
_requirements = st.sampled_from([[{"type": "reject"}], [{"type": "insecureAcceptAnything"}]])
_policies = st.builds(
    lambda default, scopes: {"default": default, "transports": {"docker": scopes}},
    _requirements,
    st.dictionaries(st.sampled_from([*_PLACES, *_WILDCARDS, ""]), _requirements, max_size=4),
)


def _scope(table: dict[str, Any]) -> str:
    return str(table.get("prefix") or table["location"])


def _toml(value: dict[str, Any]) -> bytes:
    return tomlkit.dumps(value).encode()


@st.composite
def file_sets(draw: st.DrawFn) -> dict[str, bytes | None]:
    """All three files, each possibly absent (policy.json never: no pull would work)."""
    main: dict[str, Any] = {"unqualified-search-registries": draw(_searches)}
    main["registry"] = draw(st.lists(_tables, max_size=4, unique_by=_scope))
    files: dict[str, bytes | None] = {REGISTRIES_CONF: draw(st.none() | st.just(_toml(main)))}
    files[SEARCH_REGISTRIES] = draw(
        st.none() | _searches.map(lambda names: _toml({"unqualified-search-registries": names}))
    )
    files[POLICY_JSON] = json.dumps(draw(_policies)).encode()
    return files


def rewritten(files: dict[str, bytes | None], random: Random) -> dict[str, bytes | None]:
    """Files that say the same in other bytes: a comment, other spacing, tables and scopes in another order."""
    others: dict[str, bytes | None] = {}
    for path, content in files.items():
        if content is None:
            others[path] = None
        elif path == POLICY_JSON:
            policy = json.loads(content)
            scopes = list(policy["transports"]["docker"].items())
            random.shuffle(scopes)
            policy["transports"]["docker"] = dict(scopes)
            others[path] = json.dumps(policy, indent=4).encode()
        else:
            value = tomlkit.parse(content.decode()).unwrap()
            random.shuffle(value.get("registry", []))
            others[path] = b"# rewritten\n" + _toml(value)
    return others
