"""One command over an open SSH connection: input in, output out, in two round trips."""

from __future__ import annotations

import asyncio

import asyncssh


class Exchange(asyncssh.SSHClientSession[bytes]):
    """Sends `stdin` right behind the request to run the command, not after its reply: one round trip less.

    `sent`: the node may have got the command and its input. `output` and `complaint` are what it wrote to standard
    output and error, `status` is its exit status (negative: the signal that ended it; None: nobody knows).
    """

    def __init__(self, stdin: bytes) -> None:
        self._stdin = stdin
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._error: Exception | None = None
        self._ended = asyncio.Event()
        self.sent = False
        self.output, self.complaint = bytearray(), bytearray()

    @property
    def status(self) -> int | None:
        return self._channel.get_returncode() if self._channel else None

    async def run(self, connection: asyncssh.SSHClientConnection, command: str) -> None:
        """Returns when the node has been told, whether it runs or not. Raises what asyncssh does."""
        # a terminal or X11, which somebody's ssh_config may ask for, is of no use here, and would come in between
        await connection.create_session(lambda: self, command, encoding=None, request_pty=False, x11_forwarding=False)

    async def wait(self) -> None:
        """Returns when the command has ended. Raises what ended the connection before that."""
        await self._ended.wait()
        if self._error:
            raise self._error

    def close(self) -> None:
        if self._channel:
            self._channel.close()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel, self.sent = chan, True
        asyncio.get_running_loop().call_soon(self._send)  # asyncssh sends the request before it gives way

    def _send(self) -> None:
        if self._channel and not self._channel.is_closing():
            self._channel.write(self._stdin)
            self._channel.write_eof()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        (self.complaint if datatype == asyncssh.EXTENDED_DATA_STDERR else self.output).extend(data)

    def eof_received(self) -> bool:
        return True  # our side is closed when all is sent

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc
        self._ended.set()
