"""Typed messages over an AF_UNIX SEQPACKET pair, in asyncio: one message per datagram, kept in order."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

Incoming = TypeVar("Incoming")

MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_WAITING: Final = 10_000  # messages that a stuck reader may leave behind before it is given up


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected SEQPACKET pair with room for large messages."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE_BYTES * 2)
    return ends


class Channel(Generic[Incoming]):
    """One end of a pair.

    `incoming` is the union that may arrive; `on_closed` is called once when the other end is gone.
    """

    def __init__(
        self,
        end: socket.socket,
        incoming: Any,
        on_message: Callable[[Incoming], None],
        on_closed: Callable[[], None],
    ) -> None:
        end.setblocking(False)
        self._end = end
        self._decode: Callable[[bytes], Incoming] = msgspec.msgpack.Decoder(incoming).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._on_message = on_message
        self._on_closed = on_closed
        self._waiting: deque[bytes] = deque()
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end, self._readable)

    def send(self, message: msgspec.Struct) -> None:
        """Send, or queue behind what waits; a closed channel swallows it."""
        if not self._open:
            return
        data = self._encode(message)
        if not self._waiting and self._try_send(data):
            return
        if not self._open:
            return
        self._waiting.append(data)
        if len(self._waiting) == 1:
            self._loop.add_writer(self._end, self._writable)
        elif len(self._waiting) > MAX_WAITING:
            self.close()

    def close(self) -> None:
        """Close this end; `on_closed` is called unless it was closed before."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._end)
            self._loop.remove_writer(self._end)
            self._end.close()
            self._loop.call_soon(self._on_closed)

    def _try_send(self, data: bytes) -> bool:
        try:
            self._end.send(data)
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True

    def _writable(self) -> None:
        while self._waiting and self._try_send(self._waiting[0]):
            self._waiting.popleft()
        if not self._waiting and self._open:
            self._loop.remove_writer(self._end)

    def _readable(self) -> None:
        while self._open:
            try:
                data = self._end.recv(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self._on_message(self._decode(data))
