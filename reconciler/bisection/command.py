"""A probe that is a command, run where reconciler runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from reconciler.bisection.probe import Candidate


async def run_command(command: str, fleet: str, candidate: Candidate, said: Callable[[str], None]) -> int:
    """The exit status of a shell command; negative where a signal ended it. What it says goes to `said`, as it comes.

    RECONCILER_FLEET, _POOL, _NODE, _ADDRESS, _POSITION and _COMMIT (empty where the state is no commit's) are in its
    environment, beside our own. When we are cancelled, its whole process group is ended.
    """
    about = {
        "FLEET": fleet,
        "POOL": candidate.pool,
        "NODE": candidate.node,
        "ADDRESS": candidate.address,
        "POSITION": str(candidate.position),
        "COMMIT": candidate.event.get("commit") or "",
    }
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **{f"RECONCILER_{name}": value for name, value in about.items()}},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101  a pipe was asked for
        while chunk := await process.stdout.read(65536):
            said(chunk.decode(errors="replace"))
        return await process.wait()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        raise
