"""How loud samples are, one figure per row.

Levels are in dBov, decibels relative to overload, as RFC 6464 §3 and RFC 3389 §3 count them: a full-scale square is
0 dBov, a sine at full scale -3, digital silence is reported as -127.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SILENCE_DBOV: Final = -127.0
CLIP: Final = 32124  # the loudest value of µ-law; A-law goes on to 32256
DBM0_TO_DBOV: Final = -6.18  # ITU-T G.711: a full-scale sine is +3.17 dBm0, and -3.01 dBov
_FULL_SCALE_SQUARED: Final = 32768.0**2


def mean_square(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """Mean of the squared samples of each row; pcm i2[rows, samples] -> f4[rows]."""
    wide = pcm.astype(np.float32)
    energy: NDArray[np.float32] = np.einsum("rs,rs->r", wide, wide)
    return energy / np.float32(max(1, pcm.shape[1]))


def dbov(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """Level of each row in dBov, from -127 to 0; pcm i2[rows, samples] -> f4[rows]."""
    return from_mean_square(mean_square(pcm))


def from_mean_square(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean squares of 16-bit samples as dBov; f4 of any shape, floor -127."""
    floor = _FULL_SCALE_SQUARED * 10 ** (SILENCE_DBOV / 10)
    return (10 * np.log10(np.maximum(power, floor) / _FULL_SCALE_SQUARED)).astype(np.float32)


def root_mean_square(level_dbov: NDArray[np.float32]) -> NDArray[np.float32]:
    """Levels in dBov as the root mean square of 16-bit samples; f4 of any shape."""
    return (32768 * 10 ** (level_dbov / 20)).astype(np.float32)


def clipped(pcm: NDArray[np.int16], limit: int = CLIP) -> NDArray[np.int64]:
    """Samples of each row at or beyond ±`limit`; pcm i2[rows, samples] -> i8[rows]."""
    count: NDArray[np.int64] = np.count_nonzero((pcm >= limit) | (pcm <= -limit), axis=1)
    return count
