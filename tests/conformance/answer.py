"""`python -m tests.conformance.answer TOPIC`: one JSON input per line in, one JSON answer per line out.

The form of both is that of `input` and `expect` in vectors/TOPIC.jsonl.
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
    answer = HANDLERS[arguments[0]]
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(answer(json.loads(line)), ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
