"""The echo path of each row as an adaptive filter, and what it makes of what was sent.

A partitioned-block frequency-domain Kalman filter (Enzner and Vary, "Frequency-domain adaptive Kalman filter for
acoustic echo control in hands-free telephones", Signal Processing 86, 2006). Its gain falls by itself when somebody
else talks as well, so that it needs no double-talk detector.

    sent      |--------|--------|--------|--------|   PARTITIONS + 1 blocks of BLOCK samples, aligned by the lag
    received                             |--------|   the block in which the echo of all of them may be heard
"""

from typing import Final

import numpy as np
from numpy import fft
from numpy.typing import NDArray

BLOCK: Final = 256  # one window of the network
PARTITIONS: Final = 3  # 96 ms of echo path
REACH: Final = PARTITIONS * BLOCK  # sent samples before the block
_BINS: Final = BLOCK + 1
_FORGETTING: Final = np.float32(0.999**2)  # A² of the state equation: paths change within seconds
_UNCERTAINTY: Final = np.array([0.02, 0.01, 0.005], np.float32)[:, None]  # power gain per bin, by partition
_SMOOTHING: Final = np.float32(0.8)  # of the power of what is not echo
_SCALE: Final = np.float32(1 / 32768)
_LEAST_POWER: Final = np.float32(1e-6)
_ABSENT: Final = np.float32(0.03)  # 15 dB below the echo that is expected: the far end has muted itself

F4 = NDArray[np.float32]
Rows = NDArray[np.intp]


class EchoFilter:
    """Path and its uncertainty for each row."""

    def __init__(self, rows: int) -> None:
        self._path = np.zeros((rows, PARTITIONS, _BINS), np.complex64)
        self._uncertainty = np.zeros((rows, PARTITIONS, _BINS), np.float32)
        self._other = np.zeros((rows, _BINS), np.float32)  # power of what is not echo

    def start(self, rows: Rows, path: F4) -> None:
        """Begin with the impulse responses `path` f4 [n, at most BLOCK]."""
        self._path[rows] = 0
        self._path[rows, 0] = fft.rfft(path, 2 * BLOCK)
        self._uncertainty[rows] = _UNCERTAINTY
        self._other[rows] = 0

    def cancel(self, rows: Rows, received: F4, sent: F4) -> F4:
        """The echo in `received` f4 [n, BLOCK], given `sent` f4 [n, REACH + BLOCK]: f4 [n, BLOCK].

        Learns from it, unless the echo is absent: that tells nothing of the path by which it will come back.
        """
        blocks = np.lib.stride_tricks.as_strided(
            sent,
            (len(sent), PARTITIONS, 2 * BLOCK),
            (sent.strides[0], BLOCK * sent.strides[1], sent.strides[1]),
            writeable=False,
        )[:, ::-1]  # newest first: partition p is delayed by p blocks
        spectrum = _spectrum(blocks * _SCALE)
        path = self._path[rows]
        echo: F4 = _samples((path * spectrum).sum(axis=1))[:, BLOCK:] / _SCALE
        error = np.zeros((len(rows), 2 * BLOCK), np.float32)
        np.subtract(received, echo, out=error[:, BLOCK:])
        there = np.flatnonzero(~is_absent(received, echo))
        self._learn(rows[there], path[there], spectrum[there], _spectrum(error[there] * _SCALE))
        return echo

    def _learn(
        self, rows: Rows, path: NDArray[np.complex64], spectrum: NDArray[np.complex64], error: NDArray[np.complex64]
    ) -> None:
        uncertainty = self._uncertainty[rows]
        power = spectrum.real**2 + spectrum.imag**2
        now = error.real**2 + error.imag**2
        other = np.maximum(now, now + _SMOOTHING * (self._other[rows] - now))
        gain = uncertainty / ((uncertainty * power).sum(axis=1) + other + _LEAST_POWER)[:, None]
        uncertainty *= 1 - np.minimum(np.float32(0.5) * gain * power, 1)
        spectrum = spectrum.conj()
        spectrum *= gain
        spectrum *= error[:, None]
        impulse = _samples(path + spectrum)
        impulse[..., BLOCK:] = 0  # a path is causal and no longer than its partition
        path = _spectrum(impulse)
        uncertainty += (1 - _FORGETTING) * (path.real**2 + path.imag**2)
        self._path[rows], self._uncertainty[rows], self._other[rows] = path, uncertainty, other


def is_absent(received: F4, echo: F4) -> NDArray[np.bool_]:
    """Whether far less is `received` f4 [n, BLOCK] than the `echo` f4 [n, BLOCK] that was expected, ?[n]."""
    absent: NDArray[np.bool_] = np.einsum("ns,ns->n", received, received) < _ABSENT * np.einsum("ns,ns->n", echo, echo)
    return absent


def _spectrum(samples: F4) -> NDArray[np.complex64]:
    return fft.rfft(samples).astype(np.complex64, copy=False)


def _samples(spectrum: NDArray[np.complex64]) -> F4:
    return fft.irfft(spectrum).astype(np.float32, copy=False)
