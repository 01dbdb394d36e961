"""Log-mel features as Whisper defines them: 16 kHz, window 25 ms, hop 10 ms, 80 Slaney mel bands up to 8 kHz."""

from functools import cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RATE_HZ: Final = 16000
WINDOW: Final = 400
HOP: Final = 160
BANDS: Final = 80


def log_mel(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features f32[80, n // 160] of `wave`, f32[n] at 16 kHz with values in -1..1."""
    padded = np.pad(wave, WINDOW // 2, mode="reflect")
    frames = sliding_window_view(padded, WINDOW)[: len(wave) // HOP * HOP : HOP]
    spectrum = np.fft.rfft(frames * _hann(), axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    bands = np.log10(np.maximum(power @ _mel_filters(), 1e-10)).T
    floored = np.maximum(bands, bands.max() - 8.0)
    return np.ascontiguousarray((floored + 4.0) / 4.0, np.float32)


@cache
def _hann() -> NDArray[np.float32]:
    periodic: NDArray[np.float32] = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
    return periodic


@cache
def _mel_filters() -> NDArray[np.float32]:
    """Triangles of equal area, f32[201 bins, 80 bands]: linear below 1 kHz (200/3 Hz a mel), logarithmic above."""
    mels = np.linspace(0.0, 15.0 + np.log(8.0) / (np.log(6.4) / 27.0), BANDS + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp((mels - 15.0) * np.log(6.4) / 27.0))
    bins = np.linspace(0.0, RATE_HZ / 2, WINDOW // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (edges[2:] - edges[:-2])
    return triangles.astype(np.float32)
