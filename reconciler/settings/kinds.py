"""Kinds of values: how a setting is written, and what is refused."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from reconciler.errors import UsageError
from reconciler.selector import matching

_DURATION = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_BY_DIGEST = re.compile(r"[a-z0-9][a-z0-9.-]*(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+@sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError("wants a duration such as 90s, 5m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    if hours + minutes + seconds > 10**9:
        raise ValueError("is too long")
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _at_least_a_second(value: timedelta) -> timedelta:
    if value < timedelta(seconds=1):
        raise ValueError("must be at least 1s")
    return value


def duration_text(value: timedelta) -> str:
    """A duration as it is written: `1h30m`, `90s`, `0s`."""
    seconds = int(value.total_seconds())
    if seconds < 120:
        return f"{seconds}s"
    parts = [(seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def _not_nothing(value: object) -> object:
    if value == "":
        raise ValueError("must not be empty")
    return value


def _home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("has a ~ but the home directory is not known; write the path out") from None


def _list(value: object) -> object:
    """In variables and flags, a list is written with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")) or not port.isdecimal() or int(port) > 65535:
        raise ValueError("wants HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or :8080")
    return value


def _database_url(value: str) -> str:
    if value and urlsplit(value).scheme not in ("postgresql", "postgres"):
        raise ValueError("wants postgresql://USER@HOST:PORT/DATABASE, or nothing for the embedded PostgreSQL")
    return value


def _fleet_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a fleet's name has lower-case letters, digits and inner hyphens, at most 63")
    return value


def _selector(value: str) -> str:
    try:
        matching(value)
    except UsageError as error:
        raise ValueError(f"{error.what}; write it {error.remedy}") from None
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("leaves the repository; give a directory relative to its root")
    return value


def _absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("wants absolute paths")
    return value


def _home_if_any(value: str) -> str:
    return str(_home(Path(value))) if value else value


def _image(value: str) -> str:
    host = value.partition("/")[0]
    if value and not (_BY_DIGEST.fullmatch(value) and ("." in host or ":" in host or host == "localhost")):
        raise ValueError("wants an image by digest: HOST[:PORT]/NAME@sha256:… (a tag may be another image tomorrow)")
    return value


def _namespace(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("wants the name of a namespace: lower-case letters, digits and inner hyphens, at most 63")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Period = Annotated[Duration, AfterValidator(_at_least_a_second)]
Text = Annotated[str, AfterValidator(_not_blank)]
FilePath = Annotated[Path, BeforeValidator(_not_nothing), AfterValidator(_home)]
FilePaths = Annotated[tuple[FilePath, ...], BeforeValidator(_list)]
Patterns = Annotated[tuple[Annotated[str, AfterValidator(_absolute)], ...], BeforeValidator(_list)]
DirectoryInside = Annotated[Text, AfterValidator(_inside)]
Address = Annotated[str, AfterValidator(_address)]
Count = Annotated[int, Field(ge=0)]
DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
FleetName = Annotated[str, AfterValidator(_fleet_name)]
Selector = Annotated[str, AfterValidator(_selector)]
Namespace = Annotated[str, AfterValidator(_namespace)]
ImageByDigest = Annotated[str, AfterValidator(_image)]
OptionalFile = Annotated[str, AfterValidator(_home_if_any)]
