"""Packet loss concealment for many rows at once: pitch waveform repetition, after ITU-T G.711 Appendix I.

    good  │ erasure: repeat the last pitch period           │ good
    ──────┤────────────────────────────────────────────────┤──────
     history ─► forward, fades from 5 to 50 ms ─┐           ┌─ 5 ms cross-fade, when the frame behind the gap came late
                                                ├─ cross-fade over the whole gap
                                     backward ◄─┘ following: the frame behind the gap, when it is at hand already

Three things differ from the Appendix, each because it measured better (`python -m bench.quality`):
good audio is not delayed by 3.75 ms for an overlap, the join is smoothed by letting the vocal tract (an LPC filter)
ring out from where the line broke off; the period is found by comparing the last 4 ms only; and since a gap is usually
noticed by the arrival of a later packet, that packet is used, and the gap is bridged from both of its ends.
"""

import functools
from typing import Final

import numpy as np
from numpy import fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sipagent.codecs import comfort_noise, level

HISTORY_MS: Final = 40
SHORTEST_PITCH_MS: Final = 2.5  # 400 Hz
LONGEST_PITCH_MS: Final = 16.0  # 62 Hz
TEMPLATE_MS: Final = 4.0
FULL_LEVEL_MS: Final = 0.0  # of a one-sided concealment, before it begins to fade …
SILENT_AFTER_MS: Final = 50.0  # … and when it has faded
RECOVERY_MS: Final = 5.0
RINGING_MS: Final = 5.0
ORDER: Final = 12  # of the LPC filter
LPC_WINDOW_MS: Final = 30.0
LOUDEST_FLOOR_DBOV: Final = -50.0  # of noise that is made up
_LAG_WINDOW: Final = np.exp(-0.5 * (2 * np.pi * 0.005 * np.arange(ORDER + 1)) ** 2)  # 40 Hz at 8 kHz
_LAG_WINDOW[0] = 1.0001  # and a noise floor 40 dB down
_WIDENED: Final = (0.994 ** np.arange(ORDER + 1)).astype(np.float32)  # poles within this radius
_TOEPLITZ: Final = np.abs(np.arange(ORDER)[:, None] - np.arange(ORDER))
FLOOR_RISE: Final = 1.005  # per remembered frame: about 1 dB a second at 20 ms


