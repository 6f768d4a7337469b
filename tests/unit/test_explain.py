"""Why an image can or cannot be pulled: the cases of cases/explain, and that `resolve` is never contradicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.registries.disruption import Files
from reconciler.registries.evidence import Place
from reconciler.registries.explain import Explanation, explain, explain_all
from reconciler.registries.model import POLICY_JSON, RenderOptions
from reconciler.registries.render import render
from reconciler.registries.resolve import resolve
from reconciler.registries.runtime_config import load
from tests.unit.runtime_files import REFERENCES, file_sets
from tests.unit.test_render import resources_of

FOLDER = Path(__file__).parents[1] / "cases" / "explain"
CASES = {case["name"]: case for path in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(path.read_text())}
ACCEPT = b'{"default": [{"type": "insecureAcceptAnything"}]}'


def explained(case: dict[str, Any], reference: str) -> Explanation:
    """Of a case's files, or of what its manifests render to; a policy that is not there accepts everything."""
    files: dict[str, bytes | None] = {POLICY_JSON: ACCEPT}
    origins = {}
    if "manifests" in case:
        rendered = render(resources_of(case["manifests"]), RenderOptions(base=case.get("base", "host")))
        assert rendered.ok
        files |= {file.path: file.content for file in rendered.files}
        origins = {file.path: file.origins for file in rendered.files}
    files |= {path: None if text is None else text.encode() for path, text in case.get("files", {}).items()}
    complete = case.get("complete", True)
    return explain(load(files), reference, files, origins, case.get("namespace"), complete=complete)


def told(explanation: Explanation) -> dict[str, Any]:
    """An explanation as the cases have it: places in one string, one line for each step of each attempt."""
    order = [
        " ".join(
            filter(None, (step.reference, step.verdict, "insecure" * step.insecure, shown(step.place), step.reason))
        )
        for attempt in explanation.attempts
        for step in attempt.steps
    ]
    data = {
        "verdict": explanation.verdict,
        "reason": explanation.reason,
        "place": shown(explanation.place),
        "order": order,
        "changes": list(explanation.changes),
    }
    return {key: value for key, value in data.items() if value}


def shown(place: Place | None) -> str:
    if place is None:
        return ""
    origins = ", ".join(f"{origin.resource} {origin.field}" for origin in place.origins)
    return f"[{place.file}:{place.line} {place.what}{' from ' * bool(origins)}{origins}]"


@pytest.mark.parametrize("name", CASES)
def test_explain(name: str) -> None:
    case = CASES[name]
    assert {reference: told(explained(case, reference)) for reference in case["asks"]} == case["asks"]


@settings(deadline=None)
@given(file_sets(), st.sampled_from([*REFERENCES, "UPPER", "b.com"]))
def test_the_verdict_is_that_of_resolve(files: dict[str, bytes | None], reference: str) -> None:
    config = load(files)
    answer, explanation = resolve(config, reference), explain(config, reference, files)
    decisions = [candidate.decision for candidate in answer.candidates]
    assert [attempt.decision for attempt in explanation.attempts] == decisions
    assert (explanation.verdict == "pullable") == ("pull" in decisions)
    assert (explanation.verdict == "not pullable") == (not answer.pullable)
    for attempt, candidate in zip(explanation.attempts, answer.candidates, strict=True):
        asked = [step.reference for step in attempt.steps if step.verdict in ("tried", "blocked", "rejected")]
        assert candidate.sources_error or asked == [source.reference for source in candidate.sources]


@settings(deadline=None)
@given(file_sets(), st.sampled_from(REFERENCES))
def test_a_refusal_names_a_line_and_a_remedy(files: dict[str, bytes | None], reference: str) -> None:
    explanation = explain(load(files), reference, files)
    places = [explanation.place, *(step.place for attempt in explanation.attempts for step in attempt.steps)]
    for place in filter(None, places):
        assert 1 <= place.line <= len((files[place.file] or b"\n").splitlines())
    if explanation.verdict == "not pullable":
        assert explanation.changes
        assert explanation.place is not None


@settings(deadline=None)
@given(st.binary(), st.binary(), st.text())
def test_any_files_and_any_name_get_an_answer(registries: bytes, policy: bytes, reference: str) -> None:
    files: Files = {"/etc/containers/registries.conf": registries, POLICY_JSON: policy}
    explanation = explain(load(files), reference, files)
    assert explanation.reason


def test_many_at_once_are_explained_as_one_by_one() -> None:
    files: Files = {
        "/etc/containers/registries.conf": b"[[registry]]\nlocation='a.com'\nblocked=true",
        POLICY_JSON: ACCEPT,
    }
    config = load(files)
    names = ["a.com/x", "b.com/x", "x"]
    assert list(explain_all(config, names, files)) == [explain(config, name, files) for name in names]
