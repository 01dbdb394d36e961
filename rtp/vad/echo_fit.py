"""The first guess of an echo path: least squares over a quarter of a second, which no adaptive filter learns from."""

from typing import Final

import numpy as np
from numpy import fft, linalg
from numpy.typing import NDArray

from sipagent.rtp.vad.echo_delay import SEGMENT

TAPS: Final = 160  # 20 ms: a hybrid's dispersion, or the direct sound of a loudspeaker and its first reflections
_SIZE: Final = 2250  # of the transforms: 2 · 3² · 5³, at least TAPS - 1 + SEGMENT
_LOADING: Final = 1e-3  # of the mean power, added to the diagonal: bands in which nothing was sent stay at zero
_NOISE: Final = (32768 * 10 ** (-65 / 20)) ** 2

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]


def fit(received: F4, sent: F4) -> tuple[F4, F4]:
    """The path f4 [n, TAPS] that explains most, and the residual f4 [n, SEGMENT] that it leaves.

    received: f4 [n, SEGMENT]; sent: f4 [n, TAPS - 1 + SEGMENT], aligned so that its end meets the end of `received`
    through tap 0.
    """
    wide = sent.astype(np.float64)
    spectrum = fft.rfft(wide, _SIZE)
    gram = _gram(wide, _correlation(wide[:, TAPS - 1 :], spectrum))
    diagonal = np.einsum("ntt->nt", gram)
    diagonal += _LOADING * diagonal.mean(axis=1, keepdims=True) + _NOISE * SEGMENT / 16
    path = linalg.solve(gram, _correlation(received, spectrum)[..., None])[..., 0]
    echo = fft.irfft(fft.rfft(path, _SIZE) * spectrum, _SIZE)[:, TAPS - 1 : TAPS - 1 + SEGMENT]
    return path.astype(np.float32), (received - echo).astype(np.float32)


def _correlation(samples: F4 | F8, spectrum: NDArray[np.complex128]) -> F8:
    """Sum over the segment of each sample times what was sent 0, 1 … TAPS - 1 samples before it: f8 [n, TAPS]."""
    lags: F8 = fft.irfft(fft.rfft(samples, _SIZE).conj() * spectrum, _SIZE)[:, TAPS - 1 :: -1]
    return lags


def _gram(sent: F8, first: F8) -> F8:
    """Products of what was sent j and k samples before, summed over the segment: f8 [n, TAPS, TAPS].

    `first` is its row j = 0. Every further row is the one before, shifted, with one sample more at one end of the sum
    and one less at the other; that costs TAPS² and not TAPS² × SEGMENT.
    """
    gram = np.empty((len(sent), TAPS, TAPS))
    gram[:, 0] = gram[:, :, 0] = first
    enters = sent[:, TAPS - 2 :: -1]
    leaves = sent[:, SEGMENT + TAPS - 2 : SEGMENT - 1 : -1]
    for j in range(TAPS - 1):
        gram[:, j + 1, 1:] = gram[:, j, :-1] + enters[:, j, None] * enters - leaves[:, j, None] * leaves
    return gram
