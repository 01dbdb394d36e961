"""The echo gate: the agent's own words that come back from the line are not the caller speaking.

    talking?   nothing was sent in the last 0.4 s           → nothing to do, nothing spent
    bounded?   the line never returned more than so much    → a louder sound is the caller
    locked?    the lag is known: cancel, look what is left  → little is left: echo; much: the caller
    else       hold an onset back up to 0.25 s, look for the lag: a path that explains the sound locks the row

All of it runs at 8 kHz; wideband rows are decimated first. Lags are differences of the two clocks of a row, so the
unknown distance between them is simply part of the lag.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import CallTable
from sipagent.rtp.vad import echo_delay, echo_fit, windows
from sipagent.rtp.vad.echo_delay import EARLY, LATE, SEGMENT
from sipagent.rtp.vad.echo_filter import BLOCK, REACH, EchoFilter
from sipagent.rtp.vad.silero import CONTEXT, WINDOW

HISTORY: Final = 12  # windows during which an echo of what was sent may still come: 384 ms
_HOLD_WINDOWS: Final = 8  # an onset that the row cannot judge yet waits no longer
_TALKING_POWER: Final = (32768 * 10 ** (-55 / 20)) ** 2
_HEADROOM: Final = 64  # samples of the filter before the strongest reflection
_FIT_HEADROOM: Final = 32
_LIKELY: Final = 5.5  # of echo_delay's figure: worth a fit
_EXPLAINED: Final = 0.45  # share of the sound's energy that a fitted path may leave for the row to be locked
_REFITS: Final = (4, 8, 16, 32)  # windows of echo after the lock
_REFIT_GAIN: Final = 0.5
_REFIT_LEAK: Final = 0.1  # a filter that leaves so little needs no help
_SEEKS_PER_STEP: Final = 16  # each takes half a millisecond, and other rows are waiting
_MARGIN: Final = 4.0  # 6 dB: what is left of an echo may exceed what usually is left by so much
_LEAK_START: Final = 0.25
_LEAK_STEP: Final = 1.12  # 0.5 dB
_LEAK_QUANTILE: Final = 0.8
_LEAK_RANGE: Final = (10**-1.6, 10**-0.3)
_NOISE_START: Final = (32768 * 10 ** (-60 / 20)) ** 2
_LEAST_NOISE: Final = (32768 * 10 ** (-75 / 20)) ** 2
_NOISE_RISE: Final = 1.01
_NOISE_MARGIN: Final = 6.0
_NEAR_WINDOWS: Final = 3
_NEAR_WINDOWS_YOUNG: Final = 5
_YOUNG: Final = 16
_TAIL: Final = 0.5  # of the echo's energy still sounds one window later
_BOUND_WINDOWS: Final = 16

F4 = NDArray[np.float32]
Flags = NDArray[np.bool_]
Positions = NDArray[np.int64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of each window: it is only echo; an onset must still wait."""

    explained: Flags
    hold: Flags


