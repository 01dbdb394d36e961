"""Bursts and gaps of packet loss (RFC 3611 §4.7.2), counted for all rows by the Markov chain of its Appendix A.2.

A burst begins and ends with a lost packet and holds fewer than G_MIN received ones between any two; the rest is gap.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
Counts = NDArray[np.int64]

G_MIN: Final = 16


@dataclass(frozen=True, slots=True)
class BurstMetrics:
    """Arrays of shape (n,): densities are lost over all packets, 0…1; durations are the mean, in milliseconds."""

    burst_density: NDArray[np.float64]
    gap_density: NDArray[np.float64]
    burst_ms: NDArray[np.float64]
    gap_ms: NDArray[np.float64]


class LossBursts:
    """Counts runs of lost packets; nothing is done for packets that arrive.

    Names are those of the appendix: state 1 received in a gap, 2 received in a burst, 3 lost in a burst, 4 lost alone
    in a gap; c13 counts transitions from 1 to 3, and so on.
    """

    def __init__(self, rows: int) -> None:
        self.runs = np.zeros(rows, np.int64)  # of packets lost one after the other
        self._counts = np.zeros((rows, 7), np.int64)
        self._after = np.zeros(rows, np.int64)  # sequence number behind the last lost packet
        self._c11, self._c13, self._c14, self._c22, self._c23, self._c33, self._burst = self._counts.T

    def begin(self, rows: Rows, sequence: Counts) -> None:
        """A stream begins with this number; what was counted before stays counted."""
        self._after[rows] = sequence
        self._burst[rows] = 0

    def reset(self, row: int) -> None:
        """The row goes to another call."""
        self.runs[row] = 0
        self._counts[row] = 0

    def lose(self, rows: Rows, first: Counts, following: Counts) -> None:
        """The packets `first` ≤ n < `following` of each row are lost; no row twice, numbers extended and ascending."""
        received = np.maximum(first - self._after[rows], 0)
        run = following - first
        self._after[rows] = following
        self.runs[rows] += 1
        apart = received >= G_MIN
        alone = apart & (self._burst[rows] == 1)  # the loss before this one stood alone
        self._c14[rows] += alone
        self._c13[rows] += apart & ~alone
        self._c11[rows] += np.where(apart, received, 0)
        near = ~apart & (received > 0)
        self._c23[rows] += near
        self._c22[rows] += np.where(near, received - 1, 0)
        self._c33[rows] += (~apart & ~near) + run - 1
        self._burst[rows] = np.where(apart, 0, self._burst[rows]) + run

    def metrics(self, rows: Rows, following: Counts, packet_ms: NDArray[np.float64]) -> BurstMetrics:
        """Metrics up to the packet before `following` [n]; `packet_ms` [n] is the packet time of each row."""
        c11, c13, c14, c22, c23, c33, _ = self._counts[rows].T.astype(np.float64)
        # What came since the last loss belongs to the gap that it will turn out to be.
        c11 = c11 + np.maximum(following - self._after[rows], 0)
        c31, c32 = c13, c23
        total = c11 + c13 + c14 + c22 + c23 + c31 + c32 + c33
        p32 = c32 / np.maximum(c31 + c32 + c33, 1)
        p23 = np.where(c22 + c23 < 1, 1.0, 1 - c22 / np.maximum(c22 + c23, 1))
        bursts = np.maximum(c13, 1)
        gap_ms = (c11 + c14 + c13) * packet_ms / bursts
        burst_ms = np.where(c13 > 0, total * packet_ms / bursts - gap_ms, 0.0)
        return BurstMetrics(
            burst_density=np.where(c13 > 0, p23 / np.maximum(p23 + p32, 1e-9), 0.0),
            gap_density=c14 / np.maximum(c11 + c14, 1),
            burst_ms=burst_ms,
            gap_ms=gap_ms,
        )
