"""node.sh kept running on a node: it answers requests, one after the other, over one channel of a connection."""

from __future__ import annotations

import asyncio
import shlex
from functools import cache

import asyncssh

from reconciler.transport.call import packed_program, started

TEXT_LIMIT = 32 * 1024
"""Bytes of a request up to which it is asked so: shells read text byte by byte."""

COMPLAINT_LIMIT = 4096
"""Bytes kept of what it says on standard error."""


@cache
def resident_command(prefix: str) -> str:
    """What starts it in a remote login shell; `prefix` is for sudo."""
    return prefix + shlex.join(started("reside"))


class Resident(asyncssh.SSHClientSession[bytes]):
    """The session of one such program; `command` is what started it on `connection`, whose host key has the
    `fingerprint`.

    An answer carries the number of its request. Whatever else comes, or an answer that nobody waits for any longer,
    ends the program: the next request is never given the answer to another.
    """

    def __init__(self, connection: asyncssh.SSHClientConnection, fingerprint: str, command: str) -> None:
        self.connection = connection
        self.fingerprint = fingerprint
        self.command = command
        self.complaint = b""
        self.ended = False
        self._unsent = packed_program()
        self._number = 0
        self._output = bytearray()
        self._waiting: asyncio.Future[bytes] | None = None

    @classmethod
    async def start(cls, connection: asyncssh.SSHClientConnection, fingerprint: str, command: str) -> Resident:
        """Raises what opening a channel raises."""
        resident = cls(connection, fingerprint, command)
        await connection.create_session(lambda: resident, command, encoding=None)
        return resident

    @property
    def status(self) -> int | None:
        """What it ended with; None where nobody told."""
        status: int | None = self._channel.get_returncode()
        return status

    def ask(self, text: bytes) -> asyncio.Future[bytes]:
        """The line of the answer to come; no whole line where the program ends before. One request at a time."""
        self._number += 1
        self._waiting = answer = asyncio.get_running_loop().create_future()
        try:
            self._channel.write(b"%s%d %s" % (self._unsent, self._number, text))
        except BrokenPipeError:  # it ended, and this session was not told yet
            self._end()
        self._unsent = b""
        return answer

    def give_up(self, answer: asyncio.Future[bytes]) -> None:
        """To be called when nobody waits for `answer` any longer, come or not."""
        if self._waiting is answer:
            self._end()
            self._channel.abort()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype is not None:
            self.complaint = (self.complaint + data)[-COMPLAINT_LIMIT:]
            return
        self._output += data
        if b"\n" in data:
            self._line_received()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncssh's signature
        self._end()

    def _line_received(self) -> None:
        number, _, answer = bytes(self._output).partition(b" ")
        if self._waiting and number == b"%d" % self._number and answer.find(b"\n") == len(answer) - 1:
            self._output.clear()
            self._settle(answer)
        else:
            self._end()
            self._channel.abort()

    def _settle(self, answer: bytes) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(answer)
        self._waiting = None

    def _end(self) -> None:
        self.ended = True
        self._settle(bytes(self._output))
