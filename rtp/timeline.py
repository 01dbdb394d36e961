"""The receive ring of every row as call time: what is appended there, received or made up, and how it is flagged."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import comfort_noise
from sipagent.rtp.concealer import Concealer
from sipagent.rtp.ring import RingColumn
from sipagent.rtp.table import CONCEALED_BLOCK, COUNTER, RX_RING, CallTable

Rows = NDArray[np.intp]

RECEIVED: Final = 0  # values of rx_concealed, block by block; a mixed block carries the larger one
CONCEALED: Final = 1
SILENCE: Final = 2  # the far end sent nothing: silence suppression, hold, a line that is dead

CONCEAL_MS: Final = 60  # G.711 Appendix I: after this nothing of the pitch waveform is left
DIGITAL_SILENCE_DBOV: Final = -127.0
CLEARED: Final = 4096  # samples whose flags, the oldest of the ring, are cleared together
_FLAGS: Final = RX_RING // CONCEALED_BLOCK
_ALWAYS: Final = 1 << 62
_SEED: Final = 3389


class Timeline:
    """Appends to `rx_pcm`; `rx_head` never stands still for a stream that runs, and never goes back."""

    def __init__(self, table: CallTable, concealer: Concealer) -> None:
        self._table = table
        self._concealer = concealer
        self._pcm = RingColumn(table.rx_pcm)
        self._flags = RingColumn(table.rx_concealed)
        self._flagged_until = np.zeros(table.rows, np.int64)  # below this there may be flags of the last lap
        self._random = np.random.default_rng(_SEED)
        self.quiet = np.zeros(table.rows, np.bool_)  # the far end said that it pauses: nothing to conceal
        self.noise_dbov = np.full(table.rows, DIGITAL_SILENCE_DBOV, np.float32)  # of its pauses, as it says …
        self._noise_known = np.zeros(table.rows, np.bool_)  # … if it does
        self.filled = np.zeros(table.rows, np.int64)  # samples made up since the last received one
        # Below this position a packet is simply written: nothing was made up before it, no flags are in its way.
        self._plain_until = np.full(table.rows, _ALWAYS)

    def reset(self, rows: Rows) -> None:
        """The rows go to another call."""
        self.quiet[rows] = False
        self._noise_known[rows] = False
        self._concealer.reset(rows)
        self.filled[rows] = 0
        self._table.rx_concealed[rows] = RECEIVED
        self._plain_until[rows] = _ALWAYS
        self._flagged_until[rows] = 0

    def pause(self, rows: Rows) -> None:
        """The far end says that it pauses: until it is heard again there is silence to fill in, nothing to conceal."""
        self.quiet[rows] = True
        self._plain_until[rows] = 0
        self.filled[rows] = np.maximum(self.filled[rows], 1)

    def set_noise(self, rows: Rows, level_dbov: NDArray[np.float32]) -> None:
        """The far end pauses, and describes its noise (RFC 3389)."""
        self.noise_dbov[rows] = level_dbov
        self._noise_known[rows] = True

    def append(self, rows: Rows, pcm: NDArray[np.int16]) -> NDArray[np.int64]:
        """Received audio i2[n, samples], one packet per row; returns the new `rx_head` of each."""
        head = self._table.rx_head[rows]
        end: NDArray[np.int64] = head + pcm.shape[1]
        if np.count_nonzero(self._plain_until[rows] < end):
            pcm = self._resume(rows, pcm)
            self._clear(rows[self._plain_until[rows] < end])
        self._pcm.write(rows, head, pcm)
        self._table.rx_head[rows] = end
        return end

    def _resume(self, rows: Rows, pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        """Packets i2[n, samples] behind something that was made up fade in."""
        after = np.flatnonzero(self.filled[rows])
        if len(after):
            pcm = pcm.copy()
            pcm[after] = self._concealer.resume(rows[after], pcm[after])
            self.filled[rows] = 0
            self.quiet[rows] = False
        return pcm

    def _clear(self, rows: Rows) -> None:
        """Clear the flags of what is received next; those of a block that has begun stay."""
        first = -(-self._table.rx_head[rows] // CONCEALED_BLOCK)
        self._flags.write(rows, first, np.full((len(rows), CLEARED // CONCEALED_BLOCK), RECEIVED, np.uint8))
        cleared = first * CONCEALED_BLOCK + CLEARED
        self._plain_until[rows] = np.where(cleared < self._flagged_until[rows], cleared, _ALWAYS)

    def audible(self, rows: Rows) -> NDArray[np.bool_]:
        """Where the next stretch that nothing came for would be concealed, rather than silent."""
        longest = self._table.rate_hz[rows] * CONCEAL_MS // 1000
        return ~self.quiet[rows] & (self.filled[rows] < longest)

    def fill(self, rows: Rows, samples: NDArray[np.int64], following: NDArray[np.int16] | None = None) -> None:
        """Let `samples` [n] of call time pass for which nothing came: conceal the first 60 ms, then be silent.

        `following` i2[n, m] is the audio right behind that time, if it is at hand for all of these rows.
        """
        silent = ~self.audible(rows)
        while len(rows):
            # Rows that need the same number of samples go together; mostly that is one packet for all.
            count = samples[0]
            same = samples == count
            if count:
                audible = same & ~silent
                self._conceal(rows[audible], int(count), None if following is None else following[audible])
                self._silence(rows[same & silent], int(count))
            rows, samples, silent = rows[~same], samples[~same], silent[~same]
            following = None if following is None else following[~same]

    def _conceal(self, rows: Rows, samples: int, following: NDArray[np.int16] | None) -> None:
        if not len(rows):
            return
        first = rows[self.filled[rows] == 0]
        if len(first):
            self._concealer.begin(first)
        self._make_up(rows, self._concealer.conceal(rows, samples, following), CONCEALED)
        self.filled[rows] += samples
        self._table.counters[rows, COUNTER["concealed_samples"]] += np.uint64(samples)

    def _silence(self, rows: Rows, samples: int) -> None:
        if not len(rows):
            return
        levels = np.where(self._noise_known[rows], self.noise_dbov[rows], self._concealer.noise_floor_dbov(rows))
        self.filled[rows] += samples
        self._table.counters[rows, COUNTER["silence_samples"]] += np.uint64(samples)
        while samples:  # in pieces that fit the ring and the cache
            piece = min(samples, 480)
            if (levels > DIGITAL_SILENCE_DBOV).any():
                pcm = comfort_noise.generate(levels, piece, self._random)
            else:
                pcm = np.zeros((len(rows), piece), np.int16)
            self._make_up(rows, pcm, SILENCE)
            samples -= piece

    def _make_up(self, rows: Rows, pcm: NDArray[np.int16], flag: int) -> None:
        head = self._table.rx_head[rows]
        samples = pcm.shape[1]
        self._pcm.write(rows, head, pcm)
        self._flag(rows, head, samples, flag)
        self._plain_until[rows] = 0
        self._flagged_until[rows] = head + samples + RX_RING
        self._table.rx_head[rows] = head + samples

    def _flag(self, rows: Rows, head: NDArray[np.int64], samples: int, flag: int) -> None:
        first = head // CONCEALED_BLOCK
        begun = head % CONCEALED_BLOCK
        if samples % CONCEALED_BLOCK == 0 and not begun.any():
            self._flags.write(rows, first, np.full((len(rows), samples // CONCEALED_BLOCK), flag, np.uint8))
            return
        count = (head + samples - 1) // CONCEALED_BLOCK - first + 1
        column = np.arange(int(count.max()))
        index = (first[:, None] + column) & (_FLAGS - 1)
        present = self._table.rx_concealed[rows[:, None], index]
        shared = (column == 0) & (begun > 0)[:, None]  # the block that the packet before began
        flags = np.where(shared, np.maximum(present, flag), flag)
        inside = column < count[:, None]
        self._table.rx_concealed[rows[:, None], index] = np.where(inside, flags, present)
