"""Named places where a test may kill the process, to prove that nothing is lost there.

I/O: reads one environment variable; does nothing while it is unset. Called by the cycle and by the runner of steps.
"""

from __future__ import annotations

import os
import signal

from reconciler.errors import UsageError

VARIABLE = "RECONCILER_FAULT"
"""`NAME` or `NAME:N`: die at the first, or the N-th, pass of that place."""

FAULT_POINTS = {
    "after-fetch": "the mirror has the new head; nothing is recorded",
    "after-append": "an append group is in the log; nothing follows from it yet",
    "after-guard": "what is to come is rendered and judged; no step is begun",
    "between-nodes": "a node is done and recorded; the next is not begun",
    "after-step-started": "StepStarted is in the log; the node was not asked yet",
    "after-cordon": "a node is cordoned, and that is in the log; it is not drained yet",
    "after-drain": "a node is drained, and that is in the log; its files were not sent yet",
    "before-confirm": "a node has new files and undoes them by itself unless it is confirmed",
    "before-uncordon": "a drained node has acted; it is not uncordoned, and its receipt is not in the log",
    "between-resources": "a resource is applied to the cluster; the next is not, and nothing of it is in the log",
    "before-resources-recorded": "all resources are applied to the cluster; nothing of it is in the log",
    "before-receipt-recorded": "the node has acted; its receipt is not in the log",
}

_passes: dict[str, int] = {}


def fault_point(name: str) -> None:
    """Die here by SIGKILL if the variable says so. Raises UsageError when it names no fault point."""
    if name not in FAULT_POINTS:
        raise ValueError(f"{name} is not in FAULT_POINTS")
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    chosen, _, count = wanted.partition(":")
    if chosen not in FAULT_POINTS or not (count or "1").isdecimal():
        raise UsageError(
            f"{wanted!r} names no fault point", where=VARIABLE, remedy=f"NAME or NAME:N of: {', '.join(FAULT_POINTS)}"
        )
    if chosen == name:
        _passes[name] = _passes.get(name, 0) + 1
        if _passes[name] == int(count or "1"):
            os.kill(os.getpid(), signal.SIGKILL)
