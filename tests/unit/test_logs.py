"""Log lines: their form, what is bound to them, and what is cut out."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from reconciler.logs import Log, bind, configure

Form = Literal["text", "json"]
Capture = Callable[..., io.StringIO]


@pytest.fixture
def capture() -> Iterator[Capture]:
    root, ours = logging.getLogger(), logging.getLogger("reconciler")
    before = (root.handlers[:], root.level, ours.level)

    def start(form: Form, level: str = "info") -> io.StringIO:
        stream = io.StringIO()
        configure(level, form, stream)
        return stream

    yield start
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


LOG = Log("reconciler.tests")


def test_text(capture: Capture) -> None:
    stream = capture("text")
    with bind(cycle="c1", fleet="default"):
        LOG.info("fetch", "the head\nmoved", commit="4f2a", reason='two "words"')
    time, rest = stream.getvalue().split(" ", 1)
    assert rest == 'info    fetch: the head moved cycle=c1 fleet=default commit=4f2a reason="two \\"words\\""\n'
    assert time.endswith("Z")


def test_json(capture: Capture) -> None:
    stream = capture("json")
    LOG.warning("apply", "設定", node="worker-1", tries=3)
    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "action": "apply", "message": "設定", "node": "worker-1", "tries": "3"}


def test_levels(capture: Capture) -> None:
    stream = capture("json", "warning")
    LOG.info("a", "not shown")
    LOG.warning("b", "shown")
    assert [line["action"] for line in lines(stream)] == ["b"]
    stream = capture("json", "debug")
    LOG.debug("c", "shown, once, in the new stream")
    assert [line["action"] for line in lines(stream)] == ["c"]


def test_other_libraries_are_heard_from_warning_on(capture: Capture) -> None:
    stream = capture("json", "debug")
    logging.getLogger("asyncssh.connection").info("chatter")
    logging.getLogger("asyncssh.connection").warning("lost %s", "https://a:b@c/")
    assert [(line["action"], line["message"]) for line in lines(stream)] == [("asyncssh", "lost https://***@c/")]


async def test_tasks_and_threads_keep_what_was_bound(capture: Capture) -> None:
    stream = capture("json")

    async def act(node: str) -> None:
        with bind(node=node, commit=None):
            await asyncio.sleep(0)
            LOG.info("act", "task")
            await asyncio.to_thread(LOG.info, "act", "thread")

    with bind(commit="4f2a"):
        await asyncio.gather(act("a"), act("b"))
    LOG.info("end", "nothing bound")
    assert sorted((line.get("commit", ""), line.get("node", ""), line["message"]) for line in lines(stream)) == [
        ("", "", "nothing bound"),
        ("4f2a", "a", "task"),
        ("4f2a", "a", "thread"),
        ("4f2a", "b", "task"),
        ("4f2a", "b", "thread"),
    ]


@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_cut_out(capture: Capture, form: Form) -> None:
    stream = capture(form)
    try:
        int("postgresql://me:s3cret@db/log")
    except ValueError:
        LOG.exception("store", "no postgresql://me:s3cret@db/log", url="https://t0ken@git.example.com/x")
    assert "Traceback" in stream.getvalue()
    assert "s3cret" not in stream.getvalue()
    assert "t0ken" not in stream.getvalue()
