"""Pages to follow: every command runs as it stands, ends as it says, and prints what is shown."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.program import COMMAND, ROOT

PAGES = {"tutorial/first-fleet.md": 20, "how-to/sign-commits.md": 20}
"""Page → commands that it has at least."""

MARK = "----- exit code"


@dataclass
class Command:
    """A command with its here-document, the exit code it ends with, and the output shown (`…`: anything)."""

    text: str
    code: int = 0
    shown: list[str] = field(default_factory=list)

    def prints(self, output: str) -> bool:
        """Whether the shown lines are in the output, in order; a line `…` stands for any number of lines."""
        pattern = "\n".join(self.shown)
        wanted = re.escape(pattern).replace(re.escape("…"), "(?s:.*)").replace(r"\ \ \ ", " +")
        return re.search(wanted, output) is not None


def commands(page: Path) -> Iterator[Command]:
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        command = None
        for line in block.splitlines():
            if line.startswith("$ "):
                if command:
                    yield command
                text, _, code = line.removeprefix("$ ").partition("    # exit code ")
                command = Command(text, int(code or 0))
            elif command and line.startswith("> "):
                command.text += "\n" + line.removeprefix("> ")
            elif command:
                command.shown.append(line)
        if command:
            yield command


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("page", PAGES)
def test_every_command_does_what_the_text_says(page: str, tmp_path: Path) -> None:
    program = tmp_path / "bin/reconciler"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(map(shlex.quote, COMMAND))} "$@"\n')
    program.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECONCILER_", "GIT_"))}
    kept.pop("DATABASE_URL", None)
    identity = tmp_path / "gitconfig"
    identity.write_text("[user]\nname = A\nemail = a@example.com\n")
    path = f"{program.parent}:{kept['PATH']}"
    found = list(commands(ROOT / "docs" / page))
    script = "".join(f"{{ {command.text}\n}} 2>&1\necho '{MARK}' $?\n" for command in found)
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env={**kept, "GIT_CONFIG_GLOBAL": str(identity), "PATH": path, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    ends = re.findall(rf"(.*?){MARK} (\d+)\n", done.stdout, re.DOTALL)
    assert len(ends) == len(found) > PAGES[page]
    for command, (output, code) in zip(found, ends, strict=True):
        assert int(code) == command.code, f"{command.text}\n{output}"
        assert command.prints(output), f"{command.text}\n{output}"
