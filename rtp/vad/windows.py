"""Windows of received sound at 8 kHz, whatever the rate of the row."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.vad.silero import CONTEXT, WINDOW

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
    index = (start[:, None] + np.arange(-before, count)) & (ring.shape[1] - 1)
    result: NDArray[np.int16] = ring[rows[:, None], index]
    return result


def network_windows(
    ring: NDArray[np.int16], rows: Rows, start: NDArray[np.int64], rate_hz: NDArray[np.int32]
) -> NDArray[np.float32]:
    """The window of each row that begins at `start` i8[n], with its context, at 8 kHz: f4 [n, CONTEXT + WINDOW].

    A row at 16 kHz is low-passed (31 taps, 1 ms of delay) and every second sample taken.
    """
    out = np.empty((len(rows), CONTEXT + WINDOW), np.float32)
    wide = rate_hz == 2 * NETWORK_HZ
    narrow_rows = ~wide
    out[narrow_rows] = gather(ring, rows[narrow_rows], start[narrow_rows], CONTEXT, WINDOW)
    if wide.any():
        pcm = gather(ring, rows[wide], start[wide], 2 * CONTEXT + 2 * _DELAY, 2 * WINDOW).astype(np.float32)
        taps = np.lib.stride_tricks.as_strided(
            pcm,
            (len(pcm), CONTEXT + WINDOW, len(_DECIMATOR)),
            (pcm.strides[0], 2 * pcm.strides[1], pcm.strides[1]),
            writeable=False,
        )
        out[wide] = taps @ _DECIMATOR
    return out
