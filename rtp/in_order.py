"""The fast way: packets that go on with their row's stream, all of them at once.

A row that goes this way keeps its numbers in one place: what its next packet begins with, as one number of 64 bits,
    |V=2 P X CC|M PT|sequence number|timestamp|
so that one comparison knows the packet, and one addition makes the number of the packet behind it. An addition that
overflows a field gives a number that no packet begins with, and the row goes the long way once. How many packets came
this way since a row was settled is told by how far its `rx_head` has moved.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.packet import HEADER, Batch
from sipagent.rtp.table import COUNTER, CallTable

Rows = NDArray[np.intp]

_FORM: Final = 4096  # form = (kind, WIDE) * 4096 + octets of the packet
_NOTHING: Final = -1  # no packet is so long
_VERSION: Final = np.uint64(2 << 62)
_TYPE: Final = np.uint64(48)  # bits
_SEQUENCE: Final = np.uint64(32)


class InOrder:
    """What the next packet of each row looks like, of those rows that expect one in particular."""

    def __init__(self, table: CallTable) -> None:
        rows = table.rows
        self._head = table.rx_head
        self._packets = table.counters[:, COUNTER["packets_received"]]
        self._octets = table.counters[:, COUNTER["octets_received"]]
        self._beginning = np.zeros(rows, np.uint64)
        self._ssrc = np.zeros(rows, np.uint32)  # in network order
        self._length = np.full(rows, _NOTHING, np.int64)
        self._form = np.zeros(rows, np.int64)
        self._samples = np.full(rows, 160, np.int64)
        self._settled = np.zeros(rows, np.int64)  # rx_head when the row was settled
        self._counted = np.zeros(rows, np.int64)  # … and when its packets were counted

    # ---- what is expected

    def set_form(self, rows: Rows, kind: int, octets: int, samples: int) -> None:
        """Packets of `rows` carry `octets` of this kind, which are so many samples of the ring."""
        self._form[rows] = kind * _FORM + octets + HEADER
        self._samples[rows] = samples

    def kind(self, rows: Rows) -> NDArray[np.int64]:
        """Kind (and WIDE) of the last packet of each row; 0 = there was none."""
        return self._form[rows] // _FORM

    def expect(
        self,
        rows: Rows,
        payload_type: NDArray[np.int64],
        sequence: NDArray[np.int64],
        timestamp: NDArray[np.int64],
        ssrc: NDArray[np.uint32],
    ) -> None:
        """From now on `rows` go this way; their columns are settled."""
        beginning = (payload_type.astype(np.uint64) << _TYPE) | _VERSION
        beginning |= (sequence.astype(np.uint64) & np.uint64(0xFFFF)) << _SEQUENCE
        self._beginning[rows] = beginning | timestamp.astype(np.uint64)
        self._ssrc[rows] = ssrc.byteswap()
        self._length[rows] = self._form[rows] % _FORM
        self._settled[rows] = self._counted[rows] = self._head[rows]

    def leave(self, rows: Rows) -> None:
        """The next packets of `rows` go the long way."""
        self._length[rows] = _NOTHING

    def clear(self, row: int) -> None:
        """The row goes to another call."""
        self._length[row] = _NOTHING
        self._form[row] = 0

    # ---- packets

    def match(self, batch: Batch) -> NDArray[np.bool_]:
        """Which packets are the ones that their rows expect, bool[n]."""
        rows = batch.rows
        expected: NDArray[np.bool_] = batch.length == self._length[rows]
        expected &= batch.data.view(np.uint64)[:, 0] == self._beginning[rows].byteswap()
        expected &= batch.data.view(np.uint32)[:, 2] == self._ssrc[rows]
        return expected

    def forms(self, rows: Rows) -> list[tuple[int, int, Rows | None]]:
        """(kind, octets, indices into `rows`) by what the expected packets hold; None = all of them, nearly always."""
        form = self._form[rows]
        first = int(form[0])
        if np.count_nonzero(form == first) == len(form):
            return [(first // _FORM, first % _FORM - HEADER, None)]
        return [
            (int(each) // _FORM, int(each) % _FORM - HEADER, np.flatnonzero(form == each)) for each in np.unique(form)
        ]

    def passed(self, rows: Rows, octets: int) -> None:
        """The expected packets of `rows` came, with `octets` of payload each, which are as many timestamp units."""
        self._beginning[rows] += np.uint64((1 << 32) + octets)

    # ---- what has come

    def count(self, rows: Rows) -> None:
        """Bring the counters up to date."""
        rows = rows[self._length[rows] != _NOTHING]
        head = self._head[rows]
        packets = ((head - self._counted[rows]) // self._samples[rows]).astype(np.uint64)
        self._counted[rows] = head
        self._packets[rows] += packets
        self._octets[rows] += packets * (self._length[rows] - HEADER).astype(np.uint64)

    def settle(self, rows: Rows) -> tuple[Rows, NDArray[np.int64], NDArray[np.int64]]:
        """(rows, packets, octets): those of `rows` that go this way, and what came since the last time."""
        rows = rows[self._length[rows] != _NOTHING]
        if len(rows):
            self.count(rows)
        head = self._head[rows]
        packets = (head - self._settled[rows]) // self._samples[rows]
        self._settled[rows] = head
        return rows, packets, packets * (self._length[rows] - HEADER)
