"""What a payload type of a row means, and how payloads become samples and back."""

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import g711
from sipagent.rtp.control import Codec

MAX_PAYLOAD: Final = 480  # 60 ms of G.711 or G.722


class Kind(IntEnum):
    """How a payload is to be read."""

    UNKNOWN = 0
    PCMU = 1
    PCMA = 2
    G722 = 3
    TELEPHONE_EVENT = 4
    COMFORT_NOISE = 5


AUDIO: Final = {"PCMU": Kind.PCMU, "PCMA": Kind.PCMA}
_LAW: Final = {int(Kind.PCMU): g711.PCMU, int(Kind.PCMA): g711.PCMA}


def kind_of(codec: Codec) -> Kind:
    """The kind of a negotiated codec; UNKNOWN for one that this plane cannot read."""
    return AUDIO.get(codec.name.upper(), Kind.UNKNOWN)


def decode(kind: int, payload: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Samples i2[n, samples] of payloads u1[n, octets], all of one kind."""
    return np.take(g711.DECODE[_LAW[kind]], payload, mode="wrap")


def encode(kind: int, pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Payloads u1[n, octets] of samples i2[n, samples], all of one kind."""
    return np.take(g711.ENCODE[_LAW[kind]], pcm.view(np.uint16), mode="wrap")
