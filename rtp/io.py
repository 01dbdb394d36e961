"""The seam between the media plane and the kernel: the fast way of packets, for all rows at once."""

import socket
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.packet import Batch

Rows = NDArray[np.intp]


class PacketIo(Protocol):
    """Moves datagrams between connected sockets and arrays. Errors of single packets are counted, never raised."""

    name: str
    waiting: Rows  # of which more is in the kernel than the last `receive` took: we were held up, or one floods us

    def add(self, row: int, sock: socket.socket) -> None:
        """Receive from and send to `sock` for `row` from now on, instead of the socket before."""

    def remove(self, row: int) -> None:
        """Forget the row's socket; to be called before it is closed."""

    def receive(self) -> list[Batch]:
        """What has come, in order of arrival per row. The arrays are good until the next call."""

    def send(self, rows: Rows, length: NDArray[np.int64]) -> None:
        """Send the first `length` [n] octets of the packet buffers of `rows` [n]; a row without a socket is skipped."""

    def send_one(self, row: int, data: bytes) -> None:
        """Send a packet that is not in the row's buffer: a telephone event, SRTP."""

    def take_errors(self) -> Rows:
        """Rows, one entry per packet that could not be sent since the last call."""

    def close(self) -> None:
        """Free what belongs to the kernel; the sockets are their owner's."""
