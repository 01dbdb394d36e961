"""Packets by epoll, recv and send: one system call per packet, on every Linux."""

import select
import socket
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.packet import MAX_PACKET, Batch

Rows = NDArray[np.intp]

BATCH: Final = 4096
_NO_ROWS: Final = np.zeros(0, np.intp)
PASSES: Final = 8  # of one packet per socket and tick: a burst is taken in order, and cannot hold the tick up


class EpollIo:
    """PacketIo over epoll; `packets` u1[rows, stride] are the buffers that `send` sends from."""

    name = "epoll"

    def __init__(self, packets: NDArray[np.uint8]) -> None:
        rows = len(packets)
        self._poll = select.epoll()
        self._sockets: list[socket.socket | None] = [None] * rows
        self._receive: dict[int, tuple[int, Callable[[memoryview], int]]] = {}
        self._buffer = np.zeros((BATCH, MAX_PACKET), np.uint8)
        self._views = [memoryview(line) for line in self._buffer]  # type: ignore[arg-type]
        self._packets = [memoryview(line) for line in packets]
        self._outgoing = list(self._packets)  # cut to the length that the row sent last
        self._send: list[Callable[[memoryview], int]] = [_nowhere] * rows
        self._length = np.full(rows, packets.shape[1], np.int64)
        self._errors: list[int] = []
        self.waiting = _NO_ROWS

    def add(self, row: int, sock: socket.socket) -> None:
        """Register the socket with epoll."""
        self.remove(row)
        self._sockets[row] = sock
        self._receive[sock.fileno()] = (row, sock.recv_into)
        self._send[row] = sock.send
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def remove(self, row: int) -> None:
        """Take the socket out of epoll."""
        old, self._sockets[row] = self._sockets[row], None
        self._send[row] = _nowhere
        if old is not None:
            del self._receive[old.fileno()]
            self._poll.unregister(old.fileno())

    def receive(self) -> list[Batch]:
        """One recv per readable socket, again while there are any; all in one batch."""
        receive, views = self._receive, self._views
        rows: list[int] = []
        lengths: list[int] = []
        count = 0
        ready: list[tuple[int, int]] = []
        for _ in range(PASSES):
            if count == BATCH:
                break
            ready = self._poll.poll(0, BATCH - count)
            for fd, _event in ready:
                row, receive_into = receive[fd]
                try:
                    length = receive_into(views[count])
                except OSError:  # an ICMP error of an earlier send; the stream goes on
                    continue
                rows.append(row)
                lengths.append(length)
                count += 1
            if not ready:
                break
        still = self._poll.poll(0) if ready else []
        self.waiting = np.array([receive[fd][0] for fd, _event in still], np.intp) if still else _NO_ROWS
        if not count:
            return []
        return [Batch(np.array(rows, np.intp), self._buffer[:count], np.array(lengths, np.int64))]

    def send(self, rows: Rows, length: NDArray[np.int64]) -> None:
        """One send per packet."""
        changed = self._length[rows] != length
        if changed.any():
            for row, octets in zip(rows[changed].tolist(), length[changed].tolist(), strict=True):
                self._outgoing[row] = self._packets[row][:octets]
            self._length[rows] = length
        send, outgoing = self._send, self._outgoing
        for row in rows.tolist():
            try:
                send[row](outgoing[row])
            except OSError:  # refused, unreachable, buffer full: RTP does not repeat
                self._errors.append(row)

    def send_one(self, row: int, data: bytes) -> None:
        """One send."""
        try:
            self._send[row](memoryview(data))
        except OSError:
            self._errors.append(row)

    def take_errors(self) -> Rows:
        """Rows of failed sends."""
        errors, self._errors = self._errors, []
        return np.array(errors, np.intp)

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._poll.close()


def _nowhere(data: memoryview) -> int:
    return len(data)
