"""Fault points kill the process only where, and when, the variable says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import UsageError
from reconciler.faults import FAULT_POINTS, VARIABLE, fault_point

ROOT = Path(__file__).parents[2]


def passes_before_death(fault: str | None, names: str) -> tuple[int, list[str]]:
    """The exit status of a process that goes through `names`, and those that it survived."""
    program = (
        "import sys; from reconciler.faults import fault_point\n"
        "for name in sys.argv[1].split(): fault_point(name); print(name, flush=True)"
    )
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {VARIABLE: fault} if fault else {}
    command = [sys.executable, "-c", program, names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize("name", FAULT_POINTS)
def test_the_named_place_is_the_end(name: str) -> None:
    others = [other for other in FAULT_POINTS if other != name]
    assert passes_before_death(name, " ".join([*others, name, *others])) == (-signal.SIGKILL, others)


def test_the_nth_pass() -> None:
    names = "between-nodes after-fetch between-nodes between-nodes"
    assert passes_before_death("between-nodes:3", names) == (-signal.SIGKILL, names.split()[:3])


def test_nothing_happens_without_the_variable() -> None:
    assert passes_before_death(None, " ".join(FAULT_POINTS)) == (0, list(FAULT_POINTS))


@pytest.mark.parametrize("wanted", ["after-fetsch", "after-fetch:x", "after-fetch:-1"])
def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv(VARIABLE, wanted)
    with pytest.raises(UsageError, match="names no fault point"):
        fault_point("after-append")


def test_a_place_that_is_not_listed_is_a_mistake_in_the_code() -> None:
    with pytest.raises(ValueError, match="not in FAULT_POINTS"):
        fault_point("somewhere")
