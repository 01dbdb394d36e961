"""What a payload type of a row means, and how payloads become samples and back."""

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import g711
from sipagent.codecs.g722 import G722Rows
from sipagent.codecs.resample import Resampler
from sipagent.rtp.control import Codec

Rows = NDArray[np.intp]

MAX_PAYLOAD: Final = 480  # 60 ms of G.711 or G.722
WIDE: Final = 16  # added to a kind where the row's rings run at 16 kHz
_NARROW_HZ: Final = 8000
_WIDE_HZ: Final = 16000


class Kind(IntEnum):
    """How a payload is to be read."""

    UNKNOWN = 0
    PCMU = 1
    PCMA = 2
    G722 = 3
    TELEPHONE_EVENT = 4
    COMFORT_NOISE = 5


AUDIO: Final = {"PCMU": Kind.PCMU, "PCMA": Kind.PCMA, "G722": Kind.G722}
_LAW: Final = {int(Kind.PCMU): g711.PCMU, int(Kind.PCMA): g711.PCMA}


def kind_of(codec: Codec) -> Kind:
    """The kind of a negotiated codec; UNKNOWN for one that this plane cannot read."""
    return AUDIO.get(codec.name.upper(), Kind.UNKNOWN)


class Codecs:
    """Decoders and encoders of all rows; `form` is a Kind, plus WIDE where the row's rings run at 16 kHz.

    A row whose rings run at another rate than its codec is converted on the way.
    """

    def __init__(self, rows: int) -> None:
        self._g722 = G722Rows()
        self._resamplers = {
            (way, from_hz): Resampler(rows, from_hz, _NARROW_HZ + _WIDE_HZ - from_hz)
            for way in ("in", "out")
            for from_hz in (_NARROW_HZ, _WIDE_HZ)
        }

    def reset(self, rows: Rows) -> None:
        """The rows go to another call."""
        self._g722.reset(rows)
        for resampler in self._resamplers.values():
            resampler.reset(rows)

    def decode(self, form: int, rows: Rows, payload: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Samples i2[n, samples] at the rate of the rows, of payloads u1[n, octets] that are all of one form."""
        kind, wide = form % WIDE, form >= WIDE
        if kind == Kind.G722:
            pcm = self._g722.decode(rows, payload)
            return pcm if wide else self._resamplers["in", _WIDE_HZ].process(rows, pcm)
        pcm = np.take(g711.DECODE[_LAW[kind]], payload, mode="wrap")
        return self._resamplers["in", _NARROW_HZ].process(rows, pcm) if wide else pcm

    def encode(self, form: int, rows: Rows, pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
        """Payloads u1[n, octets] of samples i2[n, samples] at the rate of the rows, all of one form."""
        kind, wide = form % WIDE, form >= WIDE
        if kind == Kind.G722:
            return self._g722.encode(rows, pcm if wide else self._resamplers["out", _NARROW_HZ].process(rows, pcm))
        if wide:
            pcm = self._resamplers["out", _WIDE_HZ].process(rows, pcm)
        return np.take(g711.ENCODE[_LAW[kind]], pcm.view(np.uint16), mode="wrap")
