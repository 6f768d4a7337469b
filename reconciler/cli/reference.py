"""docs/reference/cli.md from the verbs themselves: `python -m reconciler.cli.reference > docs/reference/cli.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from reconciler.cli.main import main

SHARED = ("config", "settings", "no_color", "fleet", "output")
"""Options described once, at the top."""

HEAD = """\
# Command line

Written by `python -m reconciler.cli.reference` from the program itself; a test holds the two together.

Data goes to standard output; progress, questions and errors to standard error. Every option is also a variable, which
an option on the command line wins over. [Exit codes](exit-codes.md) are the same everywhere, but for `diff`.
A POINT in time is `#POSITION` (or just the number), a commit (7 digits or more), a time (`2026-01-31T09:00:00Z`),
`previous` or `last-good`; in a shell, quote the `#`.

## Options that verbs share

They may stand before the verb, too, but for `--output`, whose forms are each verb's own.
"""


def reference() -> str:
    """The whole page."""
    context = click.Context(main, info_name="reconciler", **main.context_settings)
    nodes = main.commands["get"].commands["nodes"]  # type: ignore[attr-defined]  # a verb with every shared option
    verb = click.Context(nodes, info_name="nodes", parent=click.Context(nodes, info_name="get", parent=context))
    shared = [param for param in nodes.params if param.name in SHARED]
    pages = ["\n".join([HEAD, *_table(shared, verb), ""])]
    pages += [_page(command, context) for command in main.commands.values()]
    return "\n".join(pages)


def _page(command: click.Command, parent: click.Context) -> str:
    """One verb, and below it those of its group."""
    context = click.Context(command, info_name=command.name, parent=parent)
    usage = command.get_usage(context).removeprefix("Usage: ")
    text = inspect.cleandoc(command.help or "")
    lines = [f"## {context.command_path}", "", "```", " ".join(usage.split()), "```", "", text]
    own = [param for param in command.params if param.name not in SHARED]
    lines += ["", *_table(own, context)]
    if isinstance(command, click.Group):
        lines += [_page(verb, context) for verb in command.commands.values()]
    return "\n".join(lines).rstrip() + "\n"


def _table(params: list[click.Parameter], context: click.Context) -> Iterator[str]:
    options = [param for param in params if isinstance(param, click.Option)]
    if options:
        yield "| Option | Variable | Default | Meaning |"
        yield "| --- | --- | --- | --- |"
    for option in options:
        extra = option.get_help_extra(context)
        variables = ", ".join(f"`{name}`" for name in extra.get("envvars", ()))
        default = "required" if option.required else extra.get("default", "").strip("()")
        names, text = option.get_help_record(context) or ("", "")
        yield f"| `{_escaped(names)}` | {variables} | {_escaped(default)} | {_escaped(option.help or text)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    click.echo(reference(), nl=False)
