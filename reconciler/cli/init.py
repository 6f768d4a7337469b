"""`reconciler init`: a first settings file, and for a trial a Git repository with an example fleet."""

from __future__ import annotations

import re
from pathlib import Path

import click

from reconciler.cli.options import flag, option, shared
from reconciler.data import data_path
from reconciler.errors import UsageError
from reconciler.settings import load
from reconciler.settings.layers import FILE_NAME
from reconciler.settings.shown import written
from reconciler.starter import create_repository

EXAMPLE = "fleet"
"""Directory of the example repository, beside the settings file."""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path(), metavar="[DIR]")
@option("--url", metavar="URL", show_default="required without --example", help="The config repository.")
@option("--branch", default="main", metavar="NAME", help="Its branch.")
@option("--path", default=".", metavar="DIR", help="The directory of the repository with the manifests.")
@option("--name", default="default", metavar="NAME", help="The fleet's name.")
@flag("--example", help=f"Make a new Git repository, DIR/{EXAMPLE}, from the example fleet, and use it.")
@shared
def init(directory: Path, url: str | None, branch: str, path: str, name: str, example: bool) -> None:
    """Write a first reconciler.toml into DIR, with every setting commented out but the fleet's.

    Nothing that is there is overwritten.
    """
    if bool(url) == example:
        raise UsageError("give either --url or --example", where="init")
    place = directory / FILE_NAME
    if place.exists():
        raise UsageError("is there already", where=str(place), remedy="edit it, or choose another directory")
    if example:
        commit = create_repository(directory / EXAMPLE, data_path("config") / "example-fleet", branch)
        click.echo(f"made {directory / EXAMPLE} from the example fleet, commit {commit[:12]}", err=True)
    _write(place, settings_text(name, url or EXAMPLE, branch, path, data_dir="data" if example else None))
    click.echo(str(place))
    click.echo(f"next: reconciler --config {place} sync", err=True)


def settings_text(name: str, url: str, branch: str, path: str, *, data_dir: str | None = None) -> str:
    """The shipped settings file with this fleet (and data directory) in force."""
    shipped = (data_path("config") / FILE_NAME).read_text()
    before, _, after = shipped.partition("# [fleets.default]\n")
    for key, value in {"url": url, "branch": branch, "path": path}.items():
        after = _in_force(after, key, value)
    if data_dir is not None:
        before = _in_force(before, "data_dir", data_dir)
    return f"{before}[fleets.{name}]\n{after}"


def _in_force(text: str, key: str, value: str) -> str:
    """The text with the first commented-out `key` set to a value."""
    return re.sub(rf"^# {key} = .*$", lambda _: f"{key} = {written(value)}", text, count=1, flags=re.MULTILINE)


def _write(place: Path, text: str) -> None:
    """Write the file; one that cannot be used is not left behind."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(place)) from None
    try:
        load(place)
    except UsageError:
        place.unlink()
        raise
