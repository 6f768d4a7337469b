"""What a person can set, where each value came from, and how it is shown.

I/O: reads configuration files and environment variables. Called by wiring and the command line; the pure packages
never see it.
"""

from reconciler.settings.layers import load
from reconciler.settings.model import (
    DatabaseSettings,
    FleetSettings,
    LogSettings,
    ServiceSettings,
    Settings,
    SshSettings,
)
from reconciler.settings.shown import describe

__all__ = [
    "DatabaseSettings",
    "FleetSettings",
    "LogSettings",
    "ServiceSettings",
    "Settings",
    "SshSettings",
    "describe",
    "load",
]
