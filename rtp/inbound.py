"""The inbound side of one SRTP key: a session of libsrtp that cannot be made to grow.

libsrtp keeps a rollover counter and a replay window for every SSRC that it has ever heard, and looks for that of a
packet one by one. A far end that takes another SSRC for each packet, as it may, would in minutes cost all other calls
their deadlines; so only those heard last are kept. What of an older one is replayed would be decrypted again, and not
heard: a row follows another source only when two of its packets come in sequence.
"""

from typing import Final

from pylibsrtp import Policy, Session

STREAMS: Final = 16  # SSRCs of one key; a far end has one, and another after a transfer or a restart


class Inbound:
    """Decrypts what comes under one key, from the SSRCs that were heard last."""

    def __init__(self, profile: int, key: bytes) -> None:
        self._session = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
        self._heard: dict[bytes, None] = {}  # SSRCs, the last one heard behind the others
        self._last = b""

    def unprotect(self, data: bytes, *, control: bool = False) -> bytes:
        """An RTP packet, or RTCP if `control`, in the clear; raises pylibsrtp's Error, or ValueError for its length."""
        clear: bytes = self._session.unprotect_rtcp(data) if control else self._session.unprotect(data)
        ssrc = data[4:8] if control else data[8:12]
        if ssrc != self._last:
            self._last = ssrc
            self._heard.pop(ssrc, None)
            self._heard[ssrc] = None
            if len(self._heard) > STREAMS:
                oldest = next(iter(self._heard))
                del self._heard[oldest]
                self._session.remove_stream(int.from_bytes(oldest, "big"))
        return clear
