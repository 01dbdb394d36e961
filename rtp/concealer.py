"""The seam between the time line of a row and the way its losses are concealed."""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs.concealment import HISTORY_MS, LOUDEST_FLOOR_DBOV, Concealment
from sipagent.rtp.ring import RingColumn
from sipagent.rtp.table import CallTable

Rows = NDArray[np.intp]
Pcm = NDArray[np.int16]

LISTEN_TICKS: Final = 32
LISTEN_GROUPS: Final = 8  # each row's noise floor is measured once in 32 × 8 ticks, an eighth of the rows at a time
_LISTEN_MS: Final = 20


class Concealer(Protocol):
    """Makes up audio for rows of a table; all sample arrays are i2[n, samples], no row twice."""

    def reset(self, rows: Rows) -> None:
        """The rows go to another call."""

    def begin(self, rows: Rows) -> None:
        """A gap begins behind the `rx_head` of these rows."""

    def conceal(self, rows: Rows, samples: int, following: Pcm | None) -> Pcm:
        """The next `samples` of the gap; `following` i2[n, m] is the audio right behind them, where it has come."""

    def resume(self, rows: Rows, pcm: Pcm) -> Pcm:
        """Audio is back: `pcm` with its beginning faded in over what the gap would have gone on with."""

    def noise_floor_dbov(self, rows: Rows, loudest_dbov: float = LOUDEST_FLOOR_DBOV) -> NDArray[np.float32]:
        """How loud these rows are when nobody speaks, f4[n], at most `loudest_dbov`; -127 when that is not known."""

    def on_tick(self, tick: int) -> None:
        """Listen to what was received, for the noise floor."""


class PitchConcealer:
    """Pitch waveform repetition. The history of a row is its ring: nothing is copied while the line is good."""

    def __init__(self, table: CallTable) -> None:
        self._table = table
        self._pcm = RingColumn(table.rx_pcm)
        self._by_rate = {rate_hz: Concealment(table.rows, rate_hz) for rate_hz in (8000, 16000)}

    def reset(self, rows: Rows) -> None:
        """Forget the floor and any gap."""
        for concealment in self._by_rate.values():
            concealment.reset(rows)

    def begin(self, rows: Rows) -> None:
        """Take the last 40 ms of each ring as history."""
        for rate_hz, concealment, chosen in self._split(rows):
            concealment.remember(rows[chosen], self._latest(rows[chosen], HISTORY_MS * rate_hz // 1000))

    def conceal(self, rows: Rows, samples: int, following: Pcm | None) -> Pcm:
        """The next `samples` of the gap."""
        pcm = np.zeros((len(rows), samples), np.int16)
        for _, concealment, chosen in self._split(rows):
            behind = None if following is None else following[chosen]
            pcm[chosen] = concealment.conceal(rows[chosen], samples, behind)
        return pcm

    def resume(self, rows: Rows, pcm: Pcm) -> Pcm:
        """Cross-fade."""
        out = np.empty_like(pcm)
        for _, concealment, chosen in self._split(rows):
            out[chosen] = concealment.remember(rows[chosen], pcm[chosen])
        return out

    def noise_floor_dbov(self, rows: Rows, loudest_dbov: float = LOUDEST_FLOOR_DBOV) -> NDArray[np.float32]:
        """Level of the quietest packets heard."""
        floor = np.full(len(rows), -127, np.float32)
        for _, concealment, chosen in self._split(rows):
            floor[chosen] = concealment.noise_floor_dbov(rows[chosen], loudest_dbov)
        return floor

    def on_tick(self, tick: int) -> None:
        """Measure the rows whose turn it is."""
        if tick % LISTEN_TICKS:
            return
        rows = np.arange(tick // LISTEN_TICKS % LISTEN_GROUPS, self._table.rows, LISTEN_GROUPS)
        rows = rows[self._table.rx_last_ns[rows] * self._table.active[rows] > 0]
        for rate_hz, concealment, chosen in self._split(rows):
            listened = rows[chosen]
            samples = _LISTEN_MS * rate_hz // 1000
            first = (self._table.rx_head[listened] - samples) // 32
            # A made-up packet says nothing of the line's noise.
            received = self._table.rx_concealed[listened, first % self._table.rx_concealed.shape[1]] == 0
            if received.any():
                concealment.remember(listened[received], self._latest(listened[received], samples))

    def _latest(self, rows: Rows, samples: int) -> Pcm:
        return self._pcm.read(rows, self._table.rx_head[rows] - samples, samples)

    def _split(self, rows: Rows) -> list[tuple[int, Concealment, Rows]]:
        rates = self._table.rate_hz[rows]
        split = []
        for rate_hz, concealment in self._by_rate.items():
            chosen = np.flatnonzero(rates == rate_hz)
            if len(chosen):
                split.append((rate_hz, concealment, chosen))
        return split


class SilenceInstead:
    """Conceals with silence: the plainest Concealer, and the reference that the other is compared with."""

    def reset(self, rows: Rows) -> None:
        """Nothing is remembered."""

    def begin(self, rows: Rows) -> None:
        """Nothing is remembered."""

    def conceal(self, rows: Rows, samples: int, following: Pcm | None) -> Pcm:
        """Zeros."""
        return np.zeros((len(rows), samples), np.int16)

    def resume(self, rows: Rows, pcm: Pcm) -> Pcm:
        """The audio as it came."""
        return pcm

    def noise_floor_dbov(self, rows: Rows, loudest_dbov: float = LOUDEST_FLOOR_DBOV) -> NDArray[np.float32]:
        """Unknown."""
        return np.full(len(rows), -127, np.float32)

    def on_tick(self, tick: int) -> None:
        """Nothing to learn."""
