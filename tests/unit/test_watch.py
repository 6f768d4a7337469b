"""A mirror of one kind against a scripted API server: what cuts, restarts and compactions do to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lightkube import AsyncClient, KubeConfig
from lightkube.config.models import Cluster, User
from lightkube.resources.core_v1 import Node

from reconciler.errors import ClusterError, ClusterRefused
from reconciler.kubernetes import watch
from reconciler.kubernetes.watch import Mirror

DEPLOY = Path(__file__).parents[2] / "deploy/kubernetes"


class Stream(httpx2.AsyncByteStream):
    """A watch from one version on; `None` in the queue cuts it, `""` ends it as the server's time limit does."""

    def __init__(self, lines: list[str]) -> None:
        self.queue: asyncio.Queue[str | None] = asyncio.Queue()
        for line in lines:
            self.queue.put_nowait(line)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (line := await self.queue.get()) != "":
            if line is None:
                raise httpx2.ReadError("connection reset")
            yield line.encode() + b"\n"


class Api:
    """An API server of nodes with a history that can be cut off, and answers that can be scripted."""

    def __init__(self) -> None:
        self.version, self.floor = 10, 0
        self.nodes: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, str]] = []
        self.watches: list[Stream] = []
        self.watched = asyncio.Event()
        self.asked: list[Mapping[str, str]] = []
        self.down = False
        self.refuse: int | None = None

    def put(self, name: str, **labels: str) -> None:
        event = "MODIFIED" if name in self.nodes else "ADDED"
        self.version += 1
        self.nodes[name] = _node(name, self.version, labels)
        self._tell(event, self.nodes[name])

    def remove(self, name: str) -> None:
        self.version += 1
        gone = self.nodes.pop(name)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", gone)

    def bookmark(self) -> None:
        self.version += 1
        self._tell("BOOKMARK", {"kind": "Node", "metadata": {"resourceVersion": str(self.version)}})

    def end(self, how: str | None) -> None:
        for stream in self.watches:
            stream.queue.put_nowait(how)
        self.watches.clear()
        self.watched.clear()

    def _tell(self, event: str, found: Mapping[str, Any]) -> None:
        line = json.dumps({"type": event, "object": found})
        self.history.append((self.version, line))
        for stream in self.watches:
            stream.queue.put_nowait(line)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        asked = dict(request.url.params)
        self.asked.append(asked)
        if self.down:
            raise httpx2.ConnectError("connection refused")
        if self.refuse:
            return httpx2.Response(self.refuse, json=_status(self.refuse, 'nodes is forbidden: User "x" cannot list'))
        if "watch" not in asked:
            return self._list(asked)
        since = int(asked["resourceVersion"])
        if since > self.version:
            return httpx2.Response(
                504, json=_status(504, f"Too large resource version: {since}, current: {self.version}")
            )
        if since < self.floor:
            gone = json.dumps({"type": "ERROR", "object": _status(410, "too old resource version")})
            return httpx2.Response(200, stream=Stream([gone, ""]))
        stream = Stream([line for version, line in self.history if version > since])
        self.watches.append(stream)
        self.watched.set()
        return httpx2.Response(200, stream=stream)

    def _list(self, asked: Mapping[str, str]) -> httpx2.Response:
        names, start = sorted(self.nodes), int(asked.get("continue", "0"))
        page = names[start : start + int(asked["limit"])]
        more = str(start + len(page)) if start + len(page) < len(names) else ""
        meta = {"resourceVersion": str(self.version), "continue": more}
        return httpx2.Response(200, json={"metadata": meta, "items": [self.nodes[name] for name in page]})

    @property
    def lists(self) -> int:
        return sum("watch" not in asked for asked in self.asked)


def _node(name: str, version: int, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"kind": "Node", "metadata": {"name": name, "resourceVersion": str(version), "labels": dict(labels)}}


