"""The completion scripts: bash really completes by its own, the others are click's."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli import main
from reconciler.cli.completion import SHELLS


def script(shell: str) -> str:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_calls_the_program(shell: str) -> None:
    assert f"_RECONCILER_COMPLETE={shell}_complete" in script(shell)


def test_a_shell_that_is_not_known() -> None:
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["reconciler", "wh"], {"why"}),
        (["reconciler", "get", "no"], {"nodes"}),
        (["reconciler", "why", "--al"], {"--all-nodes"}),
        (["reconciler", "completion", ""], set(SHELLS)),
    ],
    ids=["verb", "noun", "option", "argument"],
)
def test_bash_completes(words: list[str], offered: set[str], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    program = tmp_path / "reconciler"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m reconciler "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(script("bash"))
    typed = f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}"
    text = f"""
        PATH={shlex.quote(str(tmp_path))}:$PATH
        source {shlex.quote(str(tmp_path / "script"))}
        {typed}
        function=$(complete -p reconciler | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$function" reconciler
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([bash, "-c", text], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered, done.stderr
