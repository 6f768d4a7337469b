"""The kubelets of a test cluster, all in one thread: they run pods, report them, and end those that are to go.

    with Kubelet(cluster, machines) as kubelet:   # machines: sandbox nodes that are called as Nodes are
        …

A privileged pod with a hostPath `/` really runs, in the sandbox node of its Node's name (tests/containers.py); every
other pod is only said to run, until it is deleted. Images are never pulled: `unpullable` says which cannot be.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from reconciler.kubernetes.trial import HOST
from reconciler.transport.sandbox import SandboxNode, wait_for
from tests.cluster import ApiServer
from tests.containers import Json
from tests.pods import Pod

RETRY = 0.1
"""Seconds before what failed is tried again, such as a request while the API server is away."""
AGAIN = (409, 429)
"""Answers after which a request is tried again: somebody else's write came between, too many requests."""


@dataclass
class Faults:
    """What kubelets can be told; may be changed at any time."""

    unpullable: set[str] = field(default_factory=set)
    """Images, repositories or registries whose images no node can pull."""

    starting: float = 0.0
    """Seconds until a pod that is not really run is Ready."""

    ending: float = 0.0
    """Seconds that a pod which is not really run takes to end; its grace period ends it sooner."""

    stuck: set[str] = field(default_factory=set)
    """Pods that do not end, whatever their grace period."""


class Kubelet:
    """Of every Node of a cluster."""

    def __init__(self, cluster: ApiServer, machines: Iterable[SandboxNode] = ()) -> None:
        self.cluster = cluster
        self.machines = {machine.name: machine for machine in machines}
        self.faults = Faults()
        self.logs_of: dict[tuple[str, str], Path] = {}
        """Namespace and name of a pod that really ran → where its containers' logs are, one file each."""

        self.problems: list[str] = []
        """What went wrong in the kubelets themselves."""

        self._pods: dict[str, Pod] = {}
        self._off: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._end = asyncio.Event()
        self._listed = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._main(),), daemon=True)

    @property
    def unpullable(self) -> set[str]:
        return self.faults.unpullable

    def __enter__(self) -> Kubelet:
        self._thread.start()
        wait_for(self._listed.is_set, "the test kubelet has not seen the pods", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()
        assert not self.problems, self.problems

    def log(self, namespace: str, pod: str, container: str = "") -> str:
        """What a pod that really runs or ran wrote; of its only container, unless one is named. Outlives the pod."""
        logs = self.logs_of.get((namespace, pod))
        files = sorted(logs.glob(f"{container or '*'}.log")) if logs else []
        assert len(files) < 2, f"logs of {namespace}/{pod}: {[file.name for file in files]}"
        return files[0].read_text(errors="replace") if files else ""

    def switch_off(self, node: str) -> None:
        """As if the node lost its power: its pods' processes die, and nobody reports it. Its Node stays as it is."""
        self._call(lambda: self._switch_off(node))

    def switch_on(self, node: str) -> None:
        """The node's kubelet starts again and finds its pods as they are."""
        self._call(lambda: self._switch_on(node))

    def _call(self, what: Callable[[], None]) -> None:
        done = threading.Event()

        def do() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(do)
        done.wait()

    def _switch_off(self, node: str) -> None:
        self._off.add(node)
        for pod in [pod for pod in self._pods.values() if pod.node == node]:
            pod.cancel()

    def _switch_on(self, node: str) -> None:
        self._off.discard(node)
        for pod in [pod for pod in self._pods.values() if pod.node == node]:
            self._see(pod.latest)

    # --- logs ---------------------------------------------------------------------------------------------------------

    async def _serve_logs(self) -> None:
        """Answer the API server when somebody asks for the log of a pod that really ran."""
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._answer_log)
        self._server = web.AppRunner(application, access_log=None)
        await self._server.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        directory = self.cluster.directory
        context.load_cert_chain(directory / "apiserver.crt", directory / "apiserver.key")
        site = web.TCPSite(self._server, HOST, 0, ssl_context=context)
        await site.start()
        port = self._server.addresses[0][1]
        status = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}
        for name in self.machines:
            await self.request("PATCH", f"/api/v1/nodes/{name}/status", status)

    async def _answer_log(self, request: web.Request) -> web.Response:
        found = request.match_info
        return web.Response(text=self.log(found["namespace"], found["pod"], found["container"]))

    # --- watching -----------------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        connections = aiohttp.TCPConnector(ssl=self.cluster.tls, limit=0)
        patience = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with aiohttp.ClientSession(self.cluster.url, connector=connections, timeout=patience) as self._session:
            await self._serve_logs()
            watching = asyncio.create_task(self._watch_for_ever())
            await self._end.wait()
            await self._server.cleanup()
            tasks = [watching, *(pod.task for pod in self._pods.values() if pod.task)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # a connection that ends says goodbye first: until the loop's own pipe is all it listens to
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                while len(self._selector.get_map()) > 1:  # noqa: ASYNC110  there is no event to wait for
                    await asyncio.sleep(0.01)

    async def _watch_for_ever(self) -> None:
        while True:
            try:
                await self._watch()
            except (aiohttp.ClientError, TimeoutError, ValueError):
                await asyncio.sleep(RETRY)
            except Exception as error:
                self.problems.append(f"the watch ended: {error!r}")
                raise

    async def _watch(self) -> None:
        """List the pods that have a node, then follow them until the watch ends."""
        path, bound = "/api/v1/pods", "spec.nodeName!="
        async with self._session.get(path, params={"fieldSelector": bound}) as answer:
            answer.raise_for_status()
            listed = await answer.json()
        there = {pod["metadata"]["uid"] for pod in listed["items"]}
        for pod in listed["items"]:
            self._see(pod)
        for uid in self._pods.keys() - there:
            self._forget(uid)
        self._listed.set()
        version = listed["metadata"]["resourceVersion"]
        options = {"fieldSelector": bound, "watch": "1", "resourceVersion": version}
        async with self._session.get(path, params=options, timeout=aiohttp.ClientTimeout(sock_read=300)) as answer:
            answer.raise_for_status()
            buffer = b""
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))

    def _take(self, event: Json) -> None:
        if event["type"] == "DELETED":
            self._forget(event["object"]["metadata"]["uid"])
        elif event["type"] in {"ADDED", "MODIFIED"}:
            self._see(event["object"])
        else:
            raise ValueError(event)  # such as 410: list again

    def _see(self, manifest: Json) -> None:
        uid = manifest["metadata"]["uid"]
        if known := self._pods.get(uid):
            known.see(manifest)
        else:
            known = self._pods[uid] = Pod(self, manifest)
        if known.node in self._off:
            return
        known.start()
        if "deletionTimestamp" in manifest["metadata"]:
            known.leaving.set()

    def _forget(self, uid: str) -> None:
        """It is gone from the API: whatever still runs of it ends."""
        if pod := self._pods.pop(uid, None):
            pod.cancel()

    # --- requests -----------------------------------------------------------------------------------------------------

    async def request(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer, None where there is no such object (any more). Waits for the API server to answer."""
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.request(
                    method, path, json=body, headers={"Content-Type": kind}, timeout=aiohttp.ClientTimeout(30)
                ) as answer:
                    if answer.ok:
                        return await answer.json()
                    if answer.status == 404 or (method, answer.status) == ("DELETE", 409):
                        return None
                    if answer.status < 500 and answer.status not in AGAIN:
                        self.problems.append(f"{method} {path}: {await answer.text()}")
                        return None
            await asyncio.sleep(RETRY)
