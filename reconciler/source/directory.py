"""A plain directory read by the same rules as a commit's tree: what `validate` and `render` look at."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from reconciler.errors import InputRejected
from reconciler.ports import ManifestFile
from reconciler.source.selection import Entry, Ignored, candidates, content_refusal, refusal

_MODES = {stat.S_IFLNK: "120000", stat.S_IFREG: "100644"}


def read_directory(directory: Path) -> list[ManifestFile]:
    """The considered files below a directory, sorted by path. Raises InputRejected when it cannot be read."""
    if not directory.is_dir():
        raise InputRejected(
            "is no directory", where=str(directory), remedy="give the directory that a fleet's path names"
        )
    try:
        entries = sorted(_entries(directory), key=lambda entry: entry.path)
        ignored = Ignored({e.path: (directory / e.path).read_bytes() for e in entries if e.is_ignore_file})
        return [
            _read(directory, entry)
            for entry in candidates(entries)
            if not ignored(entry) and not _harmless(directory, entry)
        ]
    except (OSError, ValueError) as error:
        raise InputRejected(str(error), where=str(directory), remedy="make the file readable, or mend it") from error


def _entries(directory: Path) -> list[Entry]:
    found = []
    for folder, subfolders, names in os.walk(directory):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in (*names, *(name for name in subfolders if (Path(folder) / name).is_symlink())):
            path = Path(folder) / name
            status = path.lstat()
            mode = _MODES.get(stat.S_IFMT(status.st_mode))
            if mode is not None:
                found.append(Entry.named(os.fsencode(path.relative_to(directory)), mode, "", status.st_size))
    return found


def _harmless(directory: Path, entry: Entry) -> bool:
    """Whether nothing would be missed behind this entry."""
    return entry.is_other_link and not (directory / entry.path).is_dir()


def _read(directory: Path, entry: Entry) -> ManifestFile:
    refused = refusal(entry)
    data = b"" if refused else (directory / entry.path).read_bytes()
    refused = refused or content_refusal(data)
    return ManifestFile(entry.path, hashlib.sha256(data).hexdigest(), b"" if refused else data, refused)
