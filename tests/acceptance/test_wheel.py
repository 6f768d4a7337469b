"""The built wheel, installed outside the checkout, has everything that it needs to run."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from reconciler import __version__

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed; neither the checkout nor the tester's settings take part."""
    foreign = ("PYTHON", "RECONCILER_", "DATABASE_URL")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment |= {"RECONCILER_DATA_DIR": str(cwd / "data"), "XDG_CONFIG_HOME": str(cwd)}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network and without isolation: hatchling is in the lock."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=ROOT)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment that has the wheel, and sees the dependencies installed here."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=True)
    pip: list[str | Path] = [home / "bin/python", "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
    (site,) = (home / "lib").glob("python*/site-packages")
    # A folder named in a .pth file is searched last, and its own .pth files (this checkout's) are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def test_the_wheel_carries_its_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("migrations", "config"):
        files = [file.relative_to(ROOT) for file in (ROOT / folder).rglob("*") if file.is_file()]
        wanted = {f"reconciler/_data/{file}" for file in files if "__pycache__" not in file.parts}
        assert wanted - names == set()
    packaged = {str(file.relative_to(ROOT)) for file in (ROOT / "reconciler").rglob("*.sh")}
    assert packaged - names == set()
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_the_data_is_found_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = (
        "import reconciler.data as d, reconciler.settings as s\n"
        "print(d.data_path('migrations') / 'env.py')\n"
        "print(d.data_path('config') / 'reconciler.toml')\n"
        "s.load(d.data_path('config') / 'reconciler.toml')"
    )
    for line in run(installed / "python", "-c", program, cwd=tmp_path).splitlines():
        assert Path(line).is_file()
        assert installed.parent in Path(line).parents


def test_the_program_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = installed / "reconciler"
    assert run(program, "version", cwd=tmp_path).startswith(f"reconciler {__version__}")
    example = next(installed.parent.glob("lib/python*/site-packages/reconciler/_data/config/example-fleet"))
    assert run(program, "validate", example, cwd=tmp_path).startswith("valid: ")
    run(program, "db", "upgrade", cwd=tmp_path)
    run(program, "log", "verify", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = installed / "reconciler"
    said = run(program, "demo", "--transport", "local", "--nodes", "1", cwd=tmp_path)
    assert "steps, each checked" in said
    assert f"$ {program} --config .demo/reconciler.toml sync --wait" in said
