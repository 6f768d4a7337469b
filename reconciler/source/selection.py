"""Which files of a tree are manifests or may be templates of a base, and which of those may not be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pathspec import GitIgnoreSpec

from reconciler.errors import UsageError
from reconciler.rollout.bases import is_template_name

IGNORE_FILE = ".reconcilerignore"
"""Patterns as in .gitignore; in any directory, for that directory and below."""

SUFFIXES = (".yaml", ".yml", ".json")
LARGEST = 4 * 1024 * 1024
"""Bytes of the largest file that is read."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of `git ls-tree`. `path` is relative to the fleet's path; `size` is in bytes (0 for submodules).

    `odd_name`: the name is not UTF-8 or has control characters; `path` then shows them as escapes.
    """

    mode: str
    blob: str
    size: int
    path: str
    odd_name: bool

    @classmethod
    def named(cls, name: bytes, mode: str, blob: str, size: int) -> Entry:
        path = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", name.decode(errors="backslashreplace"))
        return cls(mode, blob, size, path, odd_name=path.encode() != name)

    @property
    def is_symlink(self) -> bool:
        return self.mode == "120000"

    @property
    def is_submodule(self) -> bool:
        return self.mode == "160000"

    @property
    def is_ignore_file(self) -> bool:
        return PurePosixPath(self.path).name == IGNORE_FILE

    @property
    def is_hidden(self) -> bool:
        """In a dot directory, or a dot file such as .gitlab-ci.yml."""
        return any(part.startswith(".") for part in PurePosixPath(self.path).parts)

    @property
    def is_named(self) -> bool:
        """Named like a manifest, or like a template of a base."""
        return self.path.endswith(SUFFIXES) or is_template_name(self.path)

    @property
    def is_other_link(self) -> bool:
        """A symbolic link named like nothing that is read; unless it leads to a directory, it hides nothing."""
        return self.is_symlink and not self.is_named and not self.odd_name


def parse_line(line: bytes) -> Entry:
    """One entry of `git ls-tree -r -l -z`. git shows no size for submodules and missing blobs."""
    about, _, name = line.partition(b"\t")
    mode, _, blob, size = about.decode("ascii").split()
    return Entry.named(name, mode, blob, int(size) if size.isdecimal() else 0)


def is_ignore_line(line: bytes) -> bool:
    """Whether a line of `git ls-tree` names an ignore file."""
    return line.endswith((f"/{IGNORE_FILE}".encode(), f"\t{IGNORE_FILE}".encode()))


def relative_path(path: str) -> str:
    """`path` of a fleet in its plain form, `` for the whole repository. Raises UsageError when it leads outside."""
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise UsageError(
            f"{path!r} leaves the repository", where="path", remedy="give a directory relative to the repository's root"
        )
    return "/".join(parts)


def refusal(entry: Entry) -> str:
    """Why an entry may not be read, as far as its kind and size tell; `` if it may."""
    if entry.is_submodule:
        return "is a submodule; put the manifests into this repository"
    if entry.is_symlink:
        return "is a symbolic link; put the file itself here"
    if entry.odd_name:
        return "has a name that is not UTF-8 or has control characters"
    if entry.size > LARGEST:
        return f"has {entry.size} bytes; the limit is {LARGEST} (4 MiB)"
    return ""


def content_refusal(data: bytes) -> str:
    """Why a content is no manifest; `` if it may be one."""
    if data.startswith(_LFS):
        return "is a Git LFS pointer; keep manifests in Git itself"
    return ""


class Ignored:
    """The ignore files of a tree; the one nearest to a file decides."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """`files`: path of each ignore file → content. Raises ValueError (UnicodeDecodeError too) with the reason."""
        self._specs = {
            PurePosixPath(path).parent: GitIgnoreSpec.from_lines(content.decode().splitlines())
            for path, content in files.items()
        }

    def __call__(self, entry: Entry) -> bool:
        path = PurePosixPath(entry.path)
        for directory in path.parents:
            if spec := self._specs.get(directory):
                name = f"{path.relative_to(directory)}{'/' if entry.is_submodule else ''}"
                verdict = spec.check_file(name).include
                if verdict is not None:
                    return verdict
        return False


def candidates(entries: Iterable[Entry]) -> list[Entry]:
    """Everything that could be wanted or hide some: manifests and templates by name, submodules, symbolic links."""
    return [e for e in entries if not e.is_hidden and (e.is_named or e.is_submodule or e.is_symlink)]
