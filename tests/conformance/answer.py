"""`python -m tests.conformance.answer TOPIC`: one JSON input per line in, one JSON answer per line out.

The form of both is that of `input` and `expect` in vectors/TOPIC.jsonl. A line of another form is answered with
`error`, and costs no other line its answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tests.conformance import certs_answer, drain_answer, render_answer, resolve_answer

HANDLERS: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "render": render_answer.answer,
    "certs": certs_answer.answer,
    "drain": drain_answer.answer,
    "resolve": resolve_answer.answer,
}


def main(arguments: list[str]) -> int:
    """Answer every line of standard input; 2 when the topic is not known."""
    if len(arguments) != 1 or arguments[0] not in HANDLERS:
        print(f"usage: python -m tests.conformance.answer {'|'.join(sorted(HANDLERS))}", file=sys.stderr)
        return 2
    for line in sys.stdin:
        if line.strip():
            print(_answer(HANDLERS[arguments[0]], line), flush=True)
    return 0


def _answer(handler: Callable[[Mapping[str, Any]], Mapping[str, Any]], line: str) -> str:
    try:
        return json.dumps(handler(json.loads(line)))
    except Exception as error:  # noqa: BLE001  whatever a line holds, the next one is answered
        return json.dumps({"error": f"not an input of this topic: {error!r}"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
