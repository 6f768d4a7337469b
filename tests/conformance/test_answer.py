"""The door `python -m tests.conformance.answer`: lines in, lines out, for every topic."""

from __future__ import annotations

import io
import json
import sys

import pytest

from tests.conformance import answer
from tests.conformance.load import cases


@pytest.mark.parametrize("topic", sorted(answer.HANDLERS))
def test_one_answer_per_line(topic: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [case["input"] for case in cases(topic)[:3]]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(map(json.dumps, inputs)) + "\n\n"))
    assert answer.main([topic]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [answer.HANDLERS[topic](given) for given in inputs]


@pytest.mark.parametrize("arguments", [[], ["other"], ["drain", "certs"]])
def test_unknown_topic(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert answer.main(arguments) == 2
    assert "usage:" in capsys.readouterr().err
