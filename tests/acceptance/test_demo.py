"""`reconciler demo` checks itself; here: that it ends well, twice, and leaves nothing running."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.cli.demo_stage import HEAD, TAIL, Stage, shown_lines
from reconciler.cli.demo_steps import STEPS
from reconciler.errors import ReconcilerError
from reconciler.trial import sshd_obstacle, trial_nodes
from tests.program import COMMAND, ROOT

SECONDS = 280


def environment() -> dict[str, str]:
    """A clean one, with a DATABASE_URL that the demo must not use."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RECONCILER_", "GIT_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "demo", *arguments],
        cwd=directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_ctrl_c,
    )


def _heed_ctrl_c() -> None:
    """As in a terminal: where the tests run in the background, the shell has Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(directory: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(directory, *arguments)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def left_running(directory: Path) -> Sequence[str]:
    """Command lines of the processes that work in, or were told of, a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = str((process / "cwd").readlink())
        except OSError:
            continue
        if f"{directory}/" in f"{command} {place}/" and int(process.name) != os.getpid():
            found.append(command)
    return found


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both demos run, the second over what the first left."""
    return tmp_path_factory.mktemp("demo")


def check_ended_well(here: Path, code: int, out: str, err: str) -> None:
    assert code == 0, out + err
    assert out.count("\n── ") == len(STEPS) + 1
    assert f"Done: {len(STEPS)} steps" in out
    assert "Traceback" not in out + err
    assert "DATABASE_URL is set" in out
    assert left_running(here) == []


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 20)
def test_with_local_nodes(here: Path) -> None:
    code, out, err = run(here, "--transport", "local")
    check_ended_well(here, code, out, err)
    assert "directories of this machine" in out
    told = next(line for line in out.splitlines() if line.strip().endswith("# all that happened"))
    arguments = told.partition("#")[0].partition("--config")[2].split()
    kept = {name: value for name, value in environment().items() if name != "DATABASE_URL"}
    command = [*COMMAND, "--config", *arguments]
    pasted = subprocess.run(command, cwd=here, env=kept, capture_output=True, text=True, timeout=100, check=False)
    assert pasted.returncode == 0, pasted.stderr
    assert "pull request #1" in pasted.stdout


@pytest.mark.timeout(SECONDS + 20)
def test_again_with_real_sshd_nodes(here: Path) -> None:
    if obstacle := sshd_obstacle():
        pytest.skip(obstacle)
    code, out, err = run(here, "--transport", "ssh", "--nodes", "2")
    check_ended_well(here, code, out, err)
    assert "real sshd servers" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_a_demo_that_is_stopped_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "--transport", "local" if sshd_obstacle() else "ssh")
    assert process.stdout is not None
    for line in process.stdout:
        if "sync --wait" in line:  # a rollout begins
            break
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: the verb that runs gets it too
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 143), err
    assert "Traceback" not in err
    assert left_running(tmp_path) == []


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "work" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    code, _, err = run(tmp_path, "--dir", "work")
    assert (code, precious.read_text()) == (2, "years of work")
    assert "work: holds something that is not a demo's" in err


def test_what_is_not_so_ends_the_demo(tmp_path: Path) -> None:
    with trial_nodes(tmp_path / "nodes", 1, ssh=False) as nodes:
        stage = Stage(Path("folder"), nodes, None, "reconciler")
        stage.begin("A step")
        stage.check(True, "fine")
        with pytest.raises(ReconcilerError, match="this is not so: the sky is green") as wrong:
            stage.check(False, "the sky is green")
        assert (wrong.value.exit_code, wrong.value.where) == (1, "demo step 1 (A step)")
        with pytest.raises(ReconcilerError, match=r"ends with exit code 0 \(it was 3\)"):
            stage.shell("exit 3")


def test_a_fingerprint_sees_a_rewritten_file(tmp_path: Path) -> None:
    with trial_nodes(tmp_path / "nodes", 1, ssh=False) as nodes:
        stage = Stage(Path("folder"), nodes, None, "reconciler")
        file = nodes[0].root / "etc/containers/registries.conf"
        file.write_text("same\n")
        before = stage.fingerprint()
        assert stage.fingerprint() == before
        file.rename(file.with_suffix(".old"))
        file.write_text("same\n")
        assert stage.fingerprint() != before


def test_of_a_long_output_the_middle_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"line {number}\n" for number in range(HEAD + TAIL + 5)]
    assert shown_lines(lines) == "".join(lines)
    printed = capsys.readouterr().out.splitlines()
    assert printed[:HEAD] == [line.strip() for line in lines[:HEAD]]
    assert printed[HEAD] == "… 5 lines …"
    assert printed[HEAD + 1 :] == [line.strip() for line in lines[-TAIL:]]
    shown_lines(lines[: HEAD + 3])
    assert capsys.readouterr().out == "".join(lines[: HEAD + 3])
