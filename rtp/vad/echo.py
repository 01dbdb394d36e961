"""The echo gate: the agent's own words that come back from the line are not the caller speaking.

    talking?   nothing was sent in the last 0.4 s           → nothing to do, nothing spent
    bounded?   the line never returned more than so much    → a louder sound is the caller, until a path explains it
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
from sipagent.rtp.vad.echo_filter import BLOCK, REACH, EchoFilter, is_absent
from sipagent.rtp.vad.silero import CONTEXT, WINDOW

HISTORY: Final = 12  # windows during which an echo of what was sent may still come: 384 ms

# Before the lock. Figures from trials with hybrids and speakerphones, 20 to 300 ms, 6 to 20 dB (bench.vad).
_HOLD_WINDOWS: Final = 8  # an onset that the row cannot judge yet waits no longer than 256 ms
_BOUND_WINDOWS: Final = 16  # of talking without a break after which the line's loudest return is believed
_CLOCK_SLACK: Final = 480  # samples by which the distance of the clocks may waver: packets come in bursts
_SEEKS_PER_STEP: Final = 16  # each takes half a millisecond, and other rows are waiting
_DOUBTS_PER_STEP: Final = 4  # … for those of callers who have been told of, or who are too loud for an echo
_LIKELY: Final = 5.5  # of echo_delay's figure: worth a fit
_CERTAIN: Final = 9.0  # … also of what is taken for the caller: two voices reach it in 2 of 100 looks …
_SOFTER: Final = 0.5  # … but a path between them does not lose 3 dB, as all echoes do
_EXPLAINED: Final = 0.45  # share of the sound's energy that a fitted path may leave for the row to be locked
_FIT_HEADROOM: Final = 32  # samples of the fit before the strongest reflection
_HEADROOM: Final = 64  # … and of the filter, for clocks that drift

# After it.
_REFITS: Final = (4, 8, 16, 32)  # windows after the lock at which a new fit is tried: the first saw little
_REFIT_LEAK: Final = 0.1  # a filter that leaves so little needs none
_REFIT_GAIN: Final = 0.5  # a new fit must leave half of what the filter leaves
_YOUNG: Final = 24  # windows for which a filter is not trusted much
_ABSENT_WINDOWS: Final = 625  # of an echo that does not come: after 20 s it is no muted line, the echo is gone
_NEAR_WINDOWS, _NEAR_WINDOWS_YOUNG = 3, 6  # in a row that are no echo, before an onset is told
_MARGIN: Final = 4.0  # 6 dB: what is left of an echo may exceed what usually is left by so much
_TAIL: Final = 0.6  # of the echo's energy still sounds one window later
_LEAK_START: Final = 0.25
_LEAK_RANGE: Final = (10**-1.6, 10**-0.3)
_LEAK_STEP: Final = 1.12  # 0.5 dB
_LEAK_QUANTILE: Final = 0.8  # "usually" is what four of five windows stay below
_NOISE_RISE: Final = 1.01  # per window: a floor that follows minima at once and rises by 1.3 dB a second
_NOISE_MARGIN: Final = 6.0  # 8 dB above the floor may still be noise


def _power(level_dbov: float) -> float:
    return float((32768 * 10 ** (level_dbov / 20)) ** 2)


_TALKING_POWER: Final = _power(-55)
_SOUNDING_POWER: Final = _power(-67)
_NOISE_START, _NOISE_LEAST, _NOISE_MOST = _power(-60), _power(-75), _power(-48)

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
        self._held = np.zeros(rows, np.int32)
        self._bound = np.full(rows, np.inf, np.float32)  # received over sent power: no echo is louder
        self._louder = np.zeros(rows, np.float32)  # the greatest such ratio of the present stretch
        self._stretch = np.zeros(rows, np.int32)
        self._noise = np.full(rows, np.inf, np.float32)
        self._near = np.zeros(rows, np.int32)
        self._absent = np.zeros(rows, np.int32)
        self._tail = np.zeros((rows, CONTEXT), np.float32)

    def reset(self, rows: Rows) -> None:
        """Another call begins in `rows`."""
        table = self._table
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

    def judge(self, rows: Rows, start: Positions, samples: F4, pending: Flags, speaking: Flags) -> Verdict:
        """Judge one window per row, and take the echo out of `samples` f4 [n, CONTEXT + WINDOW] in place.

        start: i8[n], position of the window in samples of the row's rate; pending: ?[n], rows on their way to an onset;
        speaking: ?[n], rows of which it has been told.
        """
        verdict = Verdict(np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_))
        start = self._narrow(rows, start)
        self._note_clocks(rows)
        power = np.einsum("ns,ns->n", samples[:, CONTEXT:], samples[:, CONTEXT:]) / WINDOW
        sent = self._note_sent(rows, start)
        self._near[rows[sent <= _TALKING_POWER]] = 0
        talking = np.flatnonzero(sent > _TALKING_POWER)
        if not talking.size:
            return verdict
        rows, start, pending, speaking = rows[talking], start[talking], pending[talking], speaking[talking]
        power, sent = power[talking], sent[talking]
        unknown = ~self._locked[rows]
        possible = power <= _MARGIN * self._bound[rows] * sent  # the line could have returned as much
        self._note_bound(rows, power, sent)
        seeking = pending & possible
        now = seeking & (np.cumsum(seeking) <= _SEEKS_PER_STEP)  # the others wait, at no cost to their patience
        # A line may begin to return more than it ever did: its far end was muted, or lays the handset down. What has
        # been told of as speech then may be found to be echo yet; nobody waits for that.
        doubtful = (pending | speaking) & ~seeking
        again = doubtful & (np.cumsum(doubtful) <= _DOUBTS_PER_STEP)
        look = now | again
        self._seek(rows[look], start[look], again[look])
        locked = self._locked[rows]
        at = talking[locked]
        verdict.explained[at] = self._cancel(rows[locked], start[locked], samples, at)
        waiting = unknown & ~locked & possible & pending
        self._held[rows] = np.where(pending, self._held[rows] + (waiting & now), 0)
        needed = np.where(self._windows[rows] < _YOUNG, _NEAR_WINDOWS_YOUNG, _NEAR_WINDOWS)
        too_soon = locked & (self._near[rows] < needed)
        verdict.hold[talking] = too_soon | (waiting & (self._held[rows] <= _HOLD_WINDOWS))
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

    def _note_clocks(self, rows: Rows) -> None:
        """The distance between the clocks: they start at different times, and either may stand still for a while."""
        distance = self._narrow(rows, self._table.rx_head[rows] - self._table.tx_clock[rows])
        base = self._base[rows]
        self._base[rows] = np.where(np.abs(distance - base) > _CLOCK_SLACK, distance, base)

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

    def _seek(self, rows: Rows, start: Positions, taken: Flags) -> None:
        """Lock those of `rows` whose sound is an echo; those locked already stay so unless another lag fits better.

        taken: ?[n], whose sound is taken for the caller's, so that more is asked of an echo.
        """
        if not rows.size:
            return
        begin = start + WINDOW - SEGMENT
        received = self._received(rows, begin, SEGMENT)
        sent = self._sent(rows, begin - self._base[rows] - LATE, SEGMENT + LATE + EARLY)
        lag, score = echo_delay.find(received, sent)
        lag += self._base[rows]
        moved = ~self._locked[rows] | (np.abs(lag - self._lag[rows]) > _FIT_HEADROOM)
        likely = (score >= np.where(taken, _CERTAIN, _LIKELY)) & moved
        self._fit(rows[likely], start[likely], lag[likely], np.where(taken[likely], _SOFTER, np.inf))

    def _fit(
        self, rows: Rows, start: Positions, lag: Positions, loudest: NDArray[np.float64] | float, gain: float = 0.0
    ) -> None:
        """Start the filters of those of `rows` for which a path at `lag` explains what was received last.

        loudest: share of the energy sent that a path may return.
        """
        if not rows.size:
            return
        begin = start + WINDOW - SEGMENT
        received = self._received(rows, begin, SEGMENT)
        sent = self._sent(rows, begin - lag + _FIT_HEADROOM - echo_fit.TAPS + 1, SEGMENT + echo_fit.TAPS - 1)
        path, residual = echo_fit.fit(received, sent)
        left = np.einsum("ns,ns->n", residual, residual)
        whole = np.einsum("ns,ns->n", received, received)
        coupling = np.einsum("nt,nt->n", path, path)
        good = (left < _EXPLAINED * whole) & (coupling < loudest)
        if gain:
            good &= left < gain * self._leak[rows] * (whole - left)
        rows, lag, path, coupling = rows[good], lag[good], path[good], coupling[good]
        self._filter.start(rows, np.pad(path, ((0, 0), (_HEADROOM - _FIT_HEADROOM, 0))))
        self._lag[rows] = lag
        new = rows[~self._locked[rows]] if gain else rows  # another lag is another path
        self._windows[new] = 0
        self._absent[new] = 0
        self._bound[new] = np.inf
        self._leak[new] = _LEAK_START
        self._echo_power[new] = 0
        self._tail[new] = 0
        self._locked[new] = True
        self._table.echo_delay_samples[rows] = lag - self._base[rows]
        self._table.echo_coupling[rows] = np.sqrt(coupling)

    def _cancel(self, rows: Rows, start: Positions, samples: F4, at: Rows) -> Flags:
        """Take the echo out of `samples[at]`; which of them were nothing but echo, ?[n]."""
        if not rows.size:
            return np.zeros(0, np.bool_)
        self._windows[rows] += 1
        again = np.isin(self._windows[rows], _REFITS) & (self._leak[rows] > _REFIT_LEAK)
        again &= np.cumsum(again) <= _SEEKS_PER_STEP
        self._fit(rows[again], start[again], self._lag[rows[again]], np.inf, _REFIT_GAIN)
        received = samples[at, CONTEXT:]
        sent = self._sent(rows, start - self._lag[rows] + _HEADROOM - REACH, REACH + BLOCK)
        echo = self._filter.cancel(rows, received, sent)
        absent = is_absent(received, echo)
        self._miss(rows, echo, absent)
        left = received - echo
        better = np.einsum("ns,ns->n", left, left) < np.einsum("ns,ns->n", received, received)
        left[~better] = received[~better]  # a filter that has gone astray only adds to the sound
        explained = self._is_echo(rows, echo, left, absent)
        samples[at[better], :CONTEXT] = self._tail[rows[better]]
        samples[at[better], CONTEXT:] = left[better]
        self._tail[rows] = samples[at, -CONTEXT:]
        return explained

    def _miss(self, rows: Rows, echo: F4, absent: Flags) -> None:
        """Note whose echo is absent; a row that has missed it for long is locked no longer."""
        expected = np.einsum("ns,ns->n", echo, echo) / WINDOW > _SOUNDING_POWER
        absence = np.where(absent, self._absent[rows] + expected, np.where(expected, 0, self._absent[rows]))
        self._absent[rows] = absence
        self._locked[rows[absence > _ABSENT_WINDOWS]] = False

    def _is_echo(self, rows: Rows, echo: F4, left: F4, absent: Flags) -> Flags:
        """Whether what is `left` f4 [n, BLOCK] is no more than such an `echo`, and the line's noise, usually leave."""
        echo_power = np.maximum(np.einsum("ns,ns->n", echo, echo) / WINDOW, _TAIL * self._echo_power[rows])
        self._echo_power[rows] = echo_power
        left_power = np.einsum("ns,ns->n", left, left) / WINDOW
        risen = np.minimum(self._noise[rows] * _NOISE_RISE, _NOISE_MOST)
        noise = np.where(left_power < risen, np.maximum(left_power, _NOISE_LEAST), risen)
        self._noise[rows] = np.where(absent, self._noise[rows], noise)
        leak = self._leak[rows]
        explained: Flags = left_power < np.maximum(_MARGIN * leak * echo_power, _NOISE_MARGIN * noise)
        self._near[rows] = np.where(explained, 0, self._near[rows] + 1)
        step = np.where(left_power > leak * echo_power, _LEAK_STEP**_LEAK_QUANTILE, _LEAK_STEP ** (_LEAK_QUANTILE - 1))
        step = np.where((echo_power > _SOUNDING_POWER) & ~absent, step, 1)
        self._leak[rows] = np.clip(leak * step, *_LEAK_RANGE)
        return explained
