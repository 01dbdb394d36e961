"""Windows of received sound at 8 kHz, whatever the rate of the row."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

NETWORK_HZ: Final = 8000

Rows = NDArray[np.intp]


def _half_band(taps: int) -> NDArray[np.float32]:
    """A low-pass at a quarter of the sample rate (windowed sinc, Hamming), gain 1, f4[taps]."""
    n = np.arange(taps) - (taps - 1) / 2
    h = np.sinc(n / 2) * np.hamming(taps)
    return np.asarray(h / h.sum(), np.float32)


_DECIMATOR: Final = _half_band(31)
_DELAY: Final = len(_DECIMATOR) // 2


def gather(ring: NDArray[np.int16], rows: Rows, start: NDArray[np.int64], before: int, count: int) -> NDArray[np.int16]:
    """Samples [start - before, start + count) of `rows` out of `ring` i2[all rows, 2^k]; i2 [n, before + count]."""
    size = ring.shape[1]
    index = (start[:, None] + np.arange(-before, count)) & (size - 1)
    index += (rows * size)[:, None]
    result: NDArray[np.int16] = ring.reshape(-1).take(index)
    return result


def narrowband(
    ring: NDArray[np.int16],
    rows: Rows,
    start: NDArray[np.int64],
    count: int,
    rate_hz: NDArray[np.int32],
    head: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Samples [start, start + count) of each row, counted and given at 8 kHz: f4 [n, count].

    `rate_hz` i4[n] is the rate of the ring, `head` i8[n] its write position; what the ring does not hold is zero.
    A row at 16 kHz is low-passed (31 taps, linear phase) and every second sample taken.
    """
    wide = rate_hz == 2 * NETWORK_HZ
    if not wide.any():
        return _held(ring, rows, start, count, head)
    out = np.empty((len(rows), count), np.float32)
    narrow = np.flatnonzero(~wide)
    if narrow.size:
        out[narrow] = _held(ring, rows[narrow], start[narrow], count, head[narrow])
    pcm = _held(ring, rows[wide], 2 * start[wide] - 2 * _DELAY, 2 * count + 2 * _DELAY, head[wide])
    taps = np.lib.stride_tricks.as_strided(
        pcm, (len(pcm), count, len(_DECIMATOR)), (pcm.strides[0], 2 * pcm.strides[1], pcm.strides[1]), writeable=False
    )
    out[wide] = taps @ _DECIMATOR
    return out


def _held(
    ring: NDArray[np.int16], rows: Rows, start: NDArray[np.int64], count: int, head: NDArray[np.int64]
) -> NDArray[np.float32]:
    pcm = gather(ring, rows, start, 0, count).astype(np.float32)
    oldest = np.maximum(head - ring.shape[1], 0)
    short = np.flatnonzero((start < oldest) | (start + count > head))
    if short.size:
        position = start[short, None] + np.arange(count)
        missing = (position < oldest[short, None]) | (position >= head[short, None])
        pcm[short] = np.where(missing, 0, pcm[short])
    return pcm
