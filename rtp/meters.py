"""Meters of what rows hear and send: level of speech, clipping, double talk.

Each row is looked at twice a second, half a second of both rings at a time, a few rows per tick. Power is measured on
every fourth sample: decimation folds the spectrum and keeps the power.
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

EVERY_TICKS: Final = 4
BLOCKS: Final = 25  # of 20 ms, in the half second that is looked at
SPEECH_DBOV: Final = -55.0  # quieter than this nobody speaks
ABOVE_NOISE_DB: Final = 10.0
MEMORY_BLOCKS: Final = 500  # 10 s of speech: the level follows a speaker who moves away
_STEP: Final = 4
_LEVELS: Final = ("level_in_dbov", "level_out_dbov", "noise_floor_dbov")


class Meters:
    """Writes level_in_dbov, level_out_dbov, noise_floor_dbov, clipped_samples and double_talk_packets.

    Levels are those of active speech, averaged over what was spoken (the idea of ITU-T P.56): a call in which one side
    listens for a minute has not become quieter. -127 until somebody speaks.
    """

    def __init__(self, table: CallTable, concealer: Concealer, tick_ms: int) -> None:
        self._table = table
        self._concealer = concealer
        self._turns = max(1, 500 // (EVERY_TICKS * tick_ms))
        self._heard = RingColumn(table.rx_pcm)
        self._sent = RingColumn(table.sent_pcm)
        self._power = np.zeros((table.rows, 2), np.float32)  # mean square of speech in, out
        self._spoken = np.zeros((table.rows, 2), np.float32)  # blocks of speech so far

    def open(self, row: int) -> None:
        """The row goes to a new call."""
        self._power[row] = self._spoken[row] = 0
        self._table.gauges[row, [GAUGE[name] for name in _LEVELS]] = level.SILENCE_DBOV

    def on_tick(self, tick: int) -> None:
        """Look at the rows whose turn it is."""
        if tick % EVERY_TICKS:
            return
        table = self._table
        rows = np.arange(tick // EVERY_TICKS % self._turns, table.rows, self._turns)
        rows = rows[table.active[rows] != 0]
        for rate_hz in (8000, 16000):
            samples = rate_hz // 2
            ready = (table.rate_hz[rows] == rate_hz) & (table.rx_head[rows] >= samples)
            chosen = rows[ready & (table.tx_clock[rows] >= samples)]
            if len(chosen):
                self._measure(chosen, samples)

    def _measure(self, rows: Rows, samples: int) -> None:
        table = self._table
        heard = self._heard.read(rows, table.rx_head[rows] - samples, samples)
        sent = self._sent.read(rows, table.tx_clock[rows] - samples, samples)
        noise_dbov = self._concealer.noise_floor_dbov(rows)
        table.gauges[rows, GAUGE["noise_floor_dbov"]] = noise_dbov
        listening = self._speech(rows, 0, heard, np.maximum(noise_dbov + ABOVE_NOISE_DB, SPEECH_DBOV))
        talking = self._speech(rows, 1, sent, np.full(len(rows), SPEECH_DBOV))
        both = np.count_nonzero(listening & talking, axis=1)
        table.counters[rows, COUNTER["double_talk_packets"]] += both.astype(np.uint64)
        loud = np.flatnonzero(np.maximum(heard.max(axis=1), -(heard.min(axis=1) + 1)) >= level.CLIP - 1)
        if len(loud):
            table.counters[rows[loud], COUNTER["clipped_samples"]] += level.clipped(heard[loud]).astype(np.uint64)

    def _speech(self, rows: Rows, leg: int, pcm: Pcm, threshold_dbov: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which blocks bool[n, BLOCKS] are speech; moves the level of that leg."""
        blocks = pcm.reshape(len(rows), BLOCKS, -1)[:, :, ::_STEP].astype(np.float32)
        power = np.einsum("nbs,nbs->nb", blocks, blocks) / blocks.shape[2]
        speech: NDArray[np.bool_] = power > (level.root_mean_square(threshold_dbov.astype(np.float32)) ** 2)[:, None]
        spoken = np.count_nonzero(speech, axis=1)
        some = np.flatnonzero(spoken)
        if len(some):
            again, count = rows[some], spoken[some].astype(np.float32)
            mean = np.where(speech[some], power[some], 0).sum(axis=1) / count
            self._spoken[again, leg] = np.minimum(self._spoken[again, leg] + count, MEMORY_BLOCKS)
            share = count / self._spoken[again, leg]
            self._power[again, leg] += share * (mean - self._power[again, leg])
            gauge = GAUGE[_LEVELS[leg]]
            self._table.gauges[again, gauge] = level.from_mean_square(self._power[again, leg])
        return speech
