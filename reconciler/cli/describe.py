"""`reconciler describe`: one thing with all that is known of it, laid out as `oc describe` does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.history import LINE_COLUMNS
from reconciler.cli.options import fleet, output
from reconciler.cli.output import NONE, Column, Item, print_object, short, span, table, text_of
from reconciler.cli.session import Session, run

if TYPE_CHECKING:
    from reconciler.stages.context import Context

PATH_COLUMNS = (
    Column("PATH", lambda item: item["path"]),
    Column("WANTED", lambda item: short(item["wanted"])),
    Column("APPLIED", lambda item: short(item["applied"])),
    Column("OBSERVED", lambda item: short(item["observed"])),
)
CONDITION_COLUMNS = (
    Column("TYPE", lambda item: item["type"]),
    Column("STATUS", lambda item: item["status"]),
    Column("SINCE", lambda item: item["lastTransitionTime"]),
    Column("REASON", lambda item: item["reason"]),
    Column("MESSAGE", lambda item: item["message"]),
)
LABELS = ("labels", "matchLabels")
DURATIONS = ("soak", "confirm", "timeout", "duration")
"""Fields of NodePool that the log has in seconds."""


@click.group()
@fleet
def describe() -> None:
    """Describe a node, a pool or a rollout: its settings, conditions, what it waits for, and its latest events."""


@describe.command()
@click.argument("name", metavar="NAME")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def node(session: Session, name: str, output: str) -> None:
    """Describe a node: conditions, files, the last receipt, the open step, failures, drift."""
    from reconciler import describe as what  # not before it is needed: rendering's libraries take a while to load

    _print(session, output, lambda context: what.describe_node(context, name))


@describe.command()
@click.argument("name", metavar="NAME")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def pool(session: Session, name: str, output: str) -> None:
    """Describe a pool: conditions, rollout, locks, windows with the next opening, refused content, holds, warnings."""
    from reconciler import describe as what  # as above

    _print(session, output, lambda context: what.describe_pool(context, name))


@describe.command()
@click.argument("name", metavar="ID|POOL")
@output("table", "json", "yaml")
@fleet
@click.pass_obj
def rollout(session: Session, name: str, output: str) -> None:
    """Describe a rollout by its id (4 characters or more) or its pool: class, waves, each node, approvals."""
    from reconciler import describe as what  # as above

    _print(session, output, lambda context: what.describe_rollout(context, name))


def _print(session: Session, form: str, ask: Callable[[Context], Awaitable[dict[str, Any]]]) -> None:
    async def asked() -> dict[str, Any]:
        async with session.context() as context:
            return await ask(context)

    data = run(asked())
    if form != "table":
        print_object(form, data)
        return
    for line in description(data):
        click.echo(line)


def description(data: Item) -> Iterator[str]:
    """The lines of a description."""
    width = 22
    data = {**data, "metadata": _written(data["metadata"]), "spec": _written(data["spec"])}
    for name, value in data["metadata"].items():
        yield from _field(name, value, 0, width)
    for part in ("spec", "status"):
        yield f"{part.capitalize()}:"
        for name, value in data[part].items():
            if name == "conditions":
                yield "  Conditions:"
                yield from (f"    {line}" for line in table(value, CONDITION_COLUMNS))
            elif name == "managedPaths":
                yield "  ManagedPaths:"
                yield from (f"    {line}" for line in table(value, PATH_COLUMNS) if value)
            else:
                yield from _field(name, value, 2, width)
    yield "Events:"
    yield from (f"  {line}" for line in table(data["events"], LINE_COLUMNS) if data["events"])


def _written(value: Any, name: str = "") -> Any:
    """Settings as manifests write them: durations with units, and the empty value of a label in quotes."""
    if isinstance(value, Mapping):
        return {key: '""' if item == "" and name in LABELS else _written(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(item, name) for item in value]
    return span(value) if name in DURATIONS and isinstance(value, int) else value


def _field(name: str, value: object, indent: int, width: int) -> Iterator[str]:
    """A label and its value; what has parts of its own stands below, indented."""
    shown_name = name[:1].upper() + name[1:] if name.isalpha() else name  # labels and digests stay as they are
    label = f"{' ' * indent}{shown_name}:"
    if isinstance(value, Mapping) and value:
        yield label
        for key, item in value.items():
            yield from _field(str(key), item, indent + 2, width)
    elif isinstance(value, Sequence) and not isinstance(value, str) and any(isinstance(i, Mapping) for i in value):
        yield label
        for item in value:
            for number, line in enumerate(line for key in item for line in _field(str(key), item[key], 0, width)):
                yield f"{' ' * (indent + 2)}{'- ' if number == 0 else '  '}{line}"
    elif isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 1:
        yield label
        yield from (f"{' ' * (indent + 2)}- {text_of(item)}" for item in value)
    else:
        shown = NONE if value in (None, "", [], {}, ()) else text_of(value)
        yield f"{label:<{width}} {shown}"
