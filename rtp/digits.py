"""One digit pressed is one digit reported, whichever ways it came: RTP, in-band or SIP INFO."""

from collections import deque
from dataclasses import dataclass
from typing import Final

SAME_PRESS_NS: Final = {
    # How long after a digit was reported by one way the same digit by another way is still the same press.
    # In-band and RTP describe the same moment; an INFO request may need a round trip and a retransmission.
    "rtp": 400_000_000,
    "inband": 400_000_000,
    "info": 2_500_000_000,
}
_REMEMBERED: Final = 32


@dataclass(slots=True)
class _Reported:
    digit: str
    ways: set[str]
    at_ns: int


class DigitLog:
    """The digits that were reported lately, of every row."""

    def __init__(self) -> None:
        self._rows: dict[int, deque[_Reported]] = {}

    def report(self, row: int, digit: str, by: str, now_ns: int) -> bool:
        """True when this is a press of its own, False when it was reported before by another way."""
        log = self._rows.setdefault(row, deque(maxlen=_REMEMBERED))
        for entry in log:
            if entry.digit != digit or by in entry.ways:
                continue
            patience = max(SAME_PRESS_NS[by], *(SAME_PRESS_NS[way] for way in entry.ways))
            if now_ns - entry.at_ns <= patience:
                entry.ways.add(by)
                return False
        log.append(_Reported(digit, {by}, now_ns))
        return True

    def close(self, row: int) -> None:
        """The row's call is over."""
        self._rows.pop(row, None)