class Concealment:
    """The state of `rows` rows at one rate, 8000 or 16000 Hz; every method takes the rows that it works on.

    `remember` is given each good frame in order, `conceal` is asked for what is missing in between.
    """

    def __init__(self, rows: int, rate_hz: int, seed: int = 0) -> None:
        self.rate_hz = rate_hz
        self._history = np.zeros((rows, self._samples(HISTORY_MS)), np.float32)  # what was heard last
        self._source = np.zeros_like(self._history)  # the history when the erasure began
        self._lag = np.ones(rows, np.intp)  # pitch period in samples
        self._ringing = np.zeros((rows, self._samples(RINGING_MS)), np.float32)
        self._erased = np.zeros(rows, np.int64)  # samples concealed since the last good frame
        self._joined = np.zeros(rows, bool)  # the concealment runs into the good frame that follows already
        self._floor = np.full(rows, np.inf, np.float32)  # mean square of the quietest frame
        self._random = np.random.default_rng(seed)

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Forget these rows, before they serve another call."""
        self._history[rows] = 0
        self._erased[rows] = 0
        self._joined[rows] = False
        self._floor[rows] = np.inf

    def noise_floor_dbov(self, rows: NDArray[np.intp], loudest_dbov: float = LOUDEST_FLOOR_DBOV) -> NDArray[np.float32]:
        """Level of the quietest frames of each row, f4[len(rows)] in dBov; -127 before the first good frame.

        Never above `loudest_dbov`: one who has spoken since the call began has not shown the floor yet.
        """
        floor = self._floor[rows]
        known = np.where(np.isfinite(floor), floor, np.float32(0))
        return np.minimum(level.from_mean_square(known), np.float32(loudest_dbov))

    def remember(self, rows: NDArray[np.intp], pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        """Good frames i2[len(rows), n] in; the same out, cross-faded from the concealment that went before, if any."""
        samples = pcm.shape[1]
        recovering = np.flatnonzero((self._erased[rows] > 0) & ~self._joined[rows])
        if len(recovering):
            pcm = pcm.copy()
            fade = min(samples, self._samples(RECOVERY_MS))
            back = rows[recovering]
            continued = self._extrapolate(back, fade) * self._gain(back, fade)
            weight = (np.arange(fade, dtype=np.float32) + 0.5) / fade
            good = pcm[recovering, :fade]
            pcm[recovering, :fade] = np.rint(good * weight + continued * (1 - weight))
        self._erased[rows] = 0
        self._joined[rows] = False
        power = level.mean_square(pcm)
        self._floor[rows] = np.minimum(self._floor[rows] * np.float32(FLOOR_RISE), power)
        self._append(rows, pcm.astype(np.float32))
        return pcm

    def conceal(
        self, rows: NDArray[np.intp], samples: int, following: NDArray[np.int16] | None = None
    ) -> NDArray[np.int16]:
        """The next `samples` samples of rows that have none: i2[len(rows), samples].

        `following` i2[len(rows), m] is the good audio right behind those samples, when it has come: the gap is then
        bridged from both sides and sounds far better, above all when a gap of several frames is asked for at once.
        """
        bridged = following is not None and following.shape[1] >= self._samples(SHORTEST_PITCH_MS + TEMPLATE_MS)
        begin = rows[self._erased[rows] == 0]
        self._source[begin] = self._history[begin]
        ahead = self._mirrored(following) if bridged and following is not None else self._history[:0]
        # Both ends of the gap are analysed in one batch: what costs is the number of calls, not of rows.
        ends = np.concatenate([self._history[begin], ahead])
        known = np.full(len(ends), self._history.shape[1])
        known[len(begin) :] = 0 if following is None else following.shape[1]
        lag, ringing = self._analyse(ends, known)
        self._lag[begin], self._ringing[begin] = lag[: len(begin)], ringing[: len(begin)]
        out = self._extrapolate(rows, samples)
        gain = self._gain(rows, samples)
        if bridged:
            start = np.zeros(len(rows), np.int64)
            back = repeat(ahead, lag[len(begin) :], ringing[len(begin) :], start, samples)[:, ::-1]
            weight = (np.arange(samples, dtype=np.float32) + 0.5) / samples
            np.add(out * gain * (1 - weight), back * weight, out=out)
            self._joined[rows] = True
        else:
            floor_dbov = self.noise_floor_dbov(rows)
            noise = comfort_noise.generate(floor_dbov, samples, self._random)
            np.add(out * gain, noise * np.sqrt(1 - gain * gain), out=out)
            self._joined[rows] = False
        self._erased[rows] += samples
        np.rint(out, out=out)
        np.clip(out, -32768, 32767, out=out)
        self._append(rows, out)
        return out.astype(np.int16)

    def _samples(self, milliseconds: float) -> int:
        return round(milliseconds * self.rate_hz / 1000)

    def _append(self, rows: NDArray[np.intp], pcm: NDArray[np.float32]) -> None:
        length = self._history.shape[1]
        if pcm.shape[1] >= length:
            self._history[rows] = pcm[:, -length:]
        else:
            self._history[rows] = np.concatenate([self._history[rows, pcm.shape[1] :], pcm], axis=1)

    def _mirrored(self, following: NDArray[np.int16]) -> NDArray[np.float32]:
        """What follows, played backwards, as a history: its last sample is the first behind the gap."""
        length = self._history.shape[1]
        mirrored = np.zeros((len(following), length), np.float32)
        count = min(length, following.shape[1])
        mirrored[:, length - count :] = following[:, count - 1 :: -1] if count else 0
        return mirrored

    def _analyse(
        self, past: NDArray[np.float32], known: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Pitch period i8[k] of the end of past f4[k, n], and how the filter rings on after it, f4[k, RINGING_MS].

        Only the last known i8[k] samples of each row are sound.
        """
        template = self._samples(TEMPLATE_MS)
        longest = np.minimum(self._samples(LONGEST_PITCH_MS), known - template)
        lag = pitch_period(past, self._samples(SHORTEST_PITCH_MS), longest, template)
        predictor = linear_predictor(past[:, -self._samples(LPC_WINDOW_MS) :])
        # The repeated period has a past of its own; what the filter does with the difference is added to it.
        before = past.shape[1] - lag[:, None] - ORDER + np.arange(ORDER)
        mismatch = past[:, -ORDER:] - np.take_along_axis(past, before, axis=1)
        return lag, ring_out(mismatch, predictor, self._ringing.shape[1])

    def _extrapolate(self, rows: NDArray[np.intp], samples: int) -> NDArray[np.float32]:
        return repeat(self._source[rows], self._lag[rows], self._ringing[rows], self._erased[rows], samples)

    def _gain(self, rows: NDArray[np.intp], samples: int) -> NDArray[np.float32]:
        index = self._erased[rows][:, None] + np.arange(samples)
        slope = 1000 / self.rate_hz / (SILENT_AFTER_MS - FULL_LEVEL_MS)
        gain = 1 + FULL_LEVEL_MS / (SILENT_AFTER_MS - FULL_LEVEL_MS) - index * slope
        clipped: NDArray[np.float32] = np.clip(gain, 0, 1).astype(np.float32)
        return clipped


