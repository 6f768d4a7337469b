"""What a person who waits sees, and how one who must decide is asked."""

from __future__ import annotations

import io

import click
import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from reconciler.cli.confirm import confirm
from reconciler.cli.progress import _bars, progress
from reconciler.errors import UsageError
from reconciler.stages.context import Progress


class Terminal(io.StringIO):
    """Standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_each_news_is_a_line_and_nothing_is_said_twice(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = Progress("waiting", "pool worker: canary soaks (worker-2)")
    with progress() as report:
        report(Progress("observe", "all answered", 2, 2))
        report(waiting)
        report(Progress("observe", "all answered", 2, 2))
        report(waiting)
        report(Progress("waiting", "pool worker: [other] reason"))
        report(waiting)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "observe: 2/2 all answered",
        "waiting: pool worker: canary soaks (worker-2)",
        "waiting: pool worker: [other] reason",
        "waiting: pool worker: canary soaks (worker-2)",
    ]


def test_on_a_terminal_each_stage_has_a_bar() -> None:
    screen = io.StringIO()
    bars = Bars(console=Console(file=screen, force_terminal=True), auto_refresh=False)
    report = _bars(bars)
    report(Progress("pool worker", "worker-1 converged", 1, 3))
    report(Progress("pool infra", "infra-1 converged", 1, 1))
    report(Progress("pool worker", "worker-2 converged", 2, 3))
    report(Progress("record", "abc1234 Begin (CommitAccepted)"))
    report(Progress("waiting", "pool worker: canary soaks", passing=True))
    report(Progress("waiting", "pool worker: waits for its wave", passing=True))
    report(Progress("pool db", "db-1 converged", 1, 4, wave="wave 2"))
    tasks = {task.description: (task.completed, task.total, task.fields["message"]) for task in bars.tasks}
    assert tasks == {
        "pool worker": (2, 3, "worker-2 converged"),
        "pool infra": (1, 1, "infra-1 converged"),
        "waiting": (0, None, "pool worker: waits for its wave"),
        "pool db": (1, 4, "db-1 converged"),
    }
    assert [task.fields["wave"] for task in bars.tasks if task.description == "pool db"] == ["wave 2"]
    assert "record: abc1234 Begin (CommitAccepted)" in screen.getvalue()


def test_a_question_goes_to_standard_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    confirm("roll back to #3", yes=False)
    printed = capsys.readouterr()
    assert (printed.out, "roll back to #3 [y/N]" in printed.err) == ("", True)


def test_a_no_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    with pytest.raises(click.exceptions.Exit) as ended:
        confirm("roll back to #3", yes=False)
    assert ended.value.exit_code == 1
    assert "nothing was changed" in capsys.readouterr().err


def test_where_nobody_can_answer_yes_must_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="say --yes"):
        confirm("roll back to #3", yes=False)
    confirm("roll back to #3", yes=True)
