"""The first guess of an echo path: least squares over a quarter of a second, which no adaptive filter learns from."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.vad.echo_delay import SEGMENT

TAPS: Final = 192  # 24 ms: a hybrid's dispersion, or the direct sound of a loudspeaker and its first reflections
_LOADING: Final = 1e-3  # of the mean power, added to the diagonal: bands in which nothing was sent stay at zero
_NOISE: Final = (32768 * 10 ** (-65 / 20)) ** 2

F4 = NDArray[np.float32]


def fit(received: F4, sent: F4) -> tuple[F4, F4]:
    """The path f4 [n, TAPS] that explains most, and the residual f4 [n, SEGMENT] that it leaves.

    received: f4 [n, SEGMENT]; sent: f4 [n, TAPS - 1 + SEGMENT], aligned so that its end meets the end of `received`
    through tap 0.
    """
    path = np.empty((len(received), TAPS), np.float32)
    residual = np.empty_like(received)
    for row in range(len(received)):  # few rows, and each is a matrix product large enough by itself
        delayed = np.lib.stride_tricks.sliding_window_view(sent[row], TAPS)[:, ::-1]  # (SEGMENT, TAPS)
        delayed = np.ascontiguousarray(delayed)
        gram = delayed.T @ delayed
        gram.flat[:: TAPS + 1] += _LOADING * np.trace(gram) / TAPS + _NOISE * SEGMENT / 16
        path[row] = np.linalg.solve(gram, delayed.T @ received[row])
        residual[row] = received[row] - delayed @ path[row]
    return path, residual
