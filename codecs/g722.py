"""ITU-T G.722 at 64 kbit/s: wideband speech, 16 kHz samples, for many rows.

RTP counts its time in units of 1/8000 s all the same (RFC 3551 §4.5.2): 20 ms are 160 octets, 160 timestamp units and
320 samples. The codec is adaptive from sample to sample, so nothing of it can be done for a whole packet at once, and a
C library does it one row after the other, in about 15 µs a packet each way (docs/decisions/0100-g722-in-c.md).
"""

from typing import Final

import numpy as np
from G722 import G722
from numpy.typing import NDArray

SAMPLE_RATE_HZ: Final = 16000
CLOCK_RATE_HZ: Final = 8000
BIT_RATE: Final = 64000


class G722Rows:
    """Encoders and decoders of the rows that speak G.722; made at a row's first packet, dropped by `reset`."""

    def __init__(self) -> None:
        self._encoders: dict[int, G722] = {}
        self._decoders: dict[int, G722] = {}

    def reset(self, rows: NDArray[np.intp]) -> None:
        """Begin these rows anew: another call, or another stream of the same one."""
        for row in rows.tolist():
            self._encoders.pop(row, None)
            self._decoders.pop(row, None)

    def encode(self, rows: NDArray[np.intp], pcm: NDArray[np.int16]) -> NDArray[np.uint8]:
        """The next samples of `rows`, i2[len(rows), n] at 16 kHz with even n, as octets u1[len(rows), n / 2]."""
        if pcm.shape[1] % 2:
            raise ValueError(f"G.722 codes pairs of samples, not {pcm.shape[1]}")
        out = np.empty((len(rows), pcm.shape[1] // 2), np.uint8)
        for place, row in enumerate(rows.tolist()):
            encoder = self._encoders.get(row)
            if encoder is None:
                encoder = self._encoders[row] = G722(SAMPLE_RATE_HZ, BIT_RATE)
            out[place] = np.frombuffer(encoder.encode(pcm[place]), np.uint8)
        return out

    def decode(self, rows: NDArray[np.intp], octets: NDArray[np.uint8]) -> NDArray[np.int16]:
        """The next octets of `rows`, u1[len(rows), n], as samples i2[len(rows), 2 n] at 16 kHz."""
        out = np.empty((len(rows), octets.shape[1] * 2), np.int16)
        for place, row in enumerate(rows.tolist()):
            decoder = self._decoders.get(row)
            if decoder is None:
                decoder = self._decoders[row] = G722(SAMPLE_RATE_HZ, BIT_RATE)
            out[place] = np.frombuffer(decoder.decode(octets[place].tobytes()), np.int16)
        return out
