"""Where checkpoints go beside a Git branch: a file that holds the latest, or standard output. And the keys' files."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

from reconciler.errors import StoreError, UsageError
from reconciler.events.checkpoint import SignerKey


class CheckpointFile:
    """ports.CheckpointTarget: the file is replaced whole, and nothing else is in it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.name = str(file)

    async def latest(self) -> str | None:
        return await asyncio.to_thread(self._read)

    async def publish(self, text: str, message: str) -> None:  # noqa: ARG002  a file keeps no history
        await asyncio.to_thread(self._write, text)

    def _read(self) -> str | None:
        try:
            return self._file.read_text(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise StoreError(f"cannot be read: {problem.strerror}", where=self.name) from None

    def _write(self, text: str) -> None:
        new = self._file.with_name(f".{self._file.name}.new")
        try:
            new.write_text(text)
            new.replace(self._file)
        except OSError as problem:
            raise StoreError(f"cannot be written: {problem.strerror}", where=self.name) from None


class StandardOutput:
    """ports.CheckpointTarget: one note after the other, for whatever collects them."""

    name = "standard output"

    async def latest(self) -> str | None:
        return None

    async def publish(self, text: str, message: str) -> None:  # noqa: ARG002  the note says it
        sys.stdout.write(text)
        sys.stdout.flush()


def read_key(file: Path) -> SignerKey:
    """The secret key in a file of which only its owner may know. Raises UsageError."""
    try:
        with file.open() as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                others = f"others may use the key (mode {stat.S_IMODE(mode):04o})"
                raise UsageError(others, where=str(file), remedy=f"chmod 600 {file}")
            text = opened.read()
    except OSError as problem:
        raise UsageError(f"the key cannot be read: {problem.strerror}", where=str(file)) from None
    except UnicodeDecodeError:
        raise UsageError("is no secret key for checkpoints", where=str(file)) from None
    try:
        return SignerKey.parse(text)
    except UsageError as error:
        raise UsageError(error.what, where=str(file), remedy=error.remedy) from None


def write_key(file: Path, key: SignerKey) -> None:
    """A new file, mode 0600. Raises UsageError where there is one already, or none can be made."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError("is there already", where=str(file), remedy="choose another file, or move it away") from None
    except OSError as problem:
        raise UsageError(f"cannot be written: {problem.strerror}", where=str(file)) from None
    with os.fdopen(descriptor, "w") as opened:
        opened.write(f"{key.secret_text()}\n")
