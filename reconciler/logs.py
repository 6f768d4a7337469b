"""Log lines on standard error: text for people or JSON for collectors, each with an action and what it is about.

I/O: the standard library's logging. Called by everything above the pure packages; those return reasons instead.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from reconciler.errors import redacted

_ROOT = "reconciler"
_bound: ContextVar[Mapping[str, str]] = ContextVar("bound", default={})  # noqa: B039 - replaced, never changed


@contextmanager
def bind(**fields: str | None) -> Iterator[None]:
    """Every line within has these fields (`cycle`, `fleet`, `commit`, `node`, …), in tasks and threads begun here too.

    None leaves a field as it is.
    """
    token = _bound.set({**_bound.get(), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    finally:
        _bound.reset(token)


class Log:
    """Writes lines for one module: `log = Log(__name__)`, `log.info("fetch", "the head moved", commit=sha)`.

    The action says in one word what was going on, so that lines can be found by it.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, action: str, message: str, **fields: object) -> None:
        self._write(logging.DEBUG, action, message, fields)

    def info(self, action: str, message: str, **fields: object) -> None:
        self._write(logging.INFO, action, message, fields)

    def warning(self, action: str, message: str, **fields: object) -> None:
        self._write(logging.WARNING, action, message, fields)

    def error(self, action: str, message: str, **fields: object) -> None:
        self._write(logging.ERROR, action, message, fields)

    def exception(self, action: str, message: str, **fields: object) -> None:
        """An error with the traceback of the exception in hand: only for what should never happen."""
        self._write(logging.ERROR, action, message, fields, trace=True)

    def _write(
        self, level: int, action: str, message: str, fields: Mapping[str, object], *, trace: bool = False
    ) -> None:
        about = {**_bound.get(), **{name: str(value) for name, value in fields.items()}}
        self._logger.log(level, "%s", message, exc_info=trace, extra={"action": action, "about": about})


def configure(level: str = "info", form: Literal["text", "json"] = "text", stream: TextIO | None = None) -> None:
    """Write our lines from `level` on, and other libraries' warnings, to `stream` (standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, _Formatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(level.upper())


class _Formatter(logging.Formatter):
    """What both forms share. Lines of other libraries have their package's name as action."""

    def parts(self, record: logging.LogRecord) -> dict[str, Any]:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "time": time,
            "level": record.levelname.lower(),
            "action": getattr(record, "action", record.name.partition(".")[0]),
            "message": redacted(record.getMessage()),
            **{name: redacted(value) for name, value in getattr(record, "about", {}).items()},
        }

    def traceback(self, record: logging.LogRecord) -> str:
        return redacted(self.formatException(record.exc_info)) if record.exc_info else ""


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = self.parts(record)
        if text := self.traceback(record):
            parts["traceback"] = text
        return json.dumps(parts, ensure_ascii=False)


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = self.parts(record)
        time, level, action, message = (parts.pop(name) for name in ("time", "level", "action", "message"))
        about = "".join(f" {name}={_quoted(value)}" for name, value in parts.items())
        line = f"{time} {level:7} {action}: {' '.join(message.splitlines())}{about}"
        text = self.traceback(record)
        return f"{line}\n{text}" if text else line


def _quoted(value: str) -> str:
    plain = value and value.isprintable() and not any(mark in value for mark in ' "=')
    return value if plain else json.dumps(value, ensure_ascii=False)
