"""Packets by io_uring: one system call per tick for all sends, receives without any (Linux 6.0).

Each socket has one multishot receive, which fills a buffer per datagram from a common ring. An error, an ICMP message
for instance, ends it; it is then armed again.
"""

import errno
import socket
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.packet import HEADER, Batch
from sipagent.rtp.uring import (
    CQE_F_BUFFER,
    CQE_F_MORE,
    OP_ASYNC_CANCEL,
    OP_RECV,
    OP_SEND,
    OP_SEND_ZC,
    RECV_MULTISHOT,
    SQE,
    SQE_BUFFER_SELECT,
    SQE_CQE_SKIP_SUCCESS,
    SQE_WORDS,
    ProvidedBuffers,
    Ring,
)

Rows = NDArray[np.intp]

ENTRIES: Final = 4096
COMPLETIONS: Final = 32768
BUFFERS: Final = 8192
GIVE_BACK: Final = 512  # buffers that are given back together; their datagrams have been copied
BUFFER_SIZE: Final = 1024  # more than any RTP audio needs; the kernel cuts what is longer
_GROUP: Final = 7
_ROW_BITS: Final = 32
_SENDING: Final = 1 << 62  # in user_data
_CANCELLING: Final = 1 << 61
_ROWS: Final = np.uint64((1 << _ROW_BITS) - 1)
_NO_ROWS: Final = np.zeros(0, np.intp)
_FILLED: Final = np.uint32(CQE_F_BUFFER | CQE_F_MORE)