def repeat(
    source: NDArray[np.float32],
    lag: NDArray[np.intp],
    ringing: NDArray[np.float32],
    start: NDArray[np.int64],
    samples: int,
) -> NDArray[np.float32]:
    """Samples [start, start + samples) of the last period of each source repeated for ever, plus the ringing.

    source f4[k, n], lag i8[k], ringing f4[k, m], start i8[k] -> f4[k, samples].
    """
    index = start[:, None] + np.arange(samples)
    out: NDArray[np.float32] = np.take_along_axis(source, source.shape[1] - lag[:, None] + index % lag[:, None], axis=1)
    rings = np.take_along_axis(ringing, np.minimum(index, ringing.shape[1] - 1), axis=1)
    out += np.where(index < ringing.shape[1], rings, np.float32(0))
    return out


def pitch_period(
    past: NDArray[np.float32], shortest: int, longest: NDArray[np.intp], template: int
) -> NDArray[np.intp]:
    """The lag, from `shortest` to longest i8[k] samples, at which the last `template` samples recur best.

    past f4[k, n] -> i8[k]. Normalised cross-correlation, so that a rising or falling level does not matter.
    """
    most = int(longest.max(initial=shortest))
    end = past[:, -template:]
    candidates = sliding_window_view(past[:, past.shape[1] - template - most :], template, axis=1)
    candidates = candidates[:, most - shortest :: -1]  # by rising lag
    correlation = np.einsum("rlt,rt->rl", candidates, end)
    energy = np.einsum("rlt,rlt->rl", candidates, candidates)
    likeness = correlation / np.sqrt(energy + 1)
    likeness[shortest + np.arange(likeness.shape[1]) > longest[:, None]] = -np.inf
    best: NDArray[np.intp] = np.argmax(likeness, axis=1)
    return best + shortest


def linear_predictor(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Prediction error filter A(z) of each row, f4[k, n] -> f4[k, ORDER + 1], stable, first coefficient 1.

    Autocorrelation method under a window that weighs the end most.
    """
    samples = pcm.shape[1]
    weighted = pcm * _end_window(samples)
    size = 1 << (samples + ORDER).bit_length()
    power = np.abs(fft.rfft(weighted, size)) ** 2
    correlation = fft.irfft(power, size)[:, : ORDER + 1].astype(np.float64) * _LAG_WINDOW
    correlation[:, 0] += 1  # no division by zero
    predictor = np.ones((len(pcm), ORDER + 1), np.float32)
    predictor[:, 1:] = -np.linalg.solve(correlation[:, _TOEPLITZ], correlation[:, 1:, None])[:, :, 0]
    return predictor * _WIDENED


@functools.cache
def _end_window(samples: int) -> NDArray[np.float32]:
    fall = samples // 6
    rise = np.sin(np.pi / 2 * (np.arange(samples - fall) + 0.5) / (samples - fall))
    return np.concatenate([rise, np.cos(0.9 * np.pi / 2 * (np.arange(fall) + 0.5) / fall)]).astype(np.float32)


def ring_out(past: NDArray[np.float32], predictor: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """How 1/A(z) goes on without input after its outputs past f4[k, ORDER]; f4[k, samples].

    The past is turned into the input that would have the same effect, and filtered by division of the spectra.
    """
    reach = 4 * ORDER
    response = fft.irfft(fft.rfft(past, reach) * fft.rfft(predictor, reach), reach)
    size = 512  # the filter has died away by then: its poles lie within 0.994
    spectrum = fft.rfft(-response[:, ORDER : 2 * ORDER], size) / fft.rfft(predictor, size)
    return fft.irfft(spectrum, size)[:, :samples].astype(np.float32)
