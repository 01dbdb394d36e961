"""Which source each row follows: its SSRC, and its sequence numbers beyond 16 bits (RFC 3550 A.1)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.packet import Headers
from sipagent.rtp.table import COUNTER, CallTable

Rows = NDArray[np.intp]

CYCLE: Final = 1 << 16  # numbers begin one cycle up: one from before the first packet is above zero
MAX_DROPOUT: Final = 3000
MAX_MISORDER: Final = 100


class Sources:
    """The sources of all rows; all columns hold one value for each row."""

    def __init__(self, table: CallTable) -> None:
        rows = table.rows
        self._counters = table.counters
        self.followed = np.zeros(rows, np.bool_)  # the row has a source
        self.ssrc = np.zeros(rows, np.uint32)
        self.first_sequence = np.zeros(rows, np.int64)  # extended, as is the highest
        self.highest_sequence = np.zeros(rows, np.int64)
        self._candidate = np.zeros(rows, np.uint32)  # another source, and the number that would confirm it
        self._candidate_next = np.full(rows, -1, np.int64)

    def reset(self, row: int) -> None:
        """The row goes to another call."""
        self.forget(row)
        self._candidate_next[row] = -1
        self.first_sequence[row] = self.highest_sequence[row] = 0

    def forget(self, row: int) -> None:
        """The next valid packet is of the row's source, whatever its SSRC."""
        self.followed[row] = False

    def continues(self, row: int, ssrc: int, sequence: int) -> bool:
        """Whether a packet from another address goes on with the stream that this row follows (NAT rebinding)."""
        ahead = (sequence - int(self.highest_sequence[row])) % CYCLE
        return bool(self.followed[row]) and int(self.ssrc[row]) == ssrc and 0 < ahead < MAX_DROPOUT

    def follow(
        self, rows: Rows, headers: Headers, usable: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Extended sequence numbers i8[n], and where a stream begins, ?[n]; no row twice.

        Clears `usable` where the packet is of no source that the row follows: another SSRC, or a number far off, is
        believed once the next number has come as well.
        """
        followed = self.followed[rows]
        highest = self.highest_sequence[rows]
        delta = ((headers.sequence - highest + CYCLE // 2) & (CYCLE - 1)) - CYCLE // 2
        same_source = headers.ssrc == self.ssrc[rows]
        strange = usable & followed & (~same_source | (delta > MAX_DROPOUT) | (delta < -MAX_MISORDER))
        confirmed = strange & (self._candidate[rows] == headers.ssrc)
        confirmed &= self._candidate_next[rows] == headers.sequence
        self._counters[rows[confirmed & ~same_source], COUNTER["ssrc_changes"]] += np.uint64(1)
        refused = strange & ~confirmed
        self._candidate[rows[refused]] = headers.ssrc[refused]
        self._candidate_next[rows[refused]] = (headers.sequence[refused] + 1) & (CYCLE - 1)
        self._counters[rows[refused], COUNTER["dropped_ssrc"]] += np.uint64(1)
        usable &= ~refused
        begin = confirmed | (usable & ~followed)
        sequence = np.where(begin, headers.sequence + CYCLE, highest + delta)
        begun = rows[begin]
        self.followed[begun] = True
        self.ssrc[begun] = headers.ssrc[begin]
        self._candidate_next[begun] = -1
        self.first_sequence[begun] = sequence[begin]
        self.highest_sequence[begun] = sequence[begin] - 1
        return sequence, begin
