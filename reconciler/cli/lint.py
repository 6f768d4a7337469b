"""`reconciler lint`: traps in hand-written registry files."""

from __future__ import annotations

from pathlib import Path

import click

from reconciler.cli.options import option, output, shared
from reconciler.cli.output import count, print_list, problem_text
from reconciler.errors import UsageError


@click.command()
@click.argument("paths", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True, metavar="FILE|DIR...")
@option("--ignore", multiple=True, metavar="NAME", show_default="none", help="Say nothing of traps of this name.")
@output("table", "json", "yaml", "name")
@shared
def lint(paths: tuple[Path, ...], ignore: tuple[str, ...], output: str) -> int:
    """Find traps in registries.conf, its drop-ins, policy.json, registries.d and certs.d.

    A DIR may stand for a host's /, or be one of its directories. Files of one host are judged together; nothing is
    contacted. docs/reference/lint.md has a line for each NAME. Exit code 1 when anything is found.
    """
    from reconciler.examine import lint_paths  # not before it is needed: rendering's libraries take a while
    from reconciler.registries.lint_catalogue import LINTS
    from reconciler.stages.record import as_data

    unknown = [name for name in ignore if name not in LINTS]
    if unknown:
        raise UsageError(f"there is no trap {unknown[0]}", where="--ignore", remedy=f"one of: {', '.join(LINTS)}")
    read, problems = lint_paths(paths)
    found = [as_data(problem) for problem in problems if problem.name not in ignore]
    if output == "table":
        for problem in found:
            click.echo(f"{problem['severity']}: {problem_text(problem)}")
        errors = sum(problem["severity"] == "error" for problem in found)
        counted = f"{count(errors, 'error')}, {count(len(found) - errors, 'warning')}"
        click.echo(f"{counted} in {count(read, 'file')}", err=True)
    else:
        print_list(output, found, (), lambda problem: f"{problem['file']}:{problem['line']}:{problem['name']}")
    return 1 if found else 0
