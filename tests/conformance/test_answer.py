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


@pytest.mark.parametrize("topic", sorted(answer.HANDLERS))
def test_a_line_of_another_form_costs_no_other_line_its_answer(
    topic: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = cases(topic)[0]["input"]
    odd = ["{", "null", "5", '"a"', "[]", '{"image": 5, "files": 5, "old": 5, "new": 5, "refs": 5}', "[" * 100_000]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*odd, json.dumps(given)])))
    assert answer.main([topic]) == 0
    *refused, answered = map(json.loads, capsys.readouterr().out.splitlines())
    assert [list(line) for line in refused] == [["error"]] * len(odd)
    assert answered == answer.HANDLERS[topic](given)


@pytest.mark.parametrize("arguments", [[], ["other"], ["drain", "certs"]])
def test_unknown_topic(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert answer.main(arguments) == 2
    assert "usage:" in capsys.readouterr().err
