"""Explanations as data: each place with the resource fields behind it, and what is known of where those come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconciler.registries.disruption import Files
from reconciler.registries.evidence import Origins, Place
from reconciler.registries.explain import Attempt, Explanation, explain_all
from reconciler.registries.image_import import NOTE, ImportAnswer, explain_import
from reconciler.registries.inputs import Inputs
from reconciler.registries.model import Origin, Resource
from reconciler.registries.push import PushAnswer, PushSource, explain_pushes
from reconciler.registries.runtime_config import load


@dataclass(frozen=True)
class Known:
    """What is known of the resources that lines come from, by identity.

    `traces` (only from a log), by field: the commit that brought what it says, and the event since which it is.
    """

    resources: Mapping[str, Resource] = field(default_factory=dict)
    traces: Mapping[Origin, Mapping[str, Any]] = field(default_factory=dict)

    def origin(self, origin: Origin) -> dict[str, Any]:
        """A field of a resource, and where it stands in the repository."""
        resource = self.resources.get(origin.resource)
        at = resource.at(origin.field) if resource else None
        return {
            "resource": origin.resource,
            "field": origin.field,
            "file": at.file if at else "",
            "line": at.line if at else 0,
            **self.traces.get(origin, {}),
        }

    def place(self, place: Place | None) -> dict[str, Any] | None:
        """A line of a file on the host, and the fields behind it."""
        if place is None:
            return None
        return {**place._asdict(), "origins": [self.origin(origin) for origin in place.origins]}


@dataclass(frozen=True)
class Question:
    """What is asked of a host, or of all that have the same files. `namespace` is the pod's."""

    images: Sequence[str]
    namespace: str | None = None
    imports: bool = False
    pushes: bool = False


@dataclass(frozen=True)
class Answers:
    """In the order of the images; no imports or pushes where they were not asked for."""

    pulls: Sequence[Explanation]
    imports: Sequence[ImportAnswer] = ()
    pushes: Sequence[PushAnswer] = ()

    def behind(self) -> set[Origin]:
        """All fields of resources that are named."""
        places = [place for pull in self.pulls for place in _pull_places(pull)]
        places += [place for push in self.pushes for place in (push.place, *(one.place for one in push.sources))]
        found = {origin for place in places if place for origin in place.origins}
        return found | {answer.origin for answer in self.imports if answer.origin}

    def data(self, known: Known) -> list[dict[str, Any]]:
        """One item per image."""
        items = [_pull(pull, known) for pull in self.pulls]
        for item, imported in zip(items, self.imports, strict=False):
            item["import"] = _import(imported, known)
        for item, pushed in zip(items, self.pushes, strict=False):
            item["push"] = _push(pushed, known)
        return items


def ask(
    question: Question, files: Files, origins: Origins | None = None, inputs: Inputs | None = None, *, complete: bool
) -> Answers:
    """The answers for a host with these files. Imports are judged by `inputs`; the other arguments are those of
    `explain_all`."""
    config = load(files)
    pulls = explain_all(config, question.images, files, origins, question.namespace, complete=complete)
    pushes = explain_pushes(config, question.images, files, origins) if question.pushes else ()
    return Answers(list(pulls), imports(question, inputs), list(pushes))


def imports(question: Question, inputs: Inputs | None) -> list[ImportAnswer]:
    """Answers on imports alone, which no file of a host decides; none where they were not asked for."""
    return [explain_import(inputs, image) for image in question.images] if question.imports and inputs else []


def brief(explanation: Explanation) -> dict[str, Any]:
    """A pull under files of which no provenance is at hand: what decides, in the host's own terms."""
    place = explanation.place
    return {
        "verdict": explanation.verdict,
        "reason": explanation.reason,
        "decidedBy": Known().place(place and place._replace(origins=())),
    }


def _pull_places(pull: Explanation) -> Iterator[Place | None]:
    yield pull.place
    for attempt in pull.attempts:
        yield from (attempt.table, attempt.policy, *(step.place for step in attempt.steps))


def _pull(explanation: Explanation, known: Known) -> dict[str, Any]:
    """What becomes of a pull."""
    return {
        "image": explanation.reference,
        "verdict": explanation.verdict,
        "reason": explanation.reason,
        "decidedBy": known.place(explanation.place),
        "attempts": [_attempt(attempt, known) for attempt in explanation.attempts],
        "changes": list(explanation.changes),
    }


def _attempt(attempt: Attempt, known: Known) -> dict[str, Any]:
    return {
        "reference": attempt.reference,
        "decision": attempt.decision,
        "reason": attempt.reason,
        "table": known.place(attempt.table),
        "policy": known.place(attempt.policy),
        "pullOrder": [{**step._asdict(), "place": known.place(step.place)} for step in attempt.steps],
    }


def _import(answer: ImportAnswer, known: Known) -> dict[str, Any]:
    """What the OpenShift API server says of an import."""
    return {
        "verdict": answer.verdict,
        "reason": answer.reason,
        "registry": answer.registry,
        "insecure": answer.insecure,
        "origin": known.origin(answer.origin) if answer.origin else None,
        "changes": list(answer.changes),
        "note": NOTE,
    }


def _push(answer: PushAnswer, known: Known) -> dict[str, Any]:
    """What becomes of a push from the host."""
    return {
        "destination": answer.destination,
        "verdict": answer.verdict,
        "reason": answer.reason,
        "decidedBy": known.place(answer.place),
        "insecure": answer.insecure,
        "certificates": list(answer.certificates),
        "sources": [_source(source, known) for source in answer.sources],
        "changes": list(answer.changes),
    }


def _source(source: PushSource, known: Known) -> dict[str, Any]:
    return {**source._asdict(), "place": known.place(source.place)}
