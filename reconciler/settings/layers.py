"""Puts the layers together: defaults, the file and its drop-ins, environment variables, flags; the last wins."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reconciler.errors import UsageError
from reconciler.settings.model import Settings, fields

PREFIX = "RECONCILER_"
FILE_NAME = "reconciler.toml"

Key = tuple[str, ...]

_LEAVES = frozenset(name for name, _ in fields())
_SECTIONS = frozenset(leaf.rpartition(".")[0] for leaf in _LEAVES if "." in leaf) | {"fleets"}
_PATHS = frozenset(
    {
        "data_dir",
        "checkpoints.key",
        "checkpoints.file",
        "checkpoints.repository",
        "ssh.known_hosts",
        "ssh.config_file",
        "ssh.identity_files",
        "fleets.*.url",
    }
    | {f"fleets.*.{name}" for name in ("allowed_signers", "revoked_signers", "gpg_keys", "kubeconfig")}
)


@dataclass(frozen=True, slots=True)
class _Given:
    value: Any
    origin: str


def load(path: Path | None = None, overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings in force. `path` is the file that the user named; `overrides` are flags, by dotted key.

    Without `path`, the first that exists of $RECONCILER_CONFIG, ./reconciler.toml,
    $XDG_CONFIG_HOME/reconciler/reconciler.toml and /etc/reconciler/reconciler.toml is read; then, in the order of
    their names, the files of conf.d/ beside it. Raises UsageError with file and key, every problem at once.
    """
    given: dict[Key, _Given] = {}
    for file in _files(path):
        given |= _of_file(file)
    given |= _of_environment(os.environ)
    given |= {tuple(key.split(".")): _Given(value, "flag") for key, value in (overrides or {}).items()}
    try:
        settings = Settings.model_validate(_nested(given))
    except ValidationError as problem:
        raise _usage_error(problem, given) from None
    settings.set_origins({".".join(key): entry.origin for key, entry in given.items()})
    return settings


# --- Files ----------------------------------------------------------------------------------------------------------


def _files(named: Path | None) -> list[Path]:
    main = named or (Path(os.environ["RECONCILER_CONFIG"]) if os.environ.get("RECONCILER_CONFIG") else None)
    if main is None:
        main = next((place for place in _places() if place.is_file()), None)
        if main is None:
            return []
    main = main.absolute()
    return [main, *sorted((main.parent / "conf.d").glob("*.toml"))]


def _places() -> Iterator[Path]:
    yield Path(FILE_NAME)
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - never raises
    yield Path(home) / "reconciler" / FILE_NAME
    yield Path("/etc/reconciler") / FILE_NAME


def _of_file(file: Path) -> dict[Key, _Given]:
    try:
        content = tomllib.loads(file.read_bytes().decode())
    except OSError as problem:
        raise UsageError(f"cannot be read: {problem.strerror}", where=str(file), remedy="check --config") from None
    except ValueError as problem:  # TOML and UTF-8 alike
        raise UsageError(f"is not valid TOML: {problem}", where=str(file)) from None
    return {key: _Given(_anchored(key, value, file.parent), str(file)) for key, value in _flat(content, file)}


