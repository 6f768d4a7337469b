"""What the status of a pod means for its request: the cases of cases/pods/status.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube.resources.core_v1 import Pod

from reconciler.errors import NodeRefused, NodeUnreachable
from reconciler.kubernetes.pod_status import ended, pull_failure, why_waiting

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases/pods/status.yaml").read_text())


def pod(case: dict[str, Any]) -> Any:
    given = {"image": "i", "imageID": "", "ready": False, "restartCount": 0}
    status = {**case["status"]}
    if "containerStatuses" in status:
        status["containerStatuses"] = [{**given, **container} for container in status["containerStatuses"]]
    metadata = {"name": "p", **({"deletionTimestamp": "2026-01-31T09:00:00Z"} if case.get("deleted") else {})}
    return Pod.from_dict({"metadata": metadata, "spec": {"nodeName": "w1", "containers": []}, "status": status})


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_status(case: dict[str, Any]) -> None:
    shown = pod(case)
    assert pull_failure(shown) == case.get("told", "")
    for word, kind in (("unreachable", NodeUnreachable), ("refused", NodeRefused)):
        if word in case:
            with pytest.raises(kind) as raised:
                ended(shown, "main", case.get("before", ""))
            assert raised.value.what.startswith(case[word])
            assert raised.value.where == "node w1"
            return
    end = ended(shown, "main")
    if "waits" in case:
        assert (end, why_waiting(shown)) == (None, case["waits"])
    else:
        assert end is not None
        assert {"status": end.status, "message": end.message.decode()} == case["ended"]
