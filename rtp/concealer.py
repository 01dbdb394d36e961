"""The seam between the time line of a row and the way its losses are concealed."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


class Concealer(Protocol):
    """Makes up audio for rows of a table; all sample arrays are i2[n, samples], no row twice."""

    history: int  # samples before a gap that `remember` wants

    def remember(self, rows: Rows, pcm: NDArray[np.int16]) -> None:
        """A gap begins: `pcm` i2[n, history] is what came right before it."""

    def conceal(self, rows: Rows, samples: int) -> NDArray[np.int16]:
        """The next `samples` of the gap, i2[n, samples]."""

    def resume(self, rows: Rows, pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        """Audio is back: `pcm` with its beginning faded in over what the gap would have gone on with."""


class SilenceInstead:
    """Conceals with silence: the plainest Concealer, and the reference that the others are compared with."""

    history = 1

    def remember(self, rows: Rows, pcm: NDArray[np.int16]) -> None:
        """Silence needs no memory."""

    def conceal(self, rows: Rows, samples: int) -> NDArray[np.int16]:
        """Zeros, i2[n, samples]."""
        return np.zeros((len(rows), samples), np.int16)

    def resume(self, rows: Rows, pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        """The audio as it came."""
        return pcm
