"""What a hold keeps in force, written into the files of a commit: document by document, all else as it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from reconciler.errors import InputRejected, UsageError
from reconciler.ports import ManifestFile
from reconciler.projections.desired import Desired
from reconciler.projections.holds import places_of
from reconciler.projections.tables import Row
from reconciler.registries.model import Document, digest
from reconciler.registries.parse import parse_file
from reconciler.registries.validate import validate_document
from reconciler.stages.context import Context

Parsed = Callable[[str, str], Sequence[Document]]
"""The documents of a file, by its path and text; each is read once."""

BY_HAND = "write it by hand: `reconciler hold show` says what is restored"


async def reverted_files(
    context: Context, desired: Desired, hold: Row, files: Iterable[ManifestFile]
) -> dict[str, bytes | None]:
    """Path → content (None: removed) of every file that is to be another one, for Git to say what the hold restored.

    Raises UsageError where no commit can say that: the baseline, or a resource that further pools take; InputRejected
    where a document cannot be told apart in its file.
    """
    _check_scopes(desired, hold)
    before, parsed = dict(filter(None, map(_text_of, files))), cache(_parsed)
    after = dict(before)
    wanted = [entry["restored"] for entry in hold["entries"] if entry["restored"]]
    contents = await context.load(name for version in wanted for name in (version["text"], version["content"]))
    for entry in hold["entries"]:
        version, place = entry["restored"], _place(after, entry["resource"], parsed)
        text = _text(version, contents, place[0] if place else version["file"]) if version else ""
        if place is not None:
            path, start, end = place
            after[path] = after[path][:start] + text.rstrip() + after[path][end:]
        elif version is not None:
            path = version["file"]
            after[path] = f"{after[path].rstrip()}\n---\n{text}" if after.get(path, "").strip() else text
    _check_result(after, hold, parsed)
    changed = sorted(path for path in after if after[path] != before.get(path))
    return {path: after[path].encode() if parsed(path, after[path]) else None for path in changed}


def _check_scopes(desired: Desired, hold: Row) -> None:
    """A commit changes a resource for every pool that takes it."""
    for entry in hold["entries"]:
        if entry.get("baseline"):
            raise UsageError("no commit can say that nodes get their own files back", where=f"hold {hold['hold']}")
        takers, places = desired.takers(entry["resource"]), places_of(desired, entry)
        meant = {
            n.name for n in desired.nodes.values() for pool, node in places if n.pool == pool and node in ("", n.name)
        }
        if {node.name for node in desired.nodes.values() if node.pool in takers} - meant:
            whom = f"{entry['scope']['kind']} {entry['scope']['name']}"
            what = f"{entry['resource']} is held for {whom} alone, and a commit would change it for {', '.join(takers)}"
            raise UsageError(what, where=f"hold {hold['hold']}", remedy=BY_HAND)


def _parsed(path: str, text: str) -> Sequence[Document]:
    return parse_file(path, text.encode())[0]


def _place(files: Mapping[str, str], resource: str, parsed: Parsed) -> tuple[str, int, int] | None:
    """The file that has a resource, and from where to where it stands there; None where none has it."""
    for path, text in files.items():
        for document in parsed(path, text):
            if document.identity == resource:
                return path, *_span(text, document)
    return None


def _span(text: str, document: Document) -> tuple[int, int]:
    lines = text.split("\n")
    first = sum(len(line) + 1 for line in lines[: document.location.line - 1])
    said = document.text.rstrip()
    start = text.find(said, first)
    if start < 0 or start > first + len(lines[document.location.line - 1]):
        what = f"{document.identity} cannot be told apart from the rest of its file"
        raise InputRejected(what, where=str(document.location), remedy=BY_HAND)
    return start, start + len(said)


def _text(version: Mapping[str, Any], contents: Mapping[str, bytes], path: str) -> str:
    """The text as it was written; where that is no document by itself (an item of a List, YAML for a JSON file), the
    same content anew."""
    text, document = contents[version["text"]].decode(), json.loads(contents[version["content"]])
    if path.endswith(".json"):
        return json.dumps(document, indent=2) + "\n"
    found, problems = parse_file(path, text.encode())
    whole = len(found) == 1 and not problems and _content(found[0]) == version["content"]
    return text if whole else yaml.safe_dump(document, sort_keys=False)


def _check_result(files: Mapping[str, str], hold: Row, parsed: Parsed) -> None:
    """What was written says what was restored; else nobody should see it."""
    documents = {document.identity: document for path, text in files.items() for document in parsed(path, text)}
    for entry in hold["entries"]:
        found = documents.get(entry["resource"])
        said = _content(found) if found else None
        if said != (entry["restored"]["content"] if entry["restored"] else None):
            what = f"{entry['resource']} cannot be written beside the rest of its file"
            raise InputRejected(what, where=str(found.location) if found else "", remedy=BY_HAND)


def _content(document: Document) -> str:
    resource, _ = validate_document(document, "default", None)
    return resource.content if resource else digest(document.value)


def _text_of(file: ManifestFile) -> tuple[str, str] | None:
    """Path and text of a file that may hold manifests."""
    if file.refused or not file.path.endswith((".yaml", ".yml", ".json")):
        return None
    try:
        return file.path, file.data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
