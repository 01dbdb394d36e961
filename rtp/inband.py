"""Digits that come as tones: the fallback for rows whose far end has no telephone events."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs.goertzel import DigitHeard, DtmfDetector
from sipagent.rtp.ring import RingColumn
from sipagent.rtp.table import CallTable

Rows = NDArray[np.intp]

PHASES: Final = 2  # half of the rows in every second tick
BLOCK_MS: Final = 20
_BLOCKS: Final = 8  # that a row may be behind before it skips


class InbandListener:
    """Runs the detector over what is in the rings, 20 ms at a time."""

    def __init__(self, table: CallTable, enabled: bool) -> None:
        self._table = table
        self._enabled = enabled
        self._pcm = RingColumn(table.rx_pcm)
        self._detectors = {rate_hz: DtmfDetector(table.rows, rate_hz) for rate_hz in (8000, 16000)}
        self._listening = np.zeros(table.rows, np.bool_)
        self._read = np.zeros(table.rows, np.int64)
        self._count = 0  # rows that are listened to

    def listen(self, row: int, listening: bool) -> None:
        """Begin or end to listen for tones in the row."""
        listening = listening and self._enabled
        if listening and not self._listening[row]:
            self._read[row] = self._table.rx_head[row]
            for detector in self._detectors.values():
                detector.reset(np.array([row]))
        self._listening[row] = listening
        self._count = int(np.count_nonzero(self._listening))

    def on_tick(self, tick: int) -> list[tuple[DigitHeard, int]]:
        """Digits that have ended, each with the position of the first sample of its block."""
        if not self._count or tick % 2:
            return []
        phase = tick // 2 % PHASES
        rows = np.flatnonzero(self._listening[phase::PHASES]) * PHASES + phase
        heard: list[tuple[DigitHeard, int]] = []
        if not len(rows):
            return heard
        for rate_hz, detector in self._detectors.items():
            samples = BLOCK_MS * rate_hz // 1000
            same = rows[self._table.rate_hz[rows] == rate_hz]
            behind = self._table.rx_head[same] - self._read[same] > _BLOCKS * samples
            self._read[same[behind]] = self._table.rx_head[same[behind]] - samples
            for _ in range(2):  # one block per 20 ms, and one to catch up
                same = same[self._table.rx_head[same] - self._read[same] >= samples]
                if not len(same):
                    break
                start = self._read[same]
                places = dict(zip(same.tolist(), start.tolist(), strict=True))
                found = detector.detect(same, self._pcm.read(same, start, samples))
                heard.extend((digit, places[digit.row]) for digit in found)
                self._read[same] = start + samples
        return heard
