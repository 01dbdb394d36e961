"""How often the sequence number of an encrypted stream has wrapped (RFC 3711 §3.3.1), kept where it outlives the plane.

No packet carries it, and without it nothing can be decrypted. libsrtp cannot be told it either; but a session counts
along with what it is given, and we hold the key: a new one is led to where the old one stood by packets of our own.
"""

from hashlib import blake2b
from typing import Final

from pylibsrtp import Session

from sipagent.rtp.inbound import Inbound
from sipagent.rtp.table import CallTable

NONE: Final = -1
_CYCLE: Final = 1 << 16
_STEP: Final = (1 << 15) - 1  # a jump within which a number is taken for one that lies ahead
_VERSION: Final = b"\x80\x00"
_NO_TIME: Final = bytes(4)


class Rollover:
    """The columns srtp_key, srtp_ssrc and srtp_index of `table`: whom each row heard last, and its highest index."""

    def __init__(self, table: CallTable) -> None:
        self._key, self._ssrc, self._index = table.srtp_key, table.srtp_ssrc, table.srtp_index

    def forget(self, row: int) -> None:
        """The row has another call, or no keys."""
        self._index[row] = NONE

    def begin(self, row: int, profile: str, key: bytes) -> None:
        """The row hears this key from now on; what was noted of another one is forgotten, also by an earlier plane."""
        fingerprint = int.from_bytes(blake2b(profile.encode() + key, digest_size=8).digest(), "big")
        if int(self._key[row]) != fingerprint:
            self._key[row] = fingerprint
            self._index[row] = NONE

    def note(self, row: int, data: bytes) -> None:
        """An RTP packet of the row was genuine."""
        sequence, ssrc = int.from_bytes(data[2:4], "big"), int.from_bytes(data[8:12], "big")
        index = int(self._index[row])
        if index == NONE or int(self._ssrc[row]) != ssrc:
            self._ssrc[row], self._index[row] = ssrc, sequence
            return
        ahead = (sequence - index + _CYCLE // 2) % _CYCLE - _CYCLE // 2
        if ahead > 0:
            self._index[row] = index + ahead

    def lead(self, row: int, inbound: Inbound, outbound: Session) -> None:
        """Lead `inbound`, which has heard nothing, to where the row stood; `outbound` is new and has the same key."""
        index = int(self._index[row])
        if index == NONE:
            return
        ssrc = int(self._ssrc[row]).to_bytes(4, "big")
        for each in range(index % _STEP, index + 1, _STEP):
            sequence = (each % _CYCLE).to_bytes(2, "big")
            inbound.unprotect(outbound.protect(_VERSION + sequence + _NO_TIME + ssrc))
