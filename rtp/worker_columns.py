"""What no worker can have meant to write into the call table, found and put right.

A worker runs other people's code over shared memory, so its columns may hold anything. Whoever reads them in the media
plane bears that: nothing is raised, no loop is longer, no position of ours goes astray. Within a tenth of a second
`mend` has put the row right, so that it is not special for ever, and its conversation can go on.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import MARKS, TX_RING, CallTable

Rows = NDArray[np.intp]

MOST_GAIN: Final = 100.0  # 40 dB: more makes noise of any speech
_SIGN: Final = np.uint32(1 << 31)


def mend(table: CallTable, rows: Rows) -> dict[str, Rows]:
    """Put `rows` [n] right, as if their workers had written nothing since; those that were wrong, by column."""
    # What refers to tx_head is read before it: workers move it first.
    flush_to, mark_count = table.tx_flush_to[rows], table.mark_count[rows]
    flush_done, mark_done = table.tx_flush_done[rows], table.mark_done[rows]
    head, read = table.tx_head[rows], table.tx_read[rows]
    gain = table.tx_gain[rows]
    right = (
        ("tx_head", table.tx_head, _is_up_to(TX_RING, head - read), read),
        ("tx_flush_to", table.tx_flush_to, (flush_to <= flush_done) | (flush_to <= read + TX_RING), flush_done),
        ("mark_count", table.mark_count, _is_up_to(MARKS, mark_count - mark_done), mark_done),
        ("tx_gain", table.tx_gain, _is_gain(gain), np.ones_like(gain)),
    )
    wrong: dict[str, Rows] = {}
    for name, column, fits, instead in right:
        if not fits.all():
            wrong[name] = rows[~fits]
            column[wrong[name]] = instead[~fits]
    return wrong


def bounded_gain(gain: NDArray[np.float32]) -> NDArray[np.float32]:
    """`gain` f4[n], 1.0 in place of what is no gain."""
    return np.where(_is_gain(gain), gain, np.float32(1.0))


def _is_up_to(limit: int, ahead: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether 0 <= ahead <= limit; differences that wrapped are beyond it."""
    fits: NDArray[np.bool_] = (ahead >= 0) & (ahead <= limit)
    return fits


def _is_gain(gain: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Finite, and at most MOST_GAIN either way: as bits, since a signalling NaN warns in any comparison of floats."""
    fits: NDArray[np.bool_] = (gain.view(np.uint32) & ~_SIGN) <= np.float32(MOST_GAIN).view(np.uint32)
    return fits