class EchoGate:
    """What is known of the echo of each row."""

    def __init__(self, table: CallTable) -> None:
        rows = table.rows
        self._table = table
        self._filter = EchoFilter(rows)
        self._base = np.zeros(rows, np.int64)  # rx position minus tx position of the same moment, at 8 kHz
        self._sent_power = np.zeros((rows, HISTORY), np.float32)
        self._locked = np.zeros(rows, np.bool_)
        self._lag = np.zeros(rows, np.int64)
        self._windows = np.zeros(rows, np.int32)  # of echo since the lock
        self._leak = np.full(rows, _LEAK_START, np.float32)  # what is left, as a share of the echo's energy
        self._echo_power = np.zeros(rows, np.float32)
        self._left_power = np.zeros(rows, np.float32)
        self._held = np.zeros(rows, np.int32)
        self._bound = np.full(rows, np.inf, np.float32)  # received over sent power: no echo is louder
        self._louder = np.zeros(rows, np.float32)  # the greatest such ratio of the present stretch
        self._stretch = np.zeros(rows, np.int32)
        self._noise = np.full(rows, np.inf, np.float32)
        self._near = np.zeros(rows, np.int32)
        self._tail = np.zeros((rows, CONTEXT), np.float32)

    def reset(self, rows: Rows) -> None:
        """Another call begins in `rows`."""
        table = self._table
        self._base[rows] = self._narrow(rows, table.rx_head[rows] - table.tx_clock[rows])
        self._sent_power[rows] = 0
        self._locked[rows] = False
        self._held[rows] = 0
        self._noise[rows] = _NOISE_START
        self._near[rows] = 0
        self._bound[rows] = np.inf
        self._louder[rows] = 0
        self._stretch[rows] = 0
        table.echo_delay_samples[rows] = 0
        table.echo_coupling[rows] = 0

    def judge(self, rows: Rows, start: Positions, samples: F4, pending: Flags) -> Verdict:
        """Judge one window per row, and take the echo out of `samples` f4 [n, CONTEXT + WINDOW] in place.

        start: i8[n], position of the window in samples of the row's rate; pending: ?[n], rows on their way to an onset.
        """
        verdict = Verdict(np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_))
        start = self._narrow(rows, start)
        power = np.einsum("ns,ns->n", samples[:, CONTEXT:], samples[:, CONTEXT:]) / WINDOW
        sent = self._note_sent(rows, start)
        talking = np.flatnonzero(sent > _TALKING_POWER)
        if not talking.size:
            return verdict
        rows, start, power, sent, pending = (
            rows[talking],
            start[talking],
            power[talking],
            sent[talking],
            pending[talking],
        )
        unknown = ~self._locked[rows]
        possible = power <= _MARGIN * self._bound[rows] * sent  # the line could have returned as much
        self._note_bound(rows, power, sent)
        seeking = pending & possible
        now = seeking & (np.cumsum(seeking) <= _SEEKS_PER_STEP)  # the others wait, at no cost to their patience
        self._seek(rows[now], start[now])
        locked = self._locked[rows]
        at = talking[locked]
        verdict.explained[at] = self._cancel(rows[locked], start[locked], samples, at)
        waiting = unknown & ~locked & possible & pending
        self._held[rows] = np.where(pending, self._held[rows] + (waiting & now), 0)
        needed = np.where(self._windows[rows] < _YOUNG, _NEAR_WINDOWS_YOUNG, _NEAR_WINDOWS)
        doubtful = locked & (self._near[rows] < needed)
        verdict.hold[talking] = doubtful | (waiting & (self._held[rows] <= _HOLD_WINDOWS))
        return verdict

    def _narrow(self, rows: Rows, samples: Positions) -> Positions:
        """Samples of each row's rate as samples at 8 kHz."""
        result: Positions = samples // (self._table.rate_hz[rows] // windows.NETWORK_HZ)
        return result

    def _sent(self, rows: Rows, start: Positions, count: int) -> F4:
        """What was sent from `start` on (at 8 kHz, of the sent clock): f4 [n, count]."""
        return windows.narrowband(
            self._table.sent_pcm, rows, start, count, self._table.rate_hz[rows], self._table.tx_clock[rows]
        )

    def _received(self, rows: Rows, start: Positions, count: int) -> F4:
        return windows.narrowband(
            self._table.rx_pcm, rows, start, count, self._table.rate_hz[rows], self._table.rx_head[rows]
        )

    def _note_sent(self, rows: Rows, start: Positions) -> F4:
        """Power of the loudest window of the last HISTORY sent, f4[n]."""
        sent = self._sent(rows, start - self._base[rows], WINDOW)
        history = self._sent_power[rows]
        history[:, 1:] = history[:, :-1]
        history[:, 0] = np.einsum("ns,ns->n", sent, sent) / WINDOW
        self._sent_power[rows] = history
        loudest: F4 = history.max(axis=1)
        return loudest

    def _note_bound(self, rows: Rows, power: F4, sent: F4) -> None:
        """Half a second of talking during which little came back proves that little comes back."""
        steady = self._sent_power[rows].mean(axis=1)
        louder = np.maximum(self._louder[rows], power / np.maximum(steady, 1))
        stretch = np.where(steady > sent / 16, self._stretch[rows] + 1, 0)
        done = stretch >= _BOUND_WINDOWS
        self._bound[rows] = np.where(done, np.minimum(self._bound[rows], louder), self._bound[rows])
        self._louder[rows] = np.where(done | (stretch == 0), 0, louder)
        self._stretch[rows] = np.where(done, 0, stretch)

    def _seek(self, rows: Rows, start: Positions) -> None:
        """Lock those of `rows` whose sound is an echo; those locked already stay so unless another lag fits better."""
        if not rows.size:
            return
        begin = start + WINDOW - SEGMENT
        received = self._received(rows, begin, SEGMENT)
        sent = self._sent(rows, begin - self._base[rows] - LATE, SEGMENT + LATE + EARLY)
        lag, score = echo_delay.find(received, sent)
        lag += self._base[rows]
        moved = ~self._locked[rows] | (np.abs(lag - self._lag[rows]) > _FIT_HEADROOM)
        likely = (score >= _LIKELY) & moved
        self._fit(rows[likely], start[likely], lag[likely])

    def _fit(self, rows: Rows, start: Positions, lag: Positions, gain: float = 0.0) -> None:
        """Start the filters of those of `rows` for which a path at `lag` explains what was received last."""
        if not rows.size:
            return
        begin = start + WINDOW - SEGMENT
        received = self._received(rows, begin, SEGMENT)
        sent = self._sent(rows, begin - lag + _FIT_HEADROOM - echo_fit.TAPS + 1, SEGMENT + echo_fit.TAPS - 1)
        path, residual = echo_fit.fit(received, sent)
        left = np.einsum("ns,ns->n", residual, residual)
        whole = np.einsum("ns,ns->n", received, received)
        good = left < _EXPLAINED * whole
        if gain:
            good &= left < gain * self._leak[rows] * (whole - left)
        rows, lag, path = rows[good], lag[good], path[good]
        self._filter.start(rows, np.pad(path, ((0, 0), (_HEADROOM - _FIT_HEADROOM, 0))))
        self._lag[rows] = lag
        self._windows[rows] = np.where(self._locked[rows], self._windows[rows], 0)
        young = ~self._locked[rows]
        self._leak[rows[young]] = _LEAK_START
        self._locked[rows] = True
        self._table.echo_delay_samples[rows] = lag - self._base[rows]
        self._table.echo_coupling[rows] = np.sqrt(np.einsum("nt,nt->n", path, path))

    def _cancel(self, rows: Rows, start: Positions, samples: F4, at: Rows) -> Flags:
        """Take the echo out of `samples[at]`; which of them were nothing but echo, ?[n]."""
        if not rows.size:
            return np.zeros(0, np.bool_)
        self._windows[rows] += 1
        again = np.isin(self._windows[rows], _REFITS) & (self._leak[rows] > _REFIT_LEAK)
        again &= np.cumsum(again) <= _SEEKS_PER_STEP
        self._fit(rows[again], start[again], self._lag[rows[again]], _REFIT_GAIN)
        received = samples[at, CONTEXT:]
        sent = self._sent(rows, start - self._lag[rows] + _HEADROOM - REACH, REACH + BLOCK)
        echo = self._filter.cancel(rows, received, sent)
        left = received - echo
        echo_power = np.maximum(np.einsum("ns,ns->n", echo, echo) / WINDOW, _TAIL * self._echo_power[rows])
        left_power = np.einsum("ns,ns->n", left, left) / WINDOW
        whole_power = np.einsum("ns,ns->n", received, received) / WINDOW
        sounding = echo_power > _TALKING_POWER / 16
        leak = self._leak[rows]
        noise = self._noise[rows]
        noise = np.where(left_power < noise, np.maximum(left_power, _LEAST_NOISE), noise * _NOISE_RISE)
        self._noise[rows] = noise
        explained: Flags = left_power < np.maximum(_MARGIN * leak * echo_power, _NOISE_MARGIN * noise)
        self._near[rows] = np.where(explained, 0, self._near[rows] + 1)
        more = left_power > leak * echo_power
        step = np.where(more, _LEAK_STEP**_LEAK_QUANTILE, _LEAK_STEP ** (_LEAK_QUANTILE - 1))
        self._leak[rows] = np.clip(np.where(sounding, leak * step, leak), *_LEAK_RANGE)
        self._echo_power[rows] = echo_power
        better = left_power < whole_power
        samples[at[better], :CONTEXT] = self._tail[rows[better]]
        samples[at[better], CONTEXT:] = left[better]
        self._tail[rows] = samples[at, -CONTEXT:]
        return explained
