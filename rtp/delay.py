"""How late a row's packets come, and so how long a gap is worth waiting for.

The delay of a packet is its arrival time less the end of its place on the row's time line: an unknown constant plus
what the line adds. The smallest delay of the last seconds is the floor; `excess` over it is jitter. A packet that ends
at position p is overdue once `now > p + wait`, with wait = floor + deadline. The deadline is close to the largest
excess of late: it rises at once, since a packet that is given up too early is heard, and falls slowly, since a gap that
is waited for a little longer is not.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.options import MediaOptions

Rows = NDArray[np.intp]

FLOOR_WINDOW_NS: Final = 2_000_000_000  # the floor is the minimum of this window and the one before
NEVER_NS: Final = float(1 << 62)
_FALL: Final = 0.1  # of (1 - percentile), of the estimate, with each packet; about so many come to lie above it


class DelayModel:
    """Delay statistics of `rows` rows, in nanoseconds; one packet costs a handful of array operations."""

    def __init__(self, rows: int, options: MediaOptions) -> None:
        self._keep = 1.0 - _FALL * (1.0 - options.gap_deadline_percentile)
        self._minimum_ns = options.gap_deadline_min_ms * 1e6
        self._maximum_ns = options.gap_deadline_max_ms * 1e6
        self.maximum_ms = options.gap_deadline_max_ms
        self._window_end_ns = 0
        # Nanoseconds in f8: exact for 104 days.
        self._current = np.full(rows, NEVER_NS)  # smallest delay of this window
        self._previous = np.full(rows, NEVER_NS)  # … and of the one before
        self._deadline_ns = np.full(rows, self._minimum_ns)
        self._last = np.zeros(rows)  # delay of the last packet
        self._jitter = np.zeros(rows)  # RFC 3550 §6.4.1
        self.floor_ns = np.zeros(rows)
        self.wait_ns = np.full(rows, NEVER_NS)  # floor + deadline; NEVER_NS = the row is not receiving

    def restart(self, rows: Rows, delay_ns: NDArray[np.int64]) -> None:
        """The time line of `rows` was laid anew, and `delay_ns` is the delay on it; the deadline is kept."""
        self._current[rows] = self._previous[rows] = self.floor_ns[rows] = delay_ns
        self._last[rows] = delay_ns
        self.wait_ns[rows] = delay_ns + self._deadline_ns[rows]

    def forget(self, rows: Rows) -> None:
        """The rows go to another call, or are not receiving any more."""
        self._deadline_ns[rows] = self._minimum_ns
        self._jitter[rows] = 0.0
        self.wait_ns[rows] = NEVER_NS

    def observe(self, rows: Rows, delay_ns: NDArray[np.int64]) -> None:
        """One packet of each row came with this delay."""
        delay = delay_ns.astype(np.float64)
        current = np.minimum(self._current[rows], delay)
        self._current[rows] = current
        floor = np.minimum(current, self._previous[rows])
        self.floor_ns[rows] = floor
        deadline = self._deadline_ns[rows]
        deadline *= self._keep
        np.maximum(deadline, delay - floor, out=deadline)
        # Bounded here: one packet that was held up for a second must not keep the deadline at its bound for a minute.
        np.minimum(np.maximum(deadline, self._minimum_ns, out=deadline), self._maximum_ns, out=deadline)
        self._deadline_ns[rows] = deadline
        deadline += floor
        self.wait_ns[rows] = deadline
        difference = np.abs(delay - self._last[rows])
        self._last[rows] = delay
        jitter = self._jitter[rows]
        difference -= jitter
        difference *= 1 / 16
        self._jitter[rows] = jitter + difference

    def rotate(self, now_ns: int) -> None:
        """Let the floor rise with a clock that drifts or a route that became longer; call it once a tick."""
        if now_ns >= self._window_end_ns:
            self._window_end_ns = now_ns + FLOOR_WINDOW_NS
            # A row without packets in this window keeps its floor.
            np.copyto(self._previous, self._current, where=self._current != NEVER_NS)
            self._current.fill(NEVER_NS)

    def jitter_ms(self, rows: Rows) -> NDArray[np.float64]:
        """Interarrival jitter of `rows` [n] in milliseconds (RFC 3550 §6.4.1); f8[n]."""
        jitter: NDArray[np.float64] = self._jitter[rows] / 1e6
        return jitter

    def deadline_ms(self, rows: Rows) -> NDArray[np.float64]:
        """The present deadline of `rows` [n] in milliseconds; f8[n]."""
        deadline: NDArray[np.float64] = self._deadline_ns[rows] / 1e6
        return deadline
