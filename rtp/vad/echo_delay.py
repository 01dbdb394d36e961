"""When what was sent comes back: the delay between two clocks, found by generalised cross-correlation.

The spectrum is partly whitened (GCC-PHAT, Knapp and Carter 1976, with an exponent below one), since the pitch of a
voice would otherwise make any two voices correlate. A quarter of a second is enough to find a likely lag; whether it is
one, the fit tells (`echo_fit`).
"""

from typing import Final

import numpy as np
from numpy import fft
from numpy.typing import NDArray

SEGMENT: Final = 2048  # received samples at 8 kHz that are looked at: 256 ms
EARLY: Final = 256  # lags before the expected zero: packets arrive and leave in steps of 20 ms
LATE: Final = 2816  # … and after it: 352 ms
LAGS: Final = EARLY + LATE
SPAN: Final = SEGMENT + LAGS  # sent samples that go with a segment
_WHITENING: Final = 0.8
_LOWEST_BIN, _HIGHEST_BIN = 200 * SPAN // 8000, 3400 * SPAN // 8000  # a telephone line carries nothing outside
_CHUNK_ROWS: Final = 16


def find(received: NDArray[np.float32], sent: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The lag of the likeliest echo i8[n] in 8 kHz samples, from -EARLY to LATE, and how far it stands out f4[n].

    received: f4 [n, SEGMENT]; sent: f4 [n, SPAN], of which the last `EARLY` lie behind the end of the segment in the
    expected alignment. The figure is the peak over the root mean square of the correlation: 4 to 5 by chance.
    """
    lag = np.zeros(len(received), np.int64)
    score = np.zeros(len(received), np.float32)
    for start in range(0, len(received), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        cross = fft.rfft(sent[chunk]) * fft.rfft(received[chunk], SPAN).conj()
        cross *= (np.abs(cross) + 1e-3) ** -_WHITENING
        cross[:, :_LOWEST_BIN] = 0
        cross[:, _HIGHEST_BIN:] = 0
        correlation = np.abs(fft.irfft(cross, SPAN)[:, :LAGS])
        peak = np.argmax(correlation, axis=1)
        lag[chunk] = LATE - peak
        rms = np.sqrt(np.einsum("nk,nk->n", correlation, correlation) / LAGS)
        score[chunk] = correlation[np.arange(len(peak)), peak] / np.maximum(rms, 1e-9)
    return lag, score
