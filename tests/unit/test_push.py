"""What a push would do: held to what skopeo and podman were found to do in cases/judges/push.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.registries.disruption import Files
from reconciler.registries.evidence import Place
from reconciler.registries.model import RenderOptions
from reconciler.registries.push import PushAnswer, explain_pushes
from reconciler.registries.render import render
from reconciler.registries.runtime_config import load
from tests.judges import ACCEPT, server_of
from tests.unit.runtime_files import REFERENCES, file_sets
from tests.unit.test_render import resources_of

CASES = Path(__file__).parents[1] / "cases"
FOUND = yaml.safe_load((CASES / "judges" / "push.yaml").read_text())
TOLD = yaml.safe_load((CASES / "why" / "push.yaml").read_text())


def files_of(case: dict[str, Any]) -> Files:
    """As the judges' trials have them: what is trusted has a CA in certs.d."""
    files: dict[str, bytes | None] = {"/etc/containers/policy.json": ACCEPT}
    for path, text in case.get("files", {}).items():
        files[f"/etc/containers/{path}"] = None if text is None else text.encode()
    for registry in case.get("trusted", ("a.io", "x.a.io", "m.lan")):
        files[f"/etc/docker/certs.d/{registry}/ca.crt"] = b"CA"
    return files


def answer(files: Files, reference: str) -> PushAnswer:
    return next(explain_pushes(load(files), [reference], files))


def done(told: PushAnswer, program: str) -> bool:
    """Whether an unsigned image arrives, given where the judges' registries are and that they take everything."""
    source = next((one for one in told.sources if program in one.programs), None)
    if source is None or source.verdict != "taken" or told.reason.endswith("is blocked"):
        return False
    registry = told.destination.partition("/")[0]
    return told.insecure or (server_of(registry) == "tls" and bool(told.certificates))


@pytest.mark.parametrize("case", FOUND, ids=lambda case: case["name"])
def test_as_the_judges_found(case: dict[str, Any]) -> None:
    files = files_of(case)
    asked = {text: outcome for text, outcome in case["asks"].items() if not text.startswith("skopeo copy")}
    told = {text: answer(files, text.rpartition(" ")[2]) for text in asked}
    assert {text: done(one, text.partition(" ")[0]) for text, one in told.items()} == {
        text: outcome[0] == "done" for text, outcome in asked.items()
    }
    for text, outcome in asked.items():
        if outcome[0] == "done":
            assert told[text].destination.rpartition(":")[0] == outcome[1]


def shown(place: Place | None) -> str:
    if place is None:
        return ""
    origins = ", ".join(f"{origin.resource} {origin.field}" for origin in place.origins)
    return f"[{place.file}:{place.line} {place.what}{' from ' * bool(origins)}{origins}]"


def told(one: PushAnswer) -> dict[str, Any]:
    """An answer as the cases have it; what is empty is left out."""
    data = {
        "to": one.destination,
        "verdict": one.verdict,
        "reason": one.reason,
        "place": shown(one.place),
        "insecure": one.insecure,
        "certificates": list(one.certificates),
        "sources": {source.transport: source.verdict for source in one.sources},
        "changes": list(one.changes),
    }
    return {key: value for key, value in data.items() if value}


@pytest.mark.parametrize("case", TOLD, ids=lambda case: case["name"])
def test_what_is_said(case: dict[str, Any]) -> None:
    files: dict[str, bytes | None] = {"/etc/containers/policy.json": ACCEPT}
    origins = {}
    if "manifests" in case:
        rendered = render(resources_of(case["manifests"]), RenderOptions())
        files |= {file.path: file.content for file in rendered.files}
        origins = {file.path: file.origins for file in rendered.files}
    files |= {path: None if text is None else text.encode() for path, text in case.get("files", {}).items()}
    answers = explain_pushes(load(files), case["asks"], files, origins)
    assert {one.reference: told(one) for one in answers} == case["asks"]


@settings(deadline=None)
@given(file_sets(), st.sampled_from([*REFERENCES, "UPPER", "b.com"]))
def test_any_files_get_an_answer_with_a_reason(files: dict[str, bytes | None], reference: str) -> None:
    one = answer(files, reference)
    assert one.reason
    assert one.verdict != "not pushable" or one.changes
    for place in filter(None, (one.place, *(source.place for source in one.sources))):
        assert 1 <= place.line <= len((files[place.file] or b"\n").splitlines())
