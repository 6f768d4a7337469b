"""One kind of object of a cluster, kept in memory by one list and a watch that goes on where it was cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import httpx2
from lightkube import ApiError, AsyncClient
from lightkube.core.generic_client import WatchDriver
from lightkube.core.resource import Resource

from reconciler.errors import ClusterError
from reconciler.kubernetes.client import PAGE, TIMEOUT, errors
from reconciler.logs import Log

SILENCE = 150.0
"""Seconds without a line after which a watch counts as cut: the API server sends a bookmark about every 60."""

SETTLED = 5.0
"""Seconds that a watch must have stood, if it brought nothing, for the next one not to wait longer."""

FIRST_WAIT, LONGEST_WAIT = 0.2, 30.0
"""Seconds before a new attempt: the first, doubled with each failure up to the longest; ± 50 %."""

INSISTENCE = 3
"""Failures in a row after which an answer that is an error costs the version that the watch was to go on from."""

log = Log(__name__)

K = TypeVar("K", bound=Resource)


class Mirror(Generic[K]):
    """The objects of one kind, as the cluster's last word has them: read them as often as you like, no call is made.

    A background task lists them once and watches from that resource version on. A watch that ends is resumed from the
    last version seen; where the server knows that no more (410), they are listed anew: no change is missed, though a
    state that lasted shorter than the cut may be. `asked` says in errors what is read (`nodes of cluster prod`).
    `labels`: a label selector as `kubectl -l` takes it. `namespace`: of namespaced kinds; `*` is all.

    `failure` is why the objects may be out of date: None while the watch stands, and over one cut that the next
    attempt mends. `revision` counts what changed, `failure` included.
    """

    def __init__(
        self, client: AsyncClient, kind: type[K], asked: str, *, namespace: str | None = None, labels: str = ""
    ) -> None:
        self.failure: ClusterError | None = None
        self.revision = 0
        self._http: Any = client._client  # noqa: SLF001 - its own watch() takes neither bookmarks nor a time limit
        self._kind = kind
        self._asked = asked
        self._namespace = namespace
        self._labels = labels
        self._objects: dict[tuple[str, str], K] | None = None
        self._version: str | None = None
        self._attempts = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin in the background; a second time: nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"mirror: {self._asked}")

    async def synced(self) -> None:
        """Wait for the first list (started here, if need be). Raises what keeps it away: ClusterError, ClusterRefused.

        Afterwards it returns at once, also while `failure` is set.
        """
        self.start()
        while self._objects is None:
            if self.failure is not None:
                raise self.failure.with_traceback(None)
            await self.changed(self.revision)

    def items(self) -> Sequence[K]:
        """All objects, by namespace and name. Raises ClusterError when they were never listed."""
        if self._objects is None:
            failure = self.failure or ClusterError("not listed yet", where=self._asked, remedy="try again in a moment")
            raise failure.with_traceback(None)
        return [self._objects[key] for key in sorted(self._objects)]

    def get(self, name: str, namespace: str = "") -> K | None:
        """One object, or None. Raises as `items`."""
        if self._objects is None:
            self.items()
            return None
        return self._objects.get((namespace, name))

    async def changed(self, since: int) -> int:
        """Wait until `revision` is not `since` any more; the revision then."""
        while self.revision == since:
            await self._news.wait()
        return self.revision

    async def close(self) -> None:
        """Stop watching. The objects stay readable."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                with errors(self._asked):
                    await self._follow()
                self._attempts += 1
            except ClusterError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - nobody awaits this task: whatever ends it must be told
                self._failed(ClusterError(f"unreadable answer: {error}", where=self._asked, remedy="look at the log"))
            await asyncio.sleep(pause(self._attempts, random.uniform(0.5, 1.5)))  # noqa: S311 - jitter, no secret

    def _failed(self, error: ClusterError) -> None:
        self._attempts += 1
        if self._attempts > 1 or self._objects is None:
            if self.failure is None and self._objects is not None:
                log.warning("watch", "the watch is lost", asked=self._asked, error=str(error))
            self.failure = error
            self._tell()

    def _tell(self) -> None:
        self.revision += 1
        self._news.set()
        self._news = asyncio.Event()

    async def _follow(self) -> None:
        """List where no version is known, then watch until the watch ends.

        A version that the server goes on to refuse is dropped: one restored from a backup has never heard of it.
        """
        try:
            if self._version is None:
                await self._list()
            await self._watch()
        except httpx2.HTTPStatusError as error:
            gone = isinstance(error, ApiError) and error.status.code == httpx2.codes.GONE
            if gone or self._attempts >= INSISTENCE:
                self._version = None
            if not gone:
                raise

    async def _list(self) -> None:
        listing = self._http.list(self._request(watch=False, limit=str(PAGE)))
        found = {_key(item): item async for item in listing}
        self._objects, self._version = found, listing.resourceVersion
        self._tell()

    async def _watch(self) -> None:
        request = self._request(watch=True, allowWatchBookmarks="true", resourceVersion=self._version)
        request.timeout = httpx2.Timeout(TIMEOUT, read=SILENCE)
        driver: Any = WatchDriver(request, None)
        response = await self._http.send(self._http.build_adapter_request(request), stream=True)
        began = asyncio.get_running_loop().time()
        try:
            if response.is_error:
                await response.aread()
            self._http.raise_for_status(response)
            if self.failure is not None:
                self.failure = None
                self._tell()
            async for line in response.aiter_lines():
                self._attempts = 0
                self._take(*driver.process_one_line(line))
        finally:
            await response.aclose()
            if asyncio.get_running_loop().time() - began > SETTLED:
                self._attempts = 0

    def _take(self, event: str, found: Any) -> None:
        objects = self._objects
        if objects is None or found.metadata is None:
            return
        self._version = found.metadata.resourceVersion
        if event == "BOOKMARK":
            return
        if event == "DELETED":
            objects.pop(_key(found), None)
        else:
            objects[_key(found)] = found
        self._tell()

    def _request(self, *, watch: bool, **params: str | None) -> Any:
        return self._http.prepare_request(
            "list",
            res=self._kind,
            namespace=self._namespace,
            watch=watch,
            params={"labelSelector": self._labels or None, **params},
        )


def pause(attempts: int, draw: float) -> float:
    """Seconds to wait after so many attempts in a row that came to nothing; `draw` spreads clients that lost one server
    together."""
    return draw * min(FIRST_WAIT * 2.0 ** min(max(attempts - 1, 0), 30), LONGEST_WAIT)


def _key(found: Any) -> tuple[str, str]:
    return found.metadata.namespace or "", found.metadata.name
