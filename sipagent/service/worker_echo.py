"""The echo pipeline: every caller hears itself. For line tests, and to measure what the planes cost."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import RX_RING, TX_RING, CallTable

MAX_BACKLOG_S: Final = 1.0  # on the way back to a line that does not send; what comes on top of it is dropped
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

    def add(self, row: int, generation: int) -> None:
        """Echo from now on; both clocks are brought to a whole block first."""
        table = self._table
        table.tx_gain[row] = 1.0
        head = int(table.tx_head[row])
        gap = -head % BLOCK
        table.tx_pcm[row, (head + np.arange(gap)) % TX_RING] = 0
        table.tx_head[row] = head + gap
        self._rows = np.append(self._rows, row)
        self._generations = np.append(self._generations, np.uint32(generation))
        self._echoed = np.append(self._echoed, table.rx_head[row] // BLOCK * BLOCK)

    def remove(self, row: int) -> None:
        """Echo no more."""
        keep = self._rows != row
        self._rows, self._generations, self._echoed = self._rows[keep], self._generations[keep], self._echoed[keep]

    def poll(self) -> None:
        """Copy what has come since the last call, of every row in a few array operations.

        Rows are copied over the width of the one that has most; what lies beyond a row's own share is overwritten by
        its next one and never announced.
        """
        table, rows = self._table, self._rows
        if not len(rows):
            return
        heads = table.rx_head[rows] // BLOCK * BLOCK
        moved = (heads > self._echoed) & (table.generation[rows] == self._generations)
        if not moved.any():
            return
        rows, heads, start = rows[moved], heads[moved], self._echoed[moved]
        self._echoed[moved] = heads
        limit = np.minimum((table.rate_hz[rows] * MAX_BACKLOG_S).astype(np.int64), TX_RING // 2)
        start = np.maximum(start, heads - limit)
        to = table.tx_head[rows]
        count = np.where(to - table.tx_read[rows] <= limit, heads - start, 0)
        width = np.arange(count.max() // BLOCK)
        heard = self._rx[rows[:, None], (start[:, None] // BLOCK + width) % (RX_RING // BLOCK)]
        self._tx[rows[:, None], (to[:, None] // BLOCK + width) % (TX_RING // BLOCK)] = heard
        table.tx_head[rows] = to + count
