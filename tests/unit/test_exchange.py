"""A command over SSH: its input does not wait for the reply to the request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.transport.exchange import Exchange


class Server:
    """A connection and its one channel: replies to the request when it has all of the input, and not before."""

    def __init__(self) -> None:
        self.got, self.requested, self.complete = b"", "", asyncio.Event()

    async def create_session(self, factory: Callable[[], Exchange], command: str, **options: Any) -> None:
        assert (options["request_pty"], options["x11_forwarding"]) == (False, False)
        self.session = factory()
        self.session.connection_made(self)  # type: ignore[arg-type]  # plays the channel
        assert self.got == b"", "input before the request is dropped by sshd"
        self.requested = command
        await self.complete.wait()

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        assert self.requested
        self.got += data

    def write_eof(self) -> None:
        self.complete.set()

    def get_returncode(self) -> int:
        return 3


async def test_the_input_follows_the_request_at_once() -> None:
    server, exchange = Server(), Exchange(b"input")
    assert not exchange.sent
    async with asyncio.timeout(10):
        await exchange.run(server, "sh")  # type: ignore[arg-type]  # plays the connection
    assert (server.got, server.requested, exchange.sent) == (b"input", "sh", True)
    exchange.data_received(b"out", None)
    exchange.data_received(b"err", 1)
    exchange.data_received(b"put", None)
    assert exchange.eof_received()
    exchange.connection_lost(None)
    await exchange.wait()
    assert (bytes(exchange.output), bytes(exchange.complaint), exchange.status) == (b"output", b"err", 3)


async def test_a_connection_that_ends_before_the_command_is_told() -> None:
    exchange = Exchange(b"")
    exchange.connection_lost(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError, match="gone"):
        await exchange.wait()
    assert exchange.status is None
