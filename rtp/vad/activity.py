"""From probabilities to onsets and offsets, for all rows at once.

p   ▁▁▇▇▇▇▇▇▁▇▇▇▁▁▁▁▁▁▁▁▁▁      one column = one window of 32 ms
      │ └ onset told (64 ms)         └ offset told (256 ms)
      └ position of the onset   └ position of the offset: where the silence began
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.vad.options import EarsOptions

WINDOW_MS: Final = 32
_HUSHED: Final = 0.1  # a window below this says "certainly not speech" …
_HUSHED_WINDOWS: Final = 5  # … and after so many of them in a row the network may forget

Rows = NDArray[np.intp]
Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Changes:
    """What one step brought: rows intp[n] and positions i8[n] of onsets and of offsets."""

    onset_rows: Rows
    onset_positions: Positions
    offset_rows: Rows
    offset_positions: Positions


class Activity:
    """Who is speaking: hysteresis and minimum durations, one row per call."""

    def __init__(self, rows: int, options: EarsOptions) -> None:
        self._options = options
        self._speech_windows = max(1, math.ceil(options.min_speech_ms / WINDOW_MS))
        self._silence_windows = max(1, math.ceil(options.min_silence_ms / WINDOW_MS))
        self._reset_windows = max(1, math.ceil(options.reset_ms / WINDOW_MS))
        self.speaking = np.zeros(rows, np.bool_)
        self._run = np.zeros(rows, np.int32)  # windows that speak for a change, so far
        self._since = np.zeros(rows, np.int64)  # position of the first of them
        self._last_event = np.full(rows, -1, np.int64)
        self._hushed = np.zeros(rows, np.int32)  # windows in a row that were certainly not speech
        self._age = np.zeros(rows, np.int32)  # windows since the network's memory was cleared

    def reset(self, rows: Rows) -> None:
        """Forget all of `rows`: another call begins there."""
        self.speaking[rows] = False
        self._run[rows] = 0
        self._last_event[rows] = -1
        self._hushed[rows] = 0
        self._age[rows] = 0

    def step(
        self, rows: Rows, probability: NDArray[np.float32], start: Positions, hold: NDArray[np.bool_] | None = None
    ) -> Changes:
        """Take in one window per row: it begins at `start` i8[n] and is speech with `probability` f4[n].

        Where `hold` ?[n] is set an onset is not told yet; it is once the hold is lifted, if the speech has gone on.
        """
        speaking = self.speaking[rows]
        threshold, release = self._options.speech_threshold, self._options.silence_threshold
        towards = np.where(speaking, probability < release, probability >= threshold)
        against = np.where(speaking, probability >= threshold, probability < release)
        run = self._run[rows]
        self._since[rows] = np.where(towards & (run == 0), start, self._since[rows])
        run = np.where(against, 0, run + towards)
        change = run >= np.where(speaking, self._silence_windows, self._speech_windows)
        if hold is not None:
            change &= speaking | ~hold
        self._run[rows] = np.where(change, 0, run)
        self.speaking[rows] = speaking ^ change
        self._hushed[rows] = np.where(probability < _HUSHED, self._hushed[rows] + 1, 0)
        self._age[rows] += 1
        onset, offset = rows[change & ~speaking], rows[change & speaking]
        return Changes(onset, self._since[onset], offset, self._since[offset])

    def settle(self, rows: Rows, position: Positions) -> Positions:
        """Positions i8[n] as they may be told: behind the last event of each row, which they become."""
        settled = np.maximum(position, self._last_event[rows] + 1)
        self._last_event[rows] = settled
        return settled

    def pending(self, rows: Rows) -> NDArray[np.bool_]:
        """Rows of `rows` that are on their way to an onset, ?[n]."""
        result: NDArray[np.bool_] = ~self.speaking[rows] & (self._run[rows] > 0)
        return result

    def forgettable(self, rows: Rows) -> Rows:
        """Those of `rows` whose network state is to be zeroed now: quiet, and `reset_ms` old."""
        quiet = ~self.speaking[rows] & (self._run[rows] == 0) & (self._hushed[rows] >= _HUSHED_WINDOWS)
        due: Rows = rows[quiet & (self._age[rows] >= self._reset_windows)]
        self._age[due] = 0
        return due
