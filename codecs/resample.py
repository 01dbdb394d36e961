"""Sample-rate conversion: 8 ↔ 16 kHz as a stream for many rows at once, and whole clips between any rates.

The stream is one matrix product per packet for all rows. A polyphase FIR is a banded (Toeplitz) matrix; cut into blocks
of 16 samples at 8 kHz, the same small dense matrix serves every block of every row. With 24 taps per phase it holds
back 1.5 ms, is -0.7 dB at 3.4 kHz and below -74 dB beyond 4.6 kHz. `soxr.ResampleStream` holds back up to 115 ms at its
default quality and costs a call per row, so soxr serves whole clips only.
"""

from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

TAPS_PER_PHASE: Final = 24
_BLOCK: Final = 16  # samples at 8 kHz per matrix product
_BETA: Final = 7.0  # of the Kaiser window: 76 dB down in the stop band
_NARROW_HZ: Final = 8000
_WIDE_HZ: Final = 16000


def _prototype() -> NDArray[np.float64]:
    """The low-pass at 16 kHz that both directions use: 48 taps, -6 dB at 3.8 kHz, unity gain at 0 Hz."""
    length = 2 * TAPS_PER_PHASE
    centre = np.arange(length) - (length - 1) / 2
    taps: NDArray[np.float64] = np.sinc(2 * 3800 / _WIDE_HZ * centre) * np.kaiser(length, _BETA)
    taps /= taps.sum()
    return taps


def _block_matrix(taps: NDArray[np.float64], factor_in: int, factor_out: int) -> NDArray[np.float32]:
    """Matrix (history + inputs of a block, outputs of a block) of a filter that runs at 16 kHz."""
    inputs, outputs = _BLOCK * factor_in, _BLOCK * factor_out
    history = len(taps) // factor_out - 1
    matrix = np.zeros((history + inputs, outputs))
    for output in range(outputs):
        now = output * factor_in  # position on the 16 kHz grid of this output
        for index in range(history + inputs):
            delay = now - (index - history) * factor_out
            if 0 <= delay < len(taps):
                matrix[index, output] = taps[delay] * factor_out
    return matrix.astype(np.float32)


class Resampler:
    """A stream converter for `rows` rows, from 8000 to 16000 Hz or back; ValueError for other rates.

    The state is one array, `history` f4[rows, taps - 1], the last inputs of each row.
    """

    def __init__(self, rows: int, from_hz: int, to_hz: int) -> None:
        if {from_hz, to_hz} != {_NARROW_HZ, _WIDE_HZ}:
            raise ValueError(f"streams are converted between 8000 and 16000 Hz, not from {from_hz} to {to_hz}")
        self._factor_in = from_hz // _NARROW_HZ
        self._factor_out = to_hz // _NARROW_HZ
        self._block = _BLOCK * self._factor_in
        self._matrix = _block_matrix(_prototype(), self._factor_in, self._factor_out)
        self.history = np.zeros((rows, self._matrix.shape[0] - self._block), np.float32)
        self.delay_s = (2 * TAPS_PER_PHASE - 1) / 2 / _WIDE_HZ

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Forget what these rows have heard, before they serve another call."""
        self.history[rows] = 0

    def process(self, rows: NDArray[np.intp], pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        """The next samples of `rows`, i2[len(rows), n], at the other rate: i2[len(rows), n * to_hz / from_hz].

        16 kHz input must come in even numbers of samples; ValueError otherwise. All outputs come at once.
        """
        samples = pcm.shape[1]
        if samples % self._factor_in:
            raise ValueError(f"{samples} samples do not make a whole number at the lower rate")
        memory = self.history.shape[1]
        blocks = -(-samples // self._block)
        work = np.zeros((len(rows), memory + blocks * self._block), np.float32)
        work[:, :memory] = self.history[rows]
        work[:, memory : memory + samples] = pcm
        self.history[rows] = work[:, samples : samples + memory]
        windows = np.lib.stride_tricks.as_strided(
            work,
            (len(rows), blocks, memory + self._block),
            (work.strides[0], self._block * work.itemsize, work.itemsize),
            writeable=False,
        )
        # The reshape copies: BLAS wants rows that do not overlap.
        out = windows.reshape(-1, memory + self._block) @ self._matrix
        out = out.reshape(len(rows), -1)[:, : samples * self._factor_out // self._factor_in]
        np.rint(out, out=out)
        return np.clip(out, -32768, 32767).astype(np.int16)


def resample(pcm: NDArray[np.int16], from_hz: int, to_hz: int) -> NDArray[np.int16]:
    """A whole clip at another rate, i2[samples] -> i2[about samples * to_hz / from_hz]; not for streams."""
    if from_hz == to_hz or not len(pcm):
        return pcm
    out: NDArray[np.int16] = soxr.resample(pcm, from_hz, to_hz, quality="HQ")
    return out
