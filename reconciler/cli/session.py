"""What one invocation of the command line knows: the options every verb shares, and the way to the real parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from reconciler import logs
from reconciler.errors import UsageError
from reconciler.settings import Settings, load

if TYPE_CHECKING:
    from reconciler.stages.context import Context, Progress
    from reconciler.wiring import Application

T = TypeVar("T")


@dataclass
class Session:
    """`config`, `fleet` and `flags` are as given anywhere on the command line; the last one wins."""

    config: Path | None = None
    fleet: str | None = None
    flags: dict[str, str] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """The settings in force; reading them sets up logging. Raises UsageError."""
        settings = load(self.config, self.flags)
        given = settings.origin("log.level") != "default"
        logs.configure(settings.log.level if given else "warning", settings.log.format)
        return settings

    @property
    def fleet_name(self) -> str:
        """The fleet asked for, or the only one. Raises UsageError."""
        names = sorted(self.settings.fleets)
        if not names:
            raise UsageError(
                "no fleet is configured",
                where="fleets",
                remedy="write reconciler.toml with `reconciler init --url URL`, or name one with --config",
            )
        if self.fleet is not None and self.fleet not in names:
            raise UsageError(
                f"there is no fleet {self.fleet}", where="--fleet", remedy=f"configured: {', '.join(names)}"
            )
        if self.fleet is None and len(names) > 1:
            raise UsageError("several fleets are configured", where="--fleet", remedy=f"one of: {', '.join(names)}")
        return self.fleet or names[0]

    @asynccontextmanager
    async def application(self) -> AsyncIterator[Application]:
        """The real parts, closed at the end."""
        # Imported here, since the database's and SSH's libraries take a while that `--help` need not wait.
        from reconciler.wiring import open_application

        async with open_application(self.settings, actor_kind="login") as application:
            yield application

    @asynccontextmanager
    async def context(self, progress: Callable[[Progress], None] | None = None) -> AsyncIterator[Context]:
        """The chosen fleet's context."""
        name = self.fleet_name
        async with self.application() as application:
            context = application.context(name)
            if progress is not None:
                context.progress = progress
            yield context


def run(verb: Coroutine[Any, Any, T]) -> T:
    """Run a verb to its end; Ctrl-C cancels it, and what it opened is closed."""
    return asyncio.run(verb)
