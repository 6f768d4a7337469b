"""Plans on an overlay: what a pass, or content that is not merged yet, would do; and the fleet as a file for CI.

I/O: reads the log, Git, nodes and files through ports; writes the export file, and nothing else. Called by the doors.
"""

from reconciler.planning.export import export_fleet, read_export
from reconciler.planning.plan import Asked, plan, plan_export, renderer_changes
from reconciler.planning.rollback import plan_rollback, plan_undo

__all__ = [
    "Asked",
    "export_fleet",
    "plan",
    "plan_export",
    "plan_rollback",
    "plan_undo",
    "read_export",
    "renderer_changes",
]
