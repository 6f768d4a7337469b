"""How the runtime treats image references, in the form of resolve.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.registries.resolve import Candidate, PullSource, Resolution, resolve
from reconciler.registries.runtime_config import load
from tests.conformance.load import base


def answer(given: Mapping[str, Any]) -> dict[str, Any]:
    """`registries_error`, `policy_error`, or a result for each reference."""
    files = {
        path: base(content["base"]) if isinstance(content, dict) else content.encode()
        for path, content in given["files"].items()
    }
    config = load(files)
    namespace = given.get("namespace")
    if config.registries_error:
        return {"registries_error": config.registries_error}
    policy = config.policy(namespace)
    if isinstance(policy, str):
        return {"policy_error": policy}
    return {"results": [_result(resolve(config, reference, namespace)) for reference in given["refs"]]}


def _result(resolution: Resolution) -> dict[str, Any]:
    if resolution.error:
        return {"ref": resolution.reference, "error": resolution.error}
    return {"ref": resolution.reference, "candidates": [_candidate(found) for found in resolution.candidates]}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ref": candidate.reference,
        "sources": [_source(source) for source in candidate.sources],
        "policy": candidate.policy,
        "policy_scope": candidate.policy_scope,
        "decision": candidate.decision,
    }
    if candidate.registry_prefix:
        found["registry_prefix"] = candidate.registry_prefix
    if candidate.sources_error:
        found["sources_error"] = candidate.sources_error
    return found


def _source(source: PullSource) -> dict[str, Any]:
    flags = {name: True for name in ("mirror", "insecure", "blocked") if getattr(source, name)}
    return {"ref": source.reference, **flags}
