"""Where the files are that come with the package: `migrations` and `config`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from reconciler.errors import ReconcilerError


def data_path(name: str) -> Path:
    """The folder `name`: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(str(files("reconciler")))
    for candidate in (package / "_data" / name, package.parent / name):
        if candidate.is_dir():
            return candidate
    raise ReconcilerError(f"{name} is not part of this installation", remedy="install reconciler from its wheel")
