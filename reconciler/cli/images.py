"""The images that a person names: as arguments, or one a line in a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

from reconciler.errors import InputRejected, UsageError

REMEDY = "write HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]"


def checked(images: Iterable[str], where: str) -> list[str]:
    """The same images. Raises UsageError for what is no image reference."""
    return _valid((where, image) for image in images)


def read_from(file: IO[str] | None, option: str) -> list[str]:
    """As `listed`, of a file that is open; none where none was given. Raises UsageError, also where it is not UTF-8."""
    try:
        return listed(file.read(), file.name) if file else []
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8", where=option) from None


def listed(text: str, name: str) -> list[str]:
    """The images of a file's text, each once: one a line; # begins a comment.

    Raises UsageError for what is no image reference, with its line, and where there is none.
    """
    found = _valid(_placed(text.splitlines(), name))
    if not found:
        raise UsageError("no image is named", where=name)
    return list(dict.fromkeys(found))


def _placed(lines: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
    """FILE:LINE and what stands there."""
    for number, line in enumerate(lines, start=1):
        if image := line.partition("#")[0].strip():
            yield f"{name}:{number}", image


def _valid(placed: Iterable[tuple[str, str]]) -> list[str]:
    from reconciler.registries.references import parse  # not before it is needed: its package takes a while to load

    found, refused = [], []
    for where, image in placed:
        try:
            parse(image)
        except InputRejected as error:
            refused.append((where, f"{image!r} is no image reference: {error.what}"))
        found.append(image)
    if refused:
        where, what = refused[0]
        others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise UsageError(what + others, where=where, remedy=REMEDY)
    return found
