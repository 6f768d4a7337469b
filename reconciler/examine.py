"""Registry files examined offline, for `lint` and `why`: hand-written ones, a host's copied ones, or rendered ones.

I/O: reads files and directories, nothing else. Private keys are never opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from reconciler.errors import UsageError
from reconciler.registries import templates
from reconciler.registries.disruption import Files
from reconciler.registries.evidence import Origins
from reconciler.registries.inputs import collect
from reconciler.registries.lint import lint
from reconciler.registries.lint_hosts import place_of
from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, Problem
from reconciler.source.directory import read_directory
from reconciler.stages.explained import Known, Question, ask
from reconciler.stages.preview import chosen, judge_manifests, render_manifests

Mode = Literal["default", "strict"]
_PARTS = ("etc/containers", "etc/docker/certs.d", "etc/crio", "root/.config/containers")
"""What of a host's / is read; and the same of each user's home."""
_EXPECTED = "expected are etc/containers, etc/docker/certs.d, … below it, or registries.conf, policy.json, … in it"


def lint_paths(paths: Sequence[Path]) -> tuple[int, tuple[Problem, ...]]:
    """How many files were read, and the traps in them. A directory is searched for files that are known by name.

    Raises UsageError for what cannot be read or is no registry file.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = {name: file for file in _walk(path) if (name := _known_as(file))}
            if not inside:
                raise UsageError("no registry files are there", where=str(path), remedy=_EXPECTED)
            found |= inside
        elif place_of(str(path)) is None:
            remedy = "name registries.conf, a drop-in, policy.json, or a file of registries.d or certs.d"
            raise UsageError("is no registry file by its name", where=str(path), remedy=remedy)
        else:
            found[_known_as(path) or str(path)] = path
    return len(found), lint({name: _read(path) for name, path in found.items()})


def _known_as(file: Path) -> str:
    """The path as given or the full one, whichever tells by directory or name which file of a host it is; or none."""
    for name in (str(file), os.path.abspath(file)):  # noqa: PTH100 - links are left as they are
        place = place_of(name)
        if place is not None and place[0] != name:
            return name
    return ""


def _walk(directory: Path) -> Iterator[Path]:
    """The files below a directory; where it stands for a host's /, only those of the runtime."""
    homes = sorted(directory.glob("home/*/.config/containers"))
    parts = [directory / part for part in _PARTS if (directory / part).is_dir()] + homes
    for part in parts if (directory / "etc").is_dir() else [directory]:
        for folder, subfolders, names in os.walk(part):
            subfolders.sort()
            yield from (Path(folder) / name for name in sorted(names))


def _read(path: Path) -> bytes:
    """A file's content; of a private key nothing."""
    if path.suffix == ".key" and path.is_file():
        return b""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None


def host_files(root: Path) -> dict[str, bytes]:
    """The files of the runtime below `root`, which stands for a host's /, by their paths there; private keys empty.

    Raises UsageError for a link that leads out of `root`.
    """
    files: dict[str, bytes] = {}
    for path in _walk(root) if root.is_dir() else ():
        place = place_of(path.relative_to(root).as_posix())
        if place is not None and place[0] == "":
            if not path.resolve().is_relative_to(root.resolve()):
                remedy = "copy what the link points to into the directory"
                raise UsageError(f"is a symbolic link out of {root}", where=str(path), remedy=remedy)
            files[place[1]] = _read(path)
    return files


def explain_host(root: Path, question: Question) -> list[dict[str, Any]]:
    """What a host would make of images, told from its files below `root`, which stands for its /.

    Raises UsageError when nothing is there, or a link leads out of `root`.
    """
    files: Files = host_files(root)
    if not files:
        raise UsageError("no registry files are there", where=str(root), remedy=_EXPECTED)
    return ask(question, files, complete=True).data(Known())


def explain_manifests(
    directory: Path, pool: str | None, question: Question, mode: Mode, now: datetime
) -> tuple[list[dict[str, Any]], list[str]]:
    """What a pool's nodes would make of images, had they nothing but what the manifests render to; and what is
    assumed for that. Raises InputRejected, UsageError.
    """
    judgement, _ = judge_manifests(read_directory(directory), mode, now)
    settings, resources = chosen(judgement, pool)
    rendered = render_manifests(judgement, pool, {})
    files: dict[str, bytes | None] = {file.path: file.content for file in rendered}
    origins: Origins = {file.path: file.origins for file in rendered}
    assumed = []
    if settings.spec["base"] != "openshift":
        others = " besides the templates" if settings.base_directory else ""
        assumed.append(f"the hosts have no registry files of their own{others}")
        if POLICY_JSON not in files:
            files[POLICY_JSON] = templates.POLICY_JSON
            assumed.append(f"their own {POLICY_JSON} accepts every image")
    complete = settings.spec["base"] == "openshift" or bool(settings.base_directory and REGISTRIES_CONF in files)
    answers = ask(question, files, origins, collect(resources), complete=complete)
    return answers.data(Known({resource.identity: resource for resource in resources})), assumed
