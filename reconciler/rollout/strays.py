"""Strays: files in certs.d and registries.conf.d that are neither ours nor the base's, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from reconciler.registries.model import CERTS_D, REGISTRIES_CONF_D
from reconciler.rollout.fields import BadValue, one_of, texts

_PLACES = (f"{CERTS_D}/", f"{REGISTRIES_CONF_D}/")


def stray_setting(value: Any) -> Any:
    """NodePool spec.strays: `report`, `block`, or `{remove: [GLOB…]}`, whose globs are of paths in these two places."""
    if not isinstance(value, Mapping):
        try:
            return one_of("report", "block")(value)
        except BadValue:
            raise BadValue("wants report, block, or a mapping with remove: [GLOB…]") from None
    if set(value) != {"remove"}:
        raise BadValue("wants remove, and nothing else")
    globs = texts(value["remove"])
    for index, glob in enumerate(globs):
        if not glob.startswith(_PLACES):
            raise BadValue(f"remove[{index}] wants a path below {CERTS_D} or {REGISTRIES_CONF_D}")
    return {"remove": globs}


def removable(setting: Any, paths: Iterable[str]) -> tuple[str, ...]:
    """Those of `paths` that the setting lists, sorted; `*` and `?` match any character. Never a private key."""
    globs = setting["remove"] if isinstance(setting, Mapping) else ()
    found = {path for path in paths if not path.endswith(".key") and path.startswith(_PLACES)}
    return tuple(sorted(path for path in found if any(fnmatchcase(path, glob) for glob in globs)))


def blocking(setting: Any, strays: Iterable[str]) -> str:
    """Why strays keep a node out, or nothing."""
    first = min(strays, default="") if setting == "block" else ""
    return f"{first} is not ours (strays: block)" if first else ""