def _flat(table: Mapping[str, Any], file: Path, prefix: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in table.items():
        key = (*prefix, name)
        if _pattern(key) in _SECTIONS and not isinstance(value, dict):
            raise UsageError("must be a table", where=f"{file}: {'.'.join(key)}", remedy=f"write [{'.'.join(key)}]")
        if isinstance(value, dict) and value:
            yield from _flat(value, file, key)
        else:
            yield key, value


def _anchored(key: Key, value: Any, directory: Path) -> Any:
    """A relative path in a file is meant from that file's directory."""
    if isinstance(value, list):
        return [_anchored(key, item, directory) for item in value]
    if (
        not isinstance(value, str)
        or not value.strip()
        or _pattern(key) not in _PATHS
        or value[0] == "~"
        or ":" in value
    ):
        return value
    return str(directory / value)


# --- Variables ------------------------------------------------------------------------------------------------------


def _of_environment(environ: Mapping[str, str]) -> dict[Key, _Given]:
    """RECONCILER_* variables that name a setting. One that only looks like a setting is refused; others (Kubernetes
    sets RECONCILER_SERVICE_HOST for a Service of our name) are not ours."""
    found: dict[Key, _Given] = {}
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        key, without_file = _key_of(name), _key_of(name.removesuffix("_FILE"))
        if _pattern(key) in _LEAVES:
            found[key] = _Given(environ[name], name)
        elif _pattern(without_file) in _LEAVES:
            if name.removesuffix("_FILE") in environ:
                raise UsageError("both a value and a file are given", where=name, remedy="unset one of the two")
            found[without_file] = _Given(_file_content(Path(environ[name]), name), name)
        elif "__" in name:
            raise UsageError("no such setting", where=name, remedy=_did_you_mean(key, _variable))
        elif meant := _misspelt(name):
            raise UsageError("no such setting", where=name, remedy=f"did you mean {_variable(meant)}?")
    if environ.get("DATABASE_URL"):
        found["database", "url"] = _Given(environ["DATABASE_URL"], "DATABASE_URL")
    return found


def _key_of(variable: str) -> Key:
    """RECONCILER_FLEETS__EU_WEST__URL → fleets, eu-west, url (a fleet's name has no underscore)."""
    parts = variable.removeprefix(PREFIX).lower().split("__")
    return tuple(
        part.replace("_", "-") if parts[0] == "fleets" and place == 1 else part for place, part in enumerate(parts)
    )


def _file_content(file: Path, variable: str) -> str:
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "not UTF-8"
        raise UsageError(f"{file} cannot be read: {reason}", where=variable) from None


def _plain(name: str) -> str:
    """A key or variable without what joins its words."""
    return name.lower().translate({ord(joint): None for joint in "._-"})


def _misspelt(variable: str) -> str:
    """The key that a variable would name if it had the right number of underscores; `` if there is none."""
    plain = _plain(variable.removeprefix(PREFIX))
    for leaf in sorted(_LEAVES):
        before, _, after = _plain(leaf).partition("*")
        if plain == before or (after and plain.startswith(before) and plain.endswith(after)):
            return leaf.replace("*", "NAME")
    return ""


def _variable(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__").replace("-", "_")


# --- Together -------------------------------------------------------------------------------------------------------


def _nested(given: Mapping[Key, _Given]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for key, entry in given.items():
        table = root
        for part in key[:-1]:
            table = table.setdefault(part, {})
        if entry.value == {}:
            table.setdefault(key[-1], {})
        else:
            table[key[-1]] = entry.value
    return root


def _pattern(key: Key) -> str:
    return ".".join(("fleets", "*", *key[2:]) if key[0] == "fleets" and len(key) > 1 else key)


def _did_you_mean(key: Key, spell: Callable[[str], str] = str) -> str:
    fleet = key[1] if key[0] == "fleets" and len(key) > 1 else "NAME"
    known = {_plain(name): name for name in (leaf.replace("*", fleet) for leaf in _LEAVES | _SECTIONS)}
    close = difflib.get_close_matches(_plain(".".join(key)), known, 1, 0.75)
    if not close:
        return "see `reconciler config show` for every key"
    return f"did you mean {spell(known[close[0]])}?"


def _usage_error(problem: ValidationError, given: Mapping[Key, _Given]) -> UsageError:
    found = []
    for error in problem.errors(include_url=False, include_input=False):
        key = tuple(str(part) for part in error["loc"] if part != "[key]")
        remedy = _did_you_mean(key) if error["type"] == "extra_forbidden" else ""
        what = {"extra_forbidden": "no such setting", "missing": "is required"}.get(error["type"], error["msg"])
        if error["type"] == "value_error":
            what = str(error["ctx"]["error"])
        found.append((f"{_origin(key, given)}: {'.'.join(key)}", what, remedy))
    if len(found) == 1:
        where, what, remedy = found[0]
        return UsageError(what, where=where, remedy=remedy)
    lines = [f"{where}: {what}" + (f" ({remedy})" if remedy else "") for where, what, remedy in found]
    return UsageError(f"{len(found)} settings cannot be used:\n  " + "\n  ".join(lines))


def _origin(key: Key, given: Mapping[Key, _Given]) -> str:
    """Where a key was given, or, for one that is missing, its neighbours."""
    for length in range(len(key), 0, -1):
        for other, entry in given.items():
            if other[:length] == key[:length]:
                return entry.origin
    return "default"
