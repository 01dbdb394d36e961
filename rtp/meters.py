"""Meters of what rows hear and send: level of speech, clipping, double talk.

A row is looked at when half a second more of it has been sent; the rows that are due are looked at together. What they
cost is to fetch the samples, so of each 32 ms only 8 ms are measured. All samples are looked at only where one of those
is loud: who clips is loud again and again.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import level
from sipagent.rtp.concealer import Concealer
from sipagent.rtp.ring import RingColumn
from sipagent.rtp.table import COUNTER, GAUGE, CallTable

Rows = NDArray[np.intp]
Pcm = NDArray[np.int16]

EVERY_TICKS: Final = 48  # a look at one row costs half as much as one at a hundred
TURN: Final = 2  # of each of these
MOST: Final = 128  # at a time, which take half a millisecond: where more are due they are asked often
OFTEN_TICKS: Final = 4
LOOK: Final = 4096  # samples: 0.5 s at 8 kHz
BLOCK: Final = 256
SPEECH_DBOV: Final = -55.0  # quieter than this nobody speaks
ABOVE_NOISE_DB: Final = 10.0
LOUDEST_NOISE_DBOV: Final = -35.0  # a street; what is never quieter is speech without a pause, or music
MEMORY_BLOCKS: Final = 300  # 10 s of speech: the level follows a speaker who moves away
LOUD: Final = level.CLIP // 2
PART: Final = 64  # of each block
BLOCKS: Final = LOOK // BLOCK
_PACKET: Final = 160
_LEVELS: Final = ("level_in_dbov", "level_out_dbov", "noise_floor_dbov")


class Meters:
    """Writes level_in_dbov, level_out_dbov, noise_floor_dbov, clipped_samples and double_talk_packets.

    Levels are those of active speech, averaged over what was spoken (the idea of ITU-T P.56): a call in which one side
    listens for a minute has not become quieter. -127 until somebody speaks.
    """

    def __init__(self, table: CallTable, concealer: Concealer) -> None:
        self._table = table
        self._concealer = concealer
        self._heard = RingColumn(table.rx_pcm)
        self._sent = RingColumn(table.sent_pcm)
        self._looked = np.zeros(table.rows, np.int64)  # looks so far
        self._power = np.zeros((table.rows, 2), np.float32)  # mean square of speech in, out
        self._spoken = np.zeros((table.rows, 2), np.float32)  # blocks of speech so far
        self._every_ticks = EVERY_TICKS

    def open(self, row: int) -> None:
        """The row goes to a new call."""
        self._looked[row] = self._table.tx_clock[row] // LOOK
        self._power[row] = self._spoken[row] = 0
        self._table.gauges[row, [GAUGE[name] for name in _LEVELS]] = level.SILENCE_DBOV

    def on_tick(self, tick: int) -> None:
        """Look at the rows that are due."""
        if tick % self._every_ticks != TURN:
            return
        table = self._table
        due = (table.tx_clock // LOOK > self._looked) & (table.active != 0)
        rows = np.flatnonzero(due)
        self._every_ticks = OFTEN_TICKS if len(rows) > MOST else EVERY_TICKS
        if len(rows):
            self._look(rows[:MOST])

    def _look(self, rows: Rows) -> None:
        table = self._table
        clock = table.tx_clock[rows]
        self._looked[rows] = clock // LOOK
        start = clock // LOOK * LOOK - LOOK
        heard_start = np.maximum(start + table.rx_head[rows] - clock, 0)
        heard, sent = _parts(self._heard, rows, heard_start), _parts(self._sent, rows, start)
        noise_dbov = self._concealer.noise_floor_dbov(rows, LOUDEST_NOISE_DBOV)
        table.gauges[rows, GAUGE["noise_floor_dbov"]] = noise_dbov
        listening = self._speech(rows, 0, heard, np.maximum(noise_dbov + ABOVE_NOISE_DB, SPEECH_DBOV))
        talking = self._speech(rows, 1, sent, np.full(len(rows), SPEECH_DBOV))
        both = np.count_nonzero(listening & talking, axis=1) * BLOCK // _PACKET
        table.counters[rows, COUNTER["double_talk_packets"]] += both.astype(np.uint64)
        loud = np.flatnonzero((heard.max(axis=(1, 2)) >= LOUD) | (heard.min(axis=(1, 2)) <= -LOUD))
        if len(loud):
            clipped = level.clipped(self._heard.read(rows[loud], heard_start[loud], LOOK))
            table.counters[rows[loud], COUNTER["clipped_samples"]] += clipped.astype(np.uint64)

    def _speech(self, rows: Rows, leg: int, pcm: Pcm, threshold_dbov: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which blocks bool[n, BLOCKS] are speech, by their parts i2[n, BLOCKS, PART]; moves the level of that leg."""
        power = level.mean_square(pcm.reshape(-1, PART)).reshape(len(rows), BLOCKS)
        speech: NDArray[np.bool_] = power > (level.root_mean_square(threshold_dbov.astype(np.float32)) ** 2)[:, None]
        spoken = np.count_nonzero(speech, axis=1)
        some = np.flatnonzero(spoken)
        if len(some):
            again, count = rows[some], spoken[some].astype(np.float32)
            mean = np.where(speech[some], power[some], 0).sum(axis=1) / count
            self._spoken[again, leg] = np.minimum(self._spoken[again, leg] + count, MEMORY_BLOCKS)
            share = count / self._spoken[again, leg]
            self._power[again, leg] += share * (mean - self._power[again, leg])
            self._table.gauges[again, GAUGE[_LEVELS[leg]]] = level.from_mean_square(self._power[again, leg])
        return speech


def _parts(ring: RingColumn, rows: Rows, start: NDArray[np.int64]) -> Pcm:
    """The first PART samples of each block behind `start` [n]: i2[n, BLOCKS, PART]."""
    positions = start[:, None] + np.arange(0, LOOK, BLOCK)
    return ring.read(rows.repeat(BLOCKS), positions.reshape(-1), PART).reshape(len(rows), BLOCKS, PART)