def _status(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message}


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def mirror(api: Api, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mirror[Node]]:
    monkeypatch.setattr(watch, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(watch, "LONGEST_WAIT", 0.01)
    config = KubeConfig.from_one(cluster=Cluster(server="http://cluster.example"), user=User(token="t"))
    client = AsyncClient(config, transport=httpx2.MockTransport(api.answer))
    mirror = Mirror(client, Node, "nodes of cluster test", labels="pool in (a,b)")
    yield mirror
    await mirror.close()
    await client.close()


def labels(mirror: Mirror[Node]) -> dict[str, Mapping[str, str]]:
    return {item.metadata.name: item.metadata.labels for item in mirror.items()}  # type: ignore[misc,union-attr]


async def until(mirror: Mirror[Node], wanted: Mapping[str, Mapping[str, str]]) -> None:
    while labels(mirror) != wanted:
        await mirror.changed(mirror.revision)


async def lost(mirror: Mirror[Node], *, whether: bool = True) -> None:
    while (mirror.failure is not None) != whether:
        await mirror.changed(mirror.revision)


async def watching(api: Api) -> None:
    await api.watched.wait()


async def test_one_list_and_one_watch_show_every_change(api: Api, mirror: Mirror[Node]) -> None:
    api.put("a", zone="x")
    api.put("b")
    await mirror.synced()
    assert labels(mirror) == {"a": {"zone": "x"}, "b": {}}
    await watching(api)
    api.put("a", zone="y")
    api.remove("b")
    api.put("c")
    await until(mirror, {"a": {"zone": "y"}, "c": {}})
    assert [mirror.get(name) is None for name in "abc"] == [False, True, False]
    assert mirror.failure is None
    assert [asked.get("watch") for asked in api.asked] == [None, "true"]
    assert all(asked["labelSelector"] == "pool in (a,b)" for asked in api.asked)


async def test_a_long_list_comes_in_pages(api: Api, mirror: Mirror[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PAGE", 2)
    for name in "abcde":
        api.put(name)
    await mirror.synced()
    assert list(labels(mirror)) == list("abcde")
    assert api.lists == 3


@pytest.mark.parametrize("how", ["", None], ids=["ended", "cut"])
async def test_a_watch_that_ends_is_resumed_without_a_list(api: Api, mirror: Mirror[Node], how: str | None) -> None:
    api.put("a")
    await mirror.synced()
    await watching(api)
    for round_ in range(5):
        api.end(how)
        api.put("a", round=str(round_))
        api.remove("a")
        api.put("a", round=f"{round_} again")
        await until(mirror, {"a": {"round": f"{round_} again"}})
        assert mirror.failure is None
    assert api.lists == 1


async def test_after_a_compaction_the_list_is_taken_anew(api: Api, mirror: Mirror[Node]) -> None:
    api.put("a")
    api.put("b")
    await mirror.synced()
    await watching(api)
    api.end(None)
    api.remove("a")
    api.put("c")
    api.history.clear()
    api.floor = api.version
    await until(mirror, {"b": {}, "c": {}})
    assert api.lists == 2
    assert mirror.failure is None


async def test_a_server_restored_from_a_backup_is_listed_anew(api: Api, mirror: Mirror[Node]) -> None:
    """It does not know the version yet that the watch would go on from, and may not for days."""
    api.put("a")
    await mirror.synced()
    await watching(api)
    api.end(None)
    api.nodes.clear()
    api.history.clear()
    api.version = 5
    api.put("b")
    await until(mirror, {"b": {}})
    assert api.lists == 2


async def test_bookmarks_spare_the_list_after_a_compaction(api: Api, mirror: Mirror[Node]) -> None:
    api.put("a")
    await mirror.synced()
    await watching(api)
    assert api.asked[-1]["allowWatchBookmarks"] == "true"
    api.bookmark()
    api.floor = api.version
    api.end("")
    api.put("b")
    await until(mirror, {"a": {}, "b": {}})
    assert api.lists == 1


async def test_an_outage_is_told_and_nothing_is_forgotten(api: Api, mirror: Mirror[Node]) -> None:
    api.put("a")
    await mirror.synced()
    await watching(api)
    api.down = True
    api.end(None)
    await lost(mirror)
    assert "cannot be reached: connection refused" in str(mirror.failure)
    assert labels(mirror) == {"a": {}}
    await mirror.synced()
    api.put("b")
    api.down = False
    await lost(mirror, whether=False)
    await until(mirror, {"a": {}, "b": {}})
    assert api.lists == 1


async def test_a_right_that_is_missing_is_named_until_it_is_granted(api: Api, mirror: Mirror[Node]) -> None:
    api.refuse = 403
    with pytest.raises(ClusterRefused, match="cannot list") as refused:
        await mirror.synced()
    assert "deploy/kubernetes/base/rbac.yaml and openshift/rbac.yaml" in refused.value.remedy
    assert all((DEPLOY / part / "rbac.yaml").is_file() for part in ("base", "openshift"))
    with pytest.raises(ClusterRefused):
        mirror.items()
    api.refuse = None
    await lost(mirror, whether=False)
    assert labels(mirror) == {}


async def test_a_right_that_is_taken_away_is_named(api: Api, mirror: Mirror[Node]) -> None:
    api.put("a")
    await mirror.synced()
    await watching(api)
    api.refuse = 403
    api.end("")
    await lost(mirror)
    assert isinstance(mirror.failure, ClusterRefused)
    assert labels(mirror) == {"a": {}}


def test_attempts_become_rare_but_never_cease() -> None:
    waits = [watch.pause(attempts, 1.0) for attempts in range(2000)]
    assert waits[1:4] == [watch.FIRST_WAIT, 2 * watch.FIRST_WAIT, 4 * watch.FIRST_WAIT]
    assert waits == sorted(waits)
    assert set(waits[10:]) == {watch.LONGEST_WAIT}


async def test_an_answer_that_is_no_list_is_an_error(mirror: Mirror[Node], api: Api) -> None:
    api.nodes["a"] = {"metadata": "no object"}
    with pytest.raises(ClusterError, match="unreadable answer"):
        await mirror.synced()
