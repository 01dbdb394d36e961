"""Where what a row hears lies in its recording: what we send runs by our clock, what we hear by the far end's.

A crystal that is 200 ppm off is 0.7 s apart after an hour, and a time line that is laid anew may lie a deadline off. So
the heard leg is held where it came in: in silence at once, in sound by a sample here and there, which nobody hears.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]

TOLERANCE_S: Final = 0.005  # a tick: times of arrival are not known better
QUIET: Final = 512  # peak: comfort noise at its loudest is below it, and nothing is missed in a piece of that
SLEW: Final = 400  # samples of sound in which one is left out or doubled: 2500 ppm, more than any crystal is off


class HeardLeg:
    """The heard leg of one recording; `at` is the position in the file at which it goes on."""

    def __init__(self, rate_hz: int, at: int) -> None:
        self._tolerance = round(TOLERANCE_S * rate_hz)
        self.at = at

    def place(self, pcm: Pcm, belongs: int) -> tuple[Pcm, int]:
        """What goes to the file of the next samples i2[n], which came in at position `belongs`, and where."""
        off = belongs - self.at
        if len(pcm) and abs(off) > self._tolerance:
            quiet = _quiet_until(pcm)
            if quiet >= self._tolerance:
                pcm = pcm[min(max(0, -off), quiet) :]
                self.at += max(0, off)
            else:
                pcm = _stretch(pcm, min(abs(off), -(-len(pcm) // SLEW)), longer=off > 0)
        at = self.at
        self.at += len(pcm)
        return pcm, at


def _quiet_until(pcm: Pcm) -> int:
    """Samples before the first that is sound."""
    loud = np.abs(pcm.astype(np.int32)) >= QUIET
    return int(loud.argmax()) if loud.any() else len(pcm)


def _stretch(pcm: Pcm, count: int, *, longer: bool) -> Pcm:
    """`pcm` i2[n] with `count` samples more or less: in each part of it where two neighbours differ least."""
    times = np.ones(len(pcm), np.intp)
    for part in np.array_split(np.arange(1, len(pcm)), count):
        if len(part):
            times[part[np.abs(np.diff(pcm[part[0] - 1 : part[-1] + 1].astype(np.int32))).argmin()]] = 2 if longer else 0
    return np.repeat(pcm, times)
