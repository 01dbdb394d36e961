"""In-band DTMF (ITU-T Q.23, Q.24) found in the audio of many rows at once.

Audio is cut into windows of 12.75 ms, one every 5 ms. Each window is correlated with the eight frequencies (what
Goertzel's recursion computes for one row, done for all rows by one matrix product) and is a hit when two tones, one of
each group, make up nearly all of it. A digit is a run of hits of the same digit:

    tone         ┌──────────── 40 ms or more ────────────┐
    windows    ├────┤ ├────┤ ├────┤ ├────┤ ├────┤                H H H H H H H . . . . . .   5 hits make a digit,
                 ├────┤ ├────┤ ├────┤ ├────┤                       6 misses in a row end it and report it

The limits (levels, twist, frequencies, durations) are those of Bellcore GR-506 and ITU-T Q.24. The frequency of a tone
is measured by its phase from one window to the next, far finer than a window could resolve by itself: that, the
purity, and the steady level keep speech from being taken for digits.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sipagent.codecs.level import DBM0_TO_DBOV
from sipagent.codecs.tones import DTMF_DIGITS, DTMF_HIGH_HZ, DTMF_LOW_HZ

WINDOW_S: Final = 102 / 8000  # the first zero of a window falls close to the neighbour in the low group
HOP_S: Final = 0.005  # divides every packet time, so that all rows stand at the same place in it
HITS: Final = 5  # windows: a tone of 40 ms makes at least 6, one of 23 ms at most 4
MISSES: Final = 6  # windows: an interruption of 10 ms makes at most 4, a pause of 40 ms at least 8
LOWEST_DBM0: Final = -34.0  # per tone; -25 must be heard, -55 must not
FORWARD_TWIST_DB: Final = 6.0  # high above low; 4 must be accepted, and an off-centre low tone measures 1 dB less
REVERSE_TWIST_DB: Final = 10.0  # low above high; 8 must be accepted
PURITY: Final = 0.66  # share of the window's energy in the two tones; 0.75 at the edge of the frequency tolerance
SELECTIVITY_DB: Final = 6.0  # of a tone above the others of its group
HARMONIC_DB: Final = -12.0  # the second harmonic of either tone must be this far below it: voices have one
OFFSET: Final = 0.025  # relative; 0.015 must be accepted, 0.035 must not
STEADY_DB: Final = 4.0  # a hit weaker than the run's strongest by more is a miss

_FREQUENCIES_HZ: Final = np.array(DTMF_LOW_HZ + DTMF_HIGH_HZ, np.float64)
_DIGITS: Final = "".join(DTMF_DIGITS)
_NONE: Final = -1


class DigitHeard(NamedTuple):
    """One digit that has ended; `begin` and `end` are samples from the first one of the packet that told of it."""

    row: int
    digit: str
    begin: int
    end: int


class DtmfDetector:
    """The state of `rows` rows at one rate, 8000 or 16000 Hz: what is left of the last packet, and the run of hits."""

    def __init__(self, rows: int, rate_hz: int = 8000) -> None:
        self.rate_hz = rate_hz
        self._window = round(WINDOW_S * rate_hz)
        self._hop = round(HOP_S * rate_hz)
        angle = 2 * np.pi * _FREQUENCIES_HZ / rate_hz * np.arange(self._window)[:, None]
        self._kernel = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1).astype(np.float32)
        self._harmonics = np.concatenate([np.cos(2 * angle), -np.sin(2 * angle)], axis=1).astype(np.float32)
        self._turn = np.exp(-2j * np.pi * _FREQUENCIES_HZ / rate_hz * self._hop)  # phase from one window to the next
        # Mean square of a 16-bit sine of that level, times the window: energy.
        self._least = np.float32(32768.0**2 * 10 ** ((LOWEST_DBM0 + DBM0_TO_DBOV) / 10) * self._window)

        self._carry = np.zeros((rows, self._window), np.float32)  # the end of the last packet, right-aligned …
        self._carried = np.zeros(rows, np.int64)  # … of which so many samples still belong to a window
        self._digit = np.full(rows, _NONE, np.int8)  # of the run
        self._hits = np.zeros(rows, np.int16)
        self._misses = np.zeros(rows, np.int16)
        self._begin = np.zeros(rows, np.int64)  # samples from the next packet's first one, so never positive …
        self._end = np.zeros(rows, np.int64)  # … in between the calls
        self._strongest = np.zeros(rows, np.float32)
        self._phasor = np.zeros((rows, 2), np.complex64)  # low and high tone in the window before, if it …
        self._comparable = np.zeros(rows, bool)  # … was one of the run

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Forget these rows, before they serve another call."""
        self._carried[rows] = 0
        self._digit[rows] = _NONE
        self._hits[rows] = 0
        self._misses[rows] = 0

    def detect(self, rows: NDArray[np.intp], pcm: NDArray[np.int16]) -> list[DigitHeard]:
        """The digits that end within the next samples of `rows`, pcm i2[len(rows), n] of any n, oldest first."""
        samples = pcm.shape[1]
        work = np.concatenate([self._carry[rows], pcm.astype(np.float32)], axis=1)
        carried = self._carried[rows]
        heard: list[DigitHeard] = []
        for length in np.unique(carried):  # mostly one, see HOP_S
            group = np.flatnonzero(carried == length)
            first = self._window - int(length)  # where the next window begins in `work`
            if work.shape[1] - first < self._window:
                self._carried[rows[group]] += samples
                continue
            audio = work if len(group) == len(rows) else work[group]
            windows = sliding_window_view(audio[:, first:], self._window, axis=1)[:, :: self._hop]
            digit, energy, phasor = self._classify(windows)
            found = (digit != _NONE).any(axis=0)
            for number in range(len(found)):
                if not found[number] and (self._digit[rows[group]] == _NONE).all():
                    continue
                start = first + number * self._hop - self._window
                heard += self._advance(rows[group], start, digit[:, number], energy[:, number], phasor[:, number])
            self._carried[rows[group]] = audio.shape[1] - first - windows.shape[1] * self._hop
        self._carry[rows] = work[:, -self._window :]
        self._begin[rows] -= samples
        self._end[rows] -= samples
        return heard

    def _advance(
        self,
        rows: NDArray[np.intp],
        start: int,
        digit: NDArray[np.int8],
        energy: NDArray[np.float32],
        phasor: NDArray[np.complex64],
    ) -> list[DigitHeard]:
        """One window per row, classified, which begins `start` samples into the packet (before it: negative)."""
        running = self._digit[rows]
        same = (digit != _NONE) & (digit == running)
        # The tones must have gone on at their frequency and level; the first window of a digit starts a run.
        tone = np.stack([running // 4, 4 + running % 4], axis=1)
        turned = phasor * np.conj(self._phasor[rows]) * self._turn[tone]
        offset = np.angle(turned) * self.rate_hz / (2 * np.pi * self._hop) / _FREQUENCIES_HZ[tone]
        steady = energy > self._strongest[rows] * np.float32(10 ** (-STEADY_DB / 10))
        # After an interruption the phase says nothing: the first window only serves to compare the next one with.
        resumed = same & steady & ~self._comparable[rows]
        hit = same & steady & self._comparable[rows] & (np.abs(offset).max(axis=1) <= OFFSET)
        miss = ~hit & ~resumed & (running != _NONE)
        self._comparable[rows] = hit | resumed
        self._phasor[rows[resumed]] = phasor[resumed]

        gone_on = rows[hit]
        self._hits[gone_on] += 1
        self._misses[gone_on] = 0
        self._end[gone_on] = start + self._window
        self._strongest[gone_on] = np.maximum(self._strongest[gone_on], energy[hit])
        self._phasor[gone_on] = phasor[hit]
        self._misses[rows[miss]] += 1

        ended = miss & (self._misses[rows] >= MISSES)
        # A run too short to be a digit gives way to another tone at once.
        ended |= miss & (self._hits[rows] < HITS) & (digit != _NONE)
        heard = [
            DigitHeard(int(row), _DIGITS[self._digit[row]], int(self._begin[row]), int(self._end[row]))
            for row in rows[ended & (self._hits[rows] >= HITS)]
        ]
        self._digit[rows[ended]] = _NONE

        begins = (digit != _NONE) & (self._digit[rows] == _NONE)
        fresh = rows[begins]
        self._digit[fresh] = digit[begins]
        self._hits[fresh] = 1
        self._misses[fresh] = 0
        self._comparable[fresh] = True
        self._begin[fresh] = start
        self._end[fresh] = start + self._window
        self._strongest[fresh] = energy[begins]
        self._phasor[fresh] = phasor[begins]
        return heard

    def _classify(
        self, windows: NDArray[np.float32]
    ) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.complex64]]:
        """Digit i1[k, m] (-1 = none), energy f4[k, m] and both phasors c8[k, m, 2] of windows f4[k, m, window]."""
        shape = windows.shape[:2]
        energy: NDArray[np.float32] = np.einsum("kmw,kmw->km", windows, windows)
        digit = np.full(shape[0] * shape[1], _NONE, np.int8)
        phasor = np.zeros((len(digit), 2), np.complex64)
        loud = np.flatnonzero(energy.reshape(-1) >= 2 * self._least * np.float32(PURITY))
        if len(loud):
            audio = windows[loud // shape[1], loud % shape[1]]
            self._find_digits(audio, energy.reshape(-1)[loud], loud, digit, phasor)
        return digit.reshape(shape), energy, phasor.reshape(*shape, 2)

    def _find_digits(
        self,
        audio: NDArray[np.float32],
        energy: NDArray[np.float32],
        places: NDArray[np.intp],
        digit: NDArray[np.int8],
        phasor: NDArray[np.complex64],
    ) -> None:
        """Write the digits of the windows audio f4[k, window] to their `places` in `digit` and `phasor`."""
        both = audio @ self._kernel
        spectrum = both[:, :8] + 1j * both[:, 8:]
        power = (spectrum.real**2 + spectrum.imag**2) * np.float32(2 / self._window)  # a sine's power is its energy
        index = np.arange(len(audio))
        low, high = power[:, :4].argmax(axis=1), 4 + power[:, 4:].argmax(axis=1)
        low_power, high_power = power[index, low], power[index, high]
        pure = low_power + high_power >= PURITY * energy
        audible = np.minimum(low_power, high_power) >= self._least
        twist = (high_power <= low_power * 10 ** (FORWARD_TWIST_DB / 10)) & (
            low_power <= high_power * 10 ** (REVERSE_TWIST_DB / 10)
        )
        good = np.flatnonzero(pure & audible & twist)
        if not len(good):
            return
        low, high, index = low[good], high[good], index[: len(good)]
        low_power, high_power, power = low_power[good], high_power[good], power[good]
        power[index, low] = 0
        power[index, high] = 0
        selective = np.float32(10 ** (-SELECTIVITY_DB / 10))
        alone = (power[:, :4].max(axis=1) < selective * low_power) & (power[:, 4:].max(axis=1) < selective * high_power)
        both = audio[good] @ self._harmonics
        overtones = (both[:, :8] ** 2 + both[:, 8:] ** 2) * np.float32(2 / self._window)
        limit = np.float32(10 ** (HARMONIC_DB / 10))
        # The overtone of 697 lies near 1477, that of 770 near 1477, …: only what is not a tone of the digit counts.
        clean = (overtones[index, high] < limit * high_power) & (
            (overtones[index, low] < limit * low_power) | (_harmonic_is_tone(low, high))
        )
        keep = alone & clean
        found = good[keep]
        digit[places[found]] = (4 * low + high - 4)[keep]
        phasor[places[found]] = spectrum[found[:, None], np.stack([low, high], axis=1)[keep]]


def _harmonic_is_tone(low: NDArray[np.intp], high: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Whether twice the low frequency lies within 120 Hz of the high one, so that it cannot be told from it."""
    return np.abs(2 * _FREQUENCIES_HZ[low] - _FREQUENCIES_HZ[high]) < 120
