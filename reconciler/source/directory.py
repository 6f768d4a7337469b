"""Manifests of a plain directory, chosen as those of a commit are: for `validate` and `render` before committing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from reconciler.errors import UsageError
from reconciler.ports import ManifestFile
from reconciler.source.selection import Entry, Ignored, candidates, content_refusal, refusal

_FILE, _SYMLINK = "100644", "120000"


def read_directory(directory: Path) -> list[ManifestFile]:
    """The considered files below `directory`, sorted by path. Raises UsageError when it cannot be read."""
    if not directory.is_dir():
        raise UsageError("there is no such directory", where=str(directory))
    try:
        entries = sorted(_entries(directory), key=lambda entry: entry.path)
        ignore_files = {e.path: (directory / e.path).read_bytes() for e in entries if e.is_ignore_file}
        ignored = Ignored(ignore_files)
        return [_manifest(directory, entry) for entry in candidates(entries) if not ignored(entry)]
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(error.filename)) from None
    except ValueError as error:
        raise UsageError(f"an ignore file cannot be read: {error}", where=str(directory)) from None


def _entries(directory: Path) -> Iterator[Entry]:
    """Files and symbolic links; directories that begin with a dot are not entered."""
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in [*names, *folders]:
            place = Path(folder) / name
            if place.is_symlink() or name in names:
                mode = _SYMLINK if place.is_symlink() else _FILE
                path = place.relative_to(directory).as_posix()
                yield Entry(mode, "", place.lstat().st_size, path, odd_name=not path.isprintable())


def _manifest(directory: Path, entry: Entry) -> ManifestFile:
    why = refusal(entry)
    data = b"" if why else (directory / entry.path).read_bytes()
    why = why or content_refusal(data)
    blob = hashlib.sha256(data).hexdigest()
    return ManifestFile(entry.path, blob, b"" if why else data, why)
