"""What a cluster for tests is made of: Kubernetes' programs, and links to cut."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.kubernetes.trial import HOST, Port

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
"""Those that envtest's users have too; kube-controller-manager and kube-scheduler are asked for where they are used."""

MODULE = Path(__file__).parent / "kubernetes/assets/kube/go.mod"


# --- programs ---------------------------------------------------------------------------------------------------------


def default_assets() -> Path:
    """Where `make kubernetes` puts what it builds."""
    [version] = re.findall(r"^require k8s\.io/kubernetes v(\S+)$", MODULE.read_text(), re.MULTILINE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / f"reconciler/kubernetes-{version}"


def need_kubernetes(programs: Sequence[str] = PROGRAMS) -> Path:
    """The folder of Kubernetes' programs; skips the test where these are not built."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    folder = Path(given) if given else default_assets()
    missing = [program for program in programs if not os.access(folder / program, os.X_OK)]
    if missing and given:
        pytest.skip(f"KUBEBUILDER_ASSETS has no {', '.join(missing)}")
    if missing:
        pytest.skip(f"no {', '.join(missing)}: KUBEBUILDER_ASSETS is not set, and `make kubernetes` has not built them")
    return folder


# --- links ----------------------------------------------------------------------------------------------------------


class Proxy:
    """A link to a port of loopback, which a test can lose in every way there is. TCP alone: TLS passes through."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._port = Port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._links: set[asyncio.WriteTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        """How many were accepted so far."""

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._port.number}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.allow()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._port.close()

    def cut(self) -> None:
        """Reset every connection; new ones are accepted."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Reset every connection and refuse new ones."""
        self._call(self._refuse())

    def stall(self) -> None:
        """Lose the link without a word: connections stay open, new ones are accepted, nothing passes."""
        self._call(self._flow(False))

    def allow(self) -> None:
        """Be a good link again; what a stalled one holds is passed on."""
        self._call(self._allow())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _cut(self) -> None:
        for link in self._links:
            link.abort()
        self._links.clear()

    async def _refuse(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        await self._cut()

    async def _flow(self, yes: bool) -> None:
        if yes:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _allow(self) -> None:
        self._flowing.set()
        if not self._server:
            self._server = await asyncio.start_server(self._accept, HOST, self._port.number, reuse_port=True)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = self._loop.create_task(self._link(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        ends = [writer]
        self._links.add(writer.transport)
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._to)
            ends.append(far_writer)
            self._links.add(far_writer.transport)
            there, back = self._pump(reader, far_writer), self._pump(far_reader, writer)
            await asyncio.gather(there, back)
        except OSError:
            pass
        finally:
            for end in ends:
                self._links.discard(end.transport)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # an end that is closed closes the other
