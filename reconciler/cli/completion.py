"""`reconciler completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from reconciler.cli.options import shared

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@shared
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script by which a shell completes verbs and options.

    For bash, add `eval "$(reconciler completion bash)"` to ~/.bashrc; for zsh the same with zsh to ~/.zshrc; for
    fish, write it to ~/.config/fish/completions/reconciler.fish.
    """
    program = ctx.find_root().command
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  click has them all
    click.echo(found(program, {}, "reconciler", "_RECONCILER_COMPLETE").source())
