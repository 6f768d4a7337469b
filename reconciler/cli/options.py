"""Options: every one shows its default and its RECONCILER_* variable; those that verbs share stand here once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from reconciler.cli.session import Session

Command = TypeVar("Command", bound=Callable[..., Any])

option = partial(click.option, show_default=True, show_envvar=True)
flag = partial(click.option, is_flag=True, show_default="off", show_envvar=True)


class Duration(click.ParamType[float]):
    """`90s`, `5m`, `1h30m`; seconds for the verb."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        found = re.fullmatch(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value)
        if not found:
            self.fail(f"{value!r} is no duration; write 90s, 5m or 1h30m", param, ctx)
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return float(hours * 3600 + minutes * 60 + seconds)


def shared(command: Command) -> Command:
    """What every verb takes: --config, --set, --no-color."""
    for add in (
        option(
            "--no-color", is_flag=True, envvar="RECONCILER_NO_COLOR", expose_value=False, callback=_no_color,
            show_default="off; NO_COLOR is obeyed too", help="No colours.",
        ),
        option(
            "--set", "settings", multiple=True, metavar="KEY=VALUE", envvar="RECONCILER_SET", expose_value=False,
            callback=_settings, show_default="none", help="A setting by its dotted key; wins over file and variables.",
        ),
        option(
            "--config", type=click.Path(path_type=Path), metavar="FILE", envvar="RECONCILER_CONFIG",
            expose_value=False, callback=_remember, show_default="./reconciler.toml, then the places of the reference",
            help="The settings file.",
        ),
    ):  # fmt: skip
        command = add(command)
    return command


def fleet(command: Command) -> Command:
    """For verbs about one fleet: --fleet."""
    add = option(
        "--fleet", metavar="NAME", envvar="RECONCILER_FLEET", expose_value=False, callback=_remember,
        show_default="the only one", help="The fleet.",
    )  # fmt: skip
    return shared(add(command))


def output(*forms: str) -> Callable[[Command], Command]:
    """-o, with the verb's forms; the first is the default, also where the variable names one the verb does not have."""

    def known(ctx: click.Context, param: click.Parameter, value: str) -> str:
        if value in forms:
            return value
        if _on_the_command_line(ctx, param):
            raise click.BadParameter(f"{value!r} is not one of {', '.join(forms)}", ctx, param)
        return forms[0]

    return option(
        "-o", "--output", metavar=f"[{'|'.join(forms)}]", default=forms[0], envvar="RECONCILER_OUTPUT", callback=known,
        help="Output format.",
    )  # fmt: skip


def reason(help_text: str) -> Callable[[Command], Command]:
    """--reason, which is recorded and therefore required."""
    return option("--reason", required=True, metavar="TEXT", show_default="required", help=help_text)


def dry_run(command: Command) -> Command:
    """--dry-run, for verbs that append."""
    add = option("--dry-run", is_flag=True, show_default="off", help="Say what would be done, and record nothing.")
    return add(command)


def waiting(command: Command) -> Command:
    """--wait/--no-wait and --timeout, for verbs that append and then bring it to the nodes."""
    for add in (
        option("--timeout", type=Duration(), default="30m", help="Longest time to wait."),
        option("--wait/--no-wait", default=True, help="Wait until the fleet is as wanted."),
    ):
        command = add(command)
    return command


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a shared option. One after the verb wins over one before it, but a variable does not."""
    session = ctx.ensure_object(Session)
    name = str(param.name)
    if value is not None and (_on_the_command_line(ctx, param) or getattr(session, name) is None):
        setattr(session, name, value)


def _settings(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> None:
    session = ctx.ensure_object(Session)
    for given in value:
        key, equals, setting = given.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{given!r} is not KEY=VALUE", ctx, param)
        if _on_the_command_line(ctx, param) or key not in session.flags:
            session.flags[key] = setting


def _no_color(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.color = False


def _on_the_command_line(ctx: click.Context, param: click.Parameter) -> bool:
    return ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
