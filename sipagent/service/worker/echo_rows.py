"""The echo pipeline: every caller hears itself. For line tests, and to measure what the planes cost."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import FAR_END, RX_RING, TX_RING, CallTable

MAX_BACKLOG_S: Final = 1.0  # on the way back to a line that does not send; what comes on top of it is dropped
PACKETS_S: Final = 50  # a backlog is kept to the packet of 20 ms that may be on its way, …
TRIM_S: Final = 1.0  # … and what never went below that for so long is left over from a stall, and given up
BLOCK: Final = 32  # samples that are copied as one: 4 ms at 8 kHz, so that every usual packet is a whole number of them


class EchoRows:
    """All echoing rows of one call table, served together."""

    def __init__(self, table: CallTable) -> None:
        self._table = table
        self._rx = table.rx_pcm.view(f"V{2 * BLOCK}")  # [rows, RX_RING // BLOCK]
        self._tx = table.tx_pcm.view(f"V{2 * BLOCK}")
        self._rows: NDArray[np.intp] = np.empty(0, np.intp)
        self._generations: NDArray[np.uint32] = np.empty(0, np.uint32)
        self._echoed: NDArray[np.int64] = np.empty(0, np.int64)  # receive position up to which each row was served
        self._trimmed: NDArray[np.int64] = np.empty(0, np.int64)  # … at which its backlog was judged last
        self._least: NDArray[np.int64] = np.empty(0, np.int64)  # backlog since then, in samples
        self._surplus: NDArray[np.int64] = np.empty(0, np.int64)  # samples that are still to be left out

    def add(self, row: int, generation: int, audience: int = FAR_END) -> None:
        """Echo from now on; both clocks are brought to a whole block first."""
        table = self._table
        table.tx_audience[row] = audience
        table.tx_gain[row] = 1.0
        head = int(table.tx_head[row])
        gap = -head % BLOCK
        table.tx_pcm[row, (head + np.arange(gap)) % TX_RING] = 0
        table.tx_head[row] = head + gap
        self._rows = np.append(self._rows, row)
        self._generations = np.append(self._generations, np.uint32(generation))
        self._echoed = np.append(self._echoed, table.rx_head[row] // BLOCK * BLOCK)
        self._trimmed = np.append(self._trimmed, self._echoed[-1])
        self._least = np.append(self._least, TX_RING)
        self._surplus = np.append(self._surplus, 0)

    def remove(self, row: int) -> None:
        """Echo no more."""
        keep = self._rows != row
        self._rows, self._generations, self._echoed = self._rows[keep], self._generations[keep], self._echoed[keep]
        self._trimmed, self._least, self._surplus = self._trimmed[keep], self._least[keep], self._surplus[keep]

    def poll(self) -> None:
        """Copy what has come since the last call, of every row in a few array operations.

        Rows are copied over the width of the one that has most; what lies beyond a row's own share is overwritten by
        its next one and never announced.
        """
        table, rows = self._table, self._rows
        if not len(rows):
            return
        heads = table.rx_head[rows] // BLOCK * BLOCK
        moved = np.flatnonzero((heads > self._echoed) & (table.generation[rows] == self._generations))
        if not len(moved):
            return
        rows, heads, start = rows[moved], heads[moved], self._echoed[moved]
        self._echoed[moved] = heads
        rate_hz = table.rate_hz[rows]
        limit = np.minimum((rate_hz * MAX_BACKLOG_S).astype(np.int64), TX_RING // 2)
        start = np.maximum(start, heads - limit)
        to = table.tx_head[rows]
        backlog = to - table.tx_read[rows]
        self._judge(moved, heads, backlog, rate_hz)
        surplus = self._surplus[moved]
        left_out = np.minimum(surplus, heads - start)
        self._surplus[moved] = surplus - left_out
        start += left_out
        count = np.where(backlog <= limit, heads - start, 0)
        width = np.arange(count.max() // BLOCK)
        heard = self._rx[rows[:, None], (start[:, None] // BLOCK + width) % (RX_RING // BLOCK)]
        self._tx[rows[:, None], (to[:, None] // BLOCK + width) % (TX_RING // BLOCK)] = heard
        table.tx_head[rows] = to + count

    def _judge(
        self, moved: NDArray[np.intp], heads: NDArray[np.int64], backlog: NDArray[np.int64], rate_hz: NDArray[np.int32]
    ) -> None:
        """Find the whole packets that the rows at `moved` have kept waiting for nothing."""
        least = np.minimum(self._least[moved], backlog)
        due = heads - self._trimmed[moved] >= rate_hz * TRIM_S
        self._least[moved] = np.where(due, TX_RING, least)
        if due.any():
            again = moved[due]
            self._trimmed[again] = heads[due]
            packet = rate_hz[due].astype(np.int64) // PACKETS_S
            self._surplus[again] = np.maximum(least[due] // packet - 1, 0) * packet
