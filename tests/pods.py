"""One pod of the test kubelet: from its binding to a node until it is gone from the API."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from reconciler.kubernetes.trial import HOST
from tests.containers import Container, Ended, Json, NotStarted, Place
from tests.pod_sources import Sources

if TYPE_CHECKING:
    from tests.kubelet import Kubelet

AGAIN = 0.1
"""Seconds until a pod that could not be started, or has ended, is started again; doubled each time, to AGAIN_MOST."""
AGAIN_MOST = 2.0
SOON = 5.0
"""Seconds that a killed container may take to be gone."""

KILLED = 137


def really_runs(spec: Json) -> bool:
    """Whether a pod is privileged and has its node's whole file system."""
    whole = any(volume.get("hostPath", {}).get("path") == "/" for volume in spec.get("volumes", ()))
    return whole and any(each.get("securityContext", {}).get("privileged") for each in spec["containers"])


class Pod:
    """What its node's kubelet does with one pod. `latest`: as the API last showed it."""

    def __init__(self, kubelet: Kubelet, manifest: Json) -> None:
        self.latest = manifest
        self.node: str = manifest["spec"]["nodeName"]
        self.leaving = asyncio.Event()
        """It is to be deleted."""

        self.task: asyncio.Task[None] | None = None
        self._kubelet = kubelet
        self._states: dict[str, Json] = {}
        self._restarts: dict[str, int] = {}
        self._running: list[Container] = []
        self._ending, self._reason = False, ""
        self._reporting = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None
        self._begun = manifest.get("status", {}).get("phase", "Pending") != "Pending"
        self._started = _now()

    @property
    def name(self) -> str:
        return str(self.latest["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.latest["metadata"]["uid"])

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.latest['metadata']['namespace']}/pods/{self.name}"

    def see(self, manifest: Json) -> None:
        """The API shows it as this by now. Files that tell of it follow."""
        before, self.latest = self.latest["metadata"].get("annotations"), manifest
        if self._running and before != manifest["metadata"].get("annotations"):
            refreshed = self._sources().write_volumes(self._running[0].place)
            self._refreshing = asyncio.get_running_loop().create_task(refreshed)

    def start(self) -> None:
        """Begin to run it, unless that was done."""
        if self.task is None or self.task.cancelling():
            self.task = asyncio.get_running_loop().create_task(self._live(self.task))

    def cancel(self) -> None:
        """Kill what runs of it, and tell nobody."""
        if self.task:
            self.task.cancel()

    # --- a life -------------------------------------------------------------------------------------------------------

    async def _live(self, before: asyncio.Task[None] | None) -> None:
        try:
            if before:
                await asyncio.wait([before])
            over = self.latest.get("status", {}).get("phase") in {"Succeeded", "Failed"}
            if not over and not self.leaving.is_set():
                await self._run_until_leaving()
            await self.leaving.wait()
            while self.name in self._kubelet.faults.stuck:  # noqa: ASYNC110  changed by tests at any time
                await asyncio.sleep(AGAIN)
            last = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
            await self._kubelet.request("DELETE", self.path, last)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  a test must hear of it; the other pods go on
            self._kubelet.problems.append(f"{self.path}: {error!r}")
        finally:
            for container in self._running:
                container.kill()
            if machine := self._kubelet.machines.get(self.node):
                Place(machine, self.uid).remove()

    async def _run_until_leaving(self) -> None:
        """Run it to its end, or until it is to be deleted or its time is over."""
        seconds = self.latest["spec"].get("activeDeadlineSeconds")
        work = asyncio.create_task(self._work())
        leaving = asyncio.create_task(self.leaving.wait())
        try:
            await asyncio.wait([work, leaving], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await self._stop(work, "" if leaving.done() else "DeadlineExceeded")
            if work.done() and not work.cancelled():
                work.result()
        finally:
            for task in (work, leaving):
                task.cancel()
            await asyncio.gather(work, leaving, return_exceptions=True)

    async def _stop(self, work: asyncio.Task[None], reason: str) -> None:
        """End what runs within its grace period, then by force; say so."""
        self._ending, self._reason = True, reason
        grace = self.latest["metadata"].get("deletionGracePeriodSeconds")
        if grace is None:
            grace = self.latest["spec"].get("terminationGracePeriodSeconds", 30)
        if self._running:
            for container in self._running:
                container.terminate()
            await asyncio.wait([work], timeout=grace)
            for container in self._running:
                container.kill()
            await asyncio.wait([work], timeout=SOON)
        elif not reason:
            await self._pause(lambda: min(grace, self._kubelet.faults.ending))
        if reason and not work.done():
            work.cancel()
            await self._all_ended("")

    async def _all_ended(self, why: str) -> None:
        """Report every container as killed: it did not run, was only said to run, or nobody knows."""
        for each in self.latest["spec"]["containers"]:
            self._states[each["name"]] = _terminated(Ended(KILLED, ""), self._started, why)
        await self._report("Failed")

    async def _work(self) -> None:
        spec = self.latest["spec"]
        if self._begun and spec.get("restartPolicy") == "Never" and really_runs(spec):
            await self._all_ended("ContainerStatusUnknown")
            return
        await self._wait_for_image()
        if really_runs(spec):
            await self._really_run()
            return
        await self._pause(lambda: self._kubelet.faults.starting)
        self._states = {each["name"]: {"running": {"startedAt": _now()}} for each in spec["containers"]}
        await self._report("Running")
        await asyncio.Event().wait()

    async def _pause(self, seconds: Callable[[], float]) -> None:
        """Until that many seconds are over, which a test may change meanwhile."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds():  # noqa: ASYNC110  changed by tests at any time
            await asyncio.sleep(AGAIN)

    async def _wait_for_image(self) -> None:
        while image := next(filter(self._unpullable, _images(self.latest["spec"])), ""):
            await self._waiting("ImagePullBackOff", f'Back-off pulling image "{image}"')
            await asyncio.sleep(AGAIN)

    def _unpullable(self, image: str) -> bool:
        bad = self._kubelet.faults.unpullable
        return any(image == each or image.startswith((f"{each}/", f"{each}:", f"{each}@")) for each in bad)

    # --- really running -----------------------------------------------------------------------------------------------

    async def _really_run(self) -> None:
        spec = self.latest["spec"]
        if self.node not in self._kubelet.machines:
            await self._waiting("CreateContainerError", f"the test kubelet has no machine {self.node}")
            await asyncio.Event().wait()
        place = Place(self._kubelet.machines[self.node], self.uid)
        await self._write_volumes(place)
        for each in spec.get("initContainers", ()):
            if (await self._run(each, place, again=spec.get("restartPolicy") != "Never")).code:
                await self._report("Failed")
                return
        policy = spec.get("restartPolicy", "Always")
        again, ever = policy != "Never", policy == "Always"
        ended = await asyncio.gather(*(self._run(each, place, again=again, ever=ever) for each in spec["containers"]))
        await self._report("Failed" if any(each.code for each in ended) else "Succeeded")

    async def _write_volumes(self, place: Place) -> None:
        while True:
            try:
                return await self._sources().write_volumes(place)
            except NotStarted as problem:
                await self._waiting(problem.reason, str(problem))
            await asyncio.sleep(AGAIN)

    def _sources(self) -> Sources:
        return Sources(self.latest, self._kubelet.cluster.url, self._kubelet.request)

    async def _run(self, spec: Json, place: Place, *, again: bool, ever: bool = False) -> Ended:
        """Run one container; `again` when it failed, `ever` also when it did not."""
        name, pause = spec["name"], AGAIN
        while True:
            try:
                ended = await self._run_once(spec, place)
            except NotStarted as problem:
                await self._waiting(problem.reason, str(problem), name)
            else:
                if self._ending or not (again and (ended.code or ever)):
                    return ended
                self._restarts[name] = self._restarts.get(name, 0) + 1
                await self._waiting("CrashLoopBackOff", f"back-off restarting failed container={name}", name)
            await asyncio.sleep(pause)
            pause = min(2 * pause, AGAIN_MOST)

    async def _run_once(self, spec: Json, place: Place) -> Ended:
        metadata = self.latest["metadata"]
        logs = place.machine.directory / "pod-logs" / f"{metadata['namespace']}_{self.name}_{self.uid}"
        logs.mkdir(parents=True, exist_ok=True)
        self._kubelet.logs_of[metadata["namespace"], self.name] = logs
        environment = await self._sources().environment(spec)
        container = Container(place, self.latest, spec, environment, logs / f"{spec['name']}.log")
        script = container.script()
        self._begun = True
        self._running.append(container)
        running = asyncio.create_task(container.run(script))
        try:
            await container.starts(running)
            started = _now()
            if not running.done():
                self._states[spec["name"]] = {"running": {"startedAt": started}}
                await self._report("Running")
            ended = await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            self._running.remove(container)
        self._states[spec["name"]] = _terminated(ended, started)
        if self._running:
            await self._report("Running")  # the others go on
        return ended

    # --- reporting ----------------------------------------------------------------------------------------------------

    async def _waiting(self, reason: str, message: str, container: str = "") -> None:
        """Say why containers are not running: one of them, or all."""
        state = {"waiting": {"reason": reason, "message": message}}
        names = [container] if container else [each["name"] for each in self.latest["spec"]["containers"]]
        if all(self._states.get(name) == state for name in names):
            return
        self._states.update(dict.fromkeys(names, state))
        running = any("running" in each or name in self._restarts for name, each in self._states.items())
        await self._report("Running" if running else "Pending")

    async def _report(self, phase: str) -> None:
        async with self._reporting:
            status = self._status("Failed" if self._reason else phase)
            body = {"metadata": {"uid": self.uid}, "status": status}
            await self._kubelet.request("PATCH", f"{self.path}/status", body)

    def _status(self, phase: str) -> Json:
        now = _now()
        main = [each["name"] for each in self.latest["spec"]["containers"]]
        ready = phase == "Running" and all("running" in self._states.get(name, {}) for name in main)
        met = {"PodScheduled": True, "Initialized": phase != "Pending", "ContainersReady": ready, "Ready": ready}
        return {
            "phase": phase,
            "reason": self._reason or None,
            "startTime": self._started,
            "hostIP": HOST,
            "podIP": HOST,
            "podIPs": [{"ip": HOST}],
            "conditions": [
                {"type": kind, "status": str(true), "lastTransitionTime": now} for kind, true in met.items()
            ],
            "containerStatuses": list(self._statuses("containers")),
            "initContainerStatuses": list(self._statuses("initContainers")) or None,
        }

    def _statuses(self, kind: str) -> Iterator[Json]:
        for each in self.latest["spec"].get(kind, ()):
            state = self._states.get(each["name"], {"waiting": {"reason": "ContainerCreating"}})
            made = f"cri-o://{uuid.uuid5(uuid.UUID(self.uid), each['name']).hex}"
            yield {
                "name": each["name"],
                "image": each["image"],
                "imageID": "" if "waiting" in state else each["image"],
                "containerID": "" if "waiting" in state else made,
                "ready": "running" in state,
                "started": "running" in state,
                "restartCount": self._restarts.get(each["name"], 0),
                "state": state,
            }


def _terminated(ended: Ended, started: str, reason: str = "") -> Json:
    reason = reason or ("Error" if ended.code else "Completed")
    end = {"exitCode": ended.code, "reason": reason, "message": ended.message}
    return {"terminated": {**end, "startedAt": started, "finishedAt": _now()}}


def _images(spec: Json) -> Iterator[str]:
    for kind in ("initContainers", "containers"):
        for each in spec.get(kind, ()):
            yield each["image"]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
