"""How `show` prints what an event goes back to and led to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from reconciler.cli.output import Item, count, moment

MANY = 10
"""More events or nodes of one kind beside each other than these are counted, not listed."""
NAMED = 5
"""Of counted nodes that did not converge so many are named."""


def print_tree(tree: Item, root: Item, marked: int, *, wide: bool) -> None:
    """The tree of an event's cause, under the pull request that it came with; the event itself is marked."""
    for line in tree_lines(tree, root, marked, wide=wide):
        click.echo(line)


def tree_lines(tree: Item, root: Item, marked: int, *, wide: bool) -> Iterator[str]:
    """The lines of the tree."""
    if root["author"]:
        request = f"pull request #{root['pullRequest']} " if root["pullRequest"] else ""
        committed = f", committed {moment(root['committedAt'])}" if root["committedAt"] else ""
        yield f"  {request}by {root['author']}{committed}"
    yield f"  {_text(tree, marked)}, recorded {moment(root['recordedAt'])}"
    yield from _below(tree, marked, "  ", wide=wide)


def _below(branch: Item, marked: int, indent: str, *, wide: bool) -> Iterator[str]:
    shown = list(_shown(branch["children"], marked, wide=wide))
    for number, (text, child) in enumerate(shown):
        last = number == len(shown) - 1
        yield f"{indent}{'└── ' if last else '├── '}{text}"
        if child is not None:
            yield from _below(child, marked, f"{indent}{'    ' if last else '│   '}", wide=wide)


def _shown(children: Sequence[Item], marked: int, *, wide: bool) -> Iterator[tuple[str, Item | None]]:
    """Each child with its text; of many that ended alike how many they are, at the place of the first, and no child."""
    alike: dict[tuple[str, str], list[Item]] = {}
    for child in children:
        alike.setdefault(_sort(child), []).append(child)
    for child in children:
        same = alike[_sort(child)]
        folded = not wide and len(same) > MANY and child["kind"] != "wave" and child["outcome"] != "RolloutStarted"
        if not folded or marked in child["positions"]:
            yield _text(child, marked), child
        elif child is next(one for one in same if marked not in one["positions"]):
            yield _many([one for one in same if marked not in one["positions"]]), None


def _sort(child: Item) -> tuple[str, str]:
    return child["kind"], child["outcome"] or ""


def _many(same: Sequence[Item]) -> str:
    outcome = same[0]["outcome"] or "under way"
    if same[0]["kind"] != "node":
        return f"{len(same)} {outcome}"
    names = ", ".join(item["node"] for item in same[:NAMED])
    more = f" and {len(same) - NAMED} more" if len(same) > NAMED else ""
    return f"{count(len(same), 'node')} {outcome}" + ("" if outcome == "NodeConverged" else f": {names}{more}")


def _text(branch: Mapping[str, Any], marked: int) -> str:
    mark = "  ← this event" if marked in branch["positions"] else ""
    if branch["kind"] == "wave":
        return f"{branch['label']}: {count(len(branch['children']), 'node')}{mark}"
    if branch["kind"] == "node":
        end = f" ({branch['outcome']})" if branch["outcome"] else " (under way)"
        return f"#{branch['position']} {branch['label']}{end}{mark}"
    return f"#{branch['position']} {branch['label']}{mark}"
