"""How `why` prints an explanation: the verdict first, then what decides it, since when, and what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reconciler.cli.output import Column, Item, count, moment, short, table

MANY = 8
"""More nodes than these are counted, not named."""


def _at(place: Item | None) -> str:
    return f"{place['file']}:{place['line']}" if place else ""


def _there(item: Item) -> Item | None:
    """What nodes have, where it gives another answer than what they should have."""
    there: Item | None = item["observed"] or item["applied"]
    return there


def _first_origin(item: Item, name: str) -> Any:
    origins = item["decidedBy"]["origins"] if item["decidedBy"] else ()
    return origins[0].get(name) if origins else None


def field_of(place: Item | None) -> str:
    """The field that decides, `RESOURCE:FIELD`; where none is behind the line, the line itself."""
    origins = place["origins"] if place else ()
    return f"{origins[0]['resource']}:{origins[0]['field']}" if origins else _at(place)


def _since(item: Item) -> str:
    position = _first_origin(item, "position")
    return f"#{position}" if position else ""


_IMAGE = (Column("IMAGE", lambda item: item["image"]), Column("VERDICT", lambda item: item["verdict"]))
_ASKED = {
    "import": Column("IMPORT", lambda item: item.get("import", {}).get("verdict")),
    "push": Column("PUSH", lambda item: item.get("push", {}).get("verdict")),
}
_DECIDED = Column("DECIDED BY", lambda item: _at(item["decidedBy"]))
_REASON = Column("REASON", lambda item: item["reason"])


def columns(found: Sequence[Item]) -> Sequence[Column]:
    """Those of a table with these items."""
    asked = [column for name, column in _ASKED.items() if any(name in item for item in found)]
    if "nodes" not in found[0]:
        return (*_IMAGE, *asked, _DECIDED, _REASON)
    return (
        *_IMAGE,
        Column("NOW", lambda item: (_there(item) or item)["verdict"]),
        *asked,
        Column("NODES", lambda item: len(item["nodes"])),
        _DECIDED,
        Column("SINCE", _since),
        _REASON,
        Column("COMMIT", lambda item: short(_first_origin(item, "commit")), wide=True),
        Column("POOLS", lambda item: item["pools"], wide=True),
        Column("NAMES", lambda item: item["nodes"], wide=True),
    )


_ORDER = (
    Column("", lambda row: row["number"]),
    Column("", lambda row: row["reference"]),
    Column("", lambda row: "mirror" if row["mirror"] else "source"),
    Column("", lambda row: row["verdict"]),
    Column("", lambda row: _at(row["place"]) or "-"),
    Column("", lambda row: row["reason"] or "-"),
)


def explanation_lines(item: Item, beside: Sequence[Item]) -> Iterator[str]:
    """One explanation at length. `beside`: all those of the same image, itself among them."""
    yield f"{item['verdict']}: {item['image']}"
    if "nodes" in item:
        yield from _otherwise(item)
        yield f"  {_nodes(item, sum(len(one['nodes']) for one in beside))}"
        yield from (f"  note: {note}" for note in item["notes"])
    yield f"  {item['reason']}"
    yield from _decided(item["decidedBy"])
    for attempt in item["attempts"]:
        yield f"pull order of {attempt['reference']}:"
        rows = [{"number": f"{number}.", **step} for number, step in enumerate(attempt["pullOrder"], start=1)]
        yield from (f"  {line.removesuffix('-').rstrip()}" for line in table(rows, _ORDER, header=False))
        policy = attempt["policy"]
        yield f"  policy: {policy['what']} ({_at(policy)})"
    yield from _changes(item)
    if "import" in item:
        yield from _import(item["import"])
    if "push" in item:
        yield from _push(item["push"])


def _nodes(item: Item, total: int) -> str:
    nodes = item["nodes"]
    names = f": {', '.join(nodes)}" if len(nodes) <= MANY else ""
    of = f" of {total}" if total > len(nodes) else ""
    pools = f" (pool {', '.join(item['pools'])})" if item["pools"] else ""
    return f"on {len(nodes)}{of} nodes{names}{pools}" if of else f"on {count(len(nodes), 'node')}{names}{pools}"


def _decided(place: Item | None) -> Iterator[str]:
    if place is not None:
        yield f"decided by {_at(place)}  {place['what']}"
        for origin in place["origins"]:
            yield from _origin(origin)


def _origin(origin: Item) -> Iterator[str]:
    """The field, and from a log whose commit it is, and since which event."""
    where = f" ({origin['file']}:{origin['line']})" if origin["file"] else ""
    yield f"  from {origin['resource']} {origin['field']}{where}"
    if origin.get("commit"):
        author = f" by {origin['author']}" if origin["author"] else ""
        request = f", pull request #{origin['pullRequest']}" if origin["pullRequest"] else ""
        subject = f": {origin['subject']}" if origin["subject"] else ""
        yield f"  commit {short(origin['commit'])}{author}{request}{subject}"
    if origin.get("position"):
        held = f", held by {origin['hold']['name']}: {origin['hold']['reason']}" if origin["hold"] else ""
        yield f"  in force since #{origin['position']}, {origin['since'][:19]}Z{held}"


def _otherwise(item: Item) -> Iterator[str]:
    """What the nodes have, where it gives another answer."""
    for name, how in (("applied", "by the last receipt"), ("observed", "as last seen")):
        answer = item[name]
        if answer:
            how = "as asked now" if answer.get("live") else how
            place = answer["decidedBy"]
            where = f" ({_at(place)}  {place['what']})" if place else ""
            yield f"but {answer['verdict']} {how}: {answer['reason']}{where}"


def _changes(answer: Item, indent: str = "") -> Iterator[str]:
    if answer["changes"]:
        yield f"{indent}what would have to change:"
        yield from (f"{indent}  - {change}" for change in answer["changes"])


def _import(answer: Item) -> Iterator[str]:
    yield f"import into an image stream: {answer['verdict']}"
    yield f"  {answer['reason']}"
    if answer["insecure"] not in (None, answer["verdict"]):
        yield f"  with importPolicy.insecure: {answer['insecure']}"
    if answer["origin"]:
        yield from _origin(answer["origin"])
    yield from _changes(answer, "  ")
    yield f"  note: {answer['note']}"


def _push(answer: Item) -> Iterator[str]:
    yield f"push to {answer['destination']}: {answer['verdict']}"
    yield f"  {answer['reason']}"
    yield from (f"  {line}" for line in _decided(answer["decidedBy"]))
    for source in answer["sources"]:
        where = f"{_at(source['place'])}  {source['place']['what']}"
        yield f"  local images for {source['programs']}: {source['verdict']} ({where})"
    for file in answer["certificates"]:
        yield f"  trusted beside the host's own CAs: {file}"
    yield from _changes(answer, "  ")


def change_lines(item: Item, beside: Sequence[Item]) -> Iterator[str]:
    """What changed of a verdict, and through which events. `beside`: all items, of which those of the image count."""
    before, after = item["before"], item["after"]
    then = f"{before['verdict']} then, " if before["verdict"] != after["verdict"] else ""
    yield f"{then}{after['verdict']}{' now' if then else ''}: {item['image']}"
    yield f"  {_nodes(item, sum(len(one['nodes']) for one in beside if one['image'] == item['image']))}"
    if not item["changes"]:
        yield f"  nothing changed of it: {after['reason']}"
    for change in item["changes"]:
        old, new, cause = change["before"], change["after"], change["cause"]
        what = f"{old['verdict']} → {new['verdict']}" if old["verdict"] != new["verdict"] else f"still {new['verdict']}"
        yield f"#{change['position']}, {moment(change['at'])}: {what}: {new['reason']}"
        yield f"  through #{cause['position']} {cause['type']}: {_cause(cause)}"
        yield from (f"  {line}" for line in _decided(new["decidedBy"] or old["decidedBy"]))


def _cause(cause: Item) -> str:
    commit = f"commit {short(cause['commit'])}, " if cause["commit"] else ""
    return f"{commit}{cause['summary']}"