class UringIo:
    """PacketIo over io_uring; `packets` u1[rows, stride] are the buffers that `send` sends from.

    OSError at construction when the kernel is too old or a container forbids io_uring. A packet buffer must stay as it
    is until the next `receive`: by then the kernel has copied it.
    """

    name = "io_uring"

    def __init__(self, packets: NDArray[np.uint8]) -> None:
        self._ring = Ring(ENTRIES, COMPLETIONS)
        try:
            if not self._ring.supports(OP_SEND_ZC):
                raise OSError("this kernel's io_uring has no multishot receive")
            self._buffers = ProvidedBuffers(self._ring, _GROUP, BUFFERS, BUFFER_SIZE)
        except OSError:
            self._ring.close()
            raise
        rows = len(packets)
        self._packets = packets  # kept alive: the kernel reads from it
        self._taken: list[NDArray[np.int32]] = []  # buffers whose datagrams have been copied
        self._held = 0
        self.waiting = _NO_ROWS  # rows whose receive ended since there was no buffer
        self._fd = np.full(rows, -1, np.int32)
        self._serial = np.zeros(rows, np.uint64)  # raised with each socket of a row
        self._errors: list[Rows] = []
        self._left = False  # a row gave up its socket: what still comes from that one is to be told apart
        self._sends = np.zeros(rows, SQE)
        self._sends["opcode"] = OP_SEND
        self._sends["flags"] = SQE_CQE_SKIP_SUCCESS
        self._sends["addr"] = packets.ctypes.data + np.arange(rows) * packets.strides[0]
        self._sends["user_data"] = np.arange(rows) | _SENDING
        self._send_words = self._sends.view(np.uint64).reshape(rows, SQE_WORDS)
        self._send_length = self._sends["len"]
        self._deaf = rows  # rows without a socket

    def add(self, row: int, sock: socket.socket) -> None:
        """Arm a receive on the socket."""
        self.remove(row)
        self._fd[row] = self._sends["fd"][row] = sock.fileno()
        self._deaf -= 1
        self._serial[row] += np.uint64(1)
        self._arm(np.array([row]))

    def remove(self, row: int) -> None:
        """Cancel the receive: it holds the socket open beyond its close."""
        if self._fd[row] < 0:
            return
        cancel = np.zeros(1, SQE)
        cancel["opcode"] = OP_ASYNC_CANCEL
        cancel["fd"] = -1
        cancel["addr"] = self._receive_tag(np.array([row]))
        cancel["user_data"] = _CANCELLING
        self._ring.submit(cancel.view(np.uint64).reshape(1, SQE_WORDS))
        self.waiting = self.waiting[self.waiting != row]
        self._fd[row] = -1
        self._deaf += 1
        self._left = True

    def receive(self) -> list[Batch]:
        """Take what the kernel has received; no system call per packet."""
        batches: list[Batch] = []
        if len(self.waiting):
            starved, self.waiting = self.waiting, _NO_ROWS
            self._arm(starved)
        self._ring.poll(BUFFERS)
        done = self._ring.completions()
        if len(done):
            self._complete(done, batches)
        if self._held >= GIVE_BACK or len(self.waiting):
            self._give_back()
        return batches

    def _complete(self, done: NDArray[np.void], batches: list[Batch]) -> None:
        """Sort out completions; what came is added to `batches`."""
        tag, result, flags = done["user_data"], done["res"], done["flags"]
        rows = (tag & _ROWS).view(np.intp)
        if np.count_nonzero((flags & _FILLED) == _FILLED) == len(done) and not self._left:  # datagrams, nothing else
            batches.append(self._batch(rows, result, (flags >> 16).view(np.int32)))
            return
        if int(tag.max()) >= _CANCELLING:  # a failed send, a cancellation
            failed = (tag & np.uint64(_SENDING)) != 0
            self._errors.append(rows[failed & (result < 0)])
            receives = tag < _CANCELLING
            tag, rows, flags, result = tag[receives], rows[receives], flags[receives], result[receives]
        filled = (flags & CQE_F_BUFFER) != 0
        if self._left or not ((flags & CQE_F_MORE) != 0).all():
            self._left = False
            current = tag == self._receive_tag(rows)
            over = ((flags & CQE_F_MORE) == 0) & current & (self._fd[rows] >= 0)
            starved = over & (result == -errno.ENOBUFS)
            self.waiting = np.concatenate([self.waiting, rows[starved]])
            self._arm(rows[over & ~starved])
            self._take((flags >> 16).view(np.int32)[filled & ~current])
            filled &= current
        if filled.any():
            batches.append(self._batch(rows[filled], result[filled], (flags >> 16).view(np.int32)[filled]))

    def _take(self, buffers: NDArray[np.int32]) -> None:
        self._taken.append(buffers)
        self._held += len(buffers)

    def _give_back(self) -> None:
        if self._held:
            self._buffers.give_back(np.concatenate(self._taken))
            self._taken.clear()
            self._held = 0

    def _batch(self, rows: Rows, result: NDArray[np.int32], buffers: NDArray[np.int32]) -> Batch:
        self._take(buffers)
        length = result.astype(np.int64)
        # Rows of whole words, as a batch wants them, and not longer than what has come.
        longest = min(BUFFER_SIZE, max(HEADER + 4, (int(length.max()) + 7) & ~7))
        return Batch(rows, self._buffers.data[buffers, :longest], length)

    def send(self, rows: Rows, length: NDArray[np.int64]) -> None:
        """One system call for all of them."""
        self._send_length[rows] = length
        if self._deaf:
            rows = rows[self._fd[rows] >= 0]
        self._ring.submit(self._send_words.take(rows, axis=0))

    def send_one(self, row: int, data: bytes) -> None:
        """One system call for one packet; `data` is copied by the kernel before it returns."""
        if self._fd[row] < 0:
            return
        held = np.frombuffer(data, np.uint8)
        entry = self._sends[row : row + 1].copy()
        entry["addr"], entry["len"] = held.ctypes.data, len(data)
        self._ring.submit(entry.view(np.uint64).reshape(1, SQE_WORDS))

    def take_errors(self) -> Rows:
        """Rows of failed sends."""
        errors, self._errors = self._errors, []
        return np.concatenate(errors) if errors else np.zeros(0, np.intp)

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()

    def _receive_tag(self, rows: Rows) -> NDArray[np.uint64]:
        """user_data of the receive of each row's present socket."""
        serial: NDArray[np.uint64] = (self._serial[rows] & np.uint64((1 << 28) - 1)) << np.uint64(_ROW_BITS)
        return serial | rows.astype(np.uint64)

    def _arm(self, rows: Rows) -> None:
        if not len(rows):
            return
        entries = np.zeros(len(rows), SQE)
        entries["opcode"] = OP_RECV
        entries["flags"] = SQE_BUFFER_SELECT
        entries["ioprio"] = RECV_MULTISHOT
        entries["fd"] = self._fd[rows]
        entries["user_data"] = self._receive_tag(rows)
        entries["buf_group"] = _GROUP
        self._ring.submit(entries.view(np.uint64).reshape(-1, SQE_WORDS))
