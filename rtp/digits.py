"""One digit pressed is one digit reported, whichever ways it came: RTP, in-band or SIP INFO."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from sipagent.rtp.control import Digit, Event
from sipagent.rtp.inband import InbandListener
from sipagent.rtp.table import CallTable
from sipagent.rtp.telephone_event import EventPacket, EventReceiver, Pressed

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


class DigitsHeard:
    """Listens to every way of all rows of `table`, and emits each press once, with its place on the row's clock."""

    def __init__(self, table: CallTable, inband: bool, emit: Callable[[Event], None]) -> None:
        """`inband`: whether tones are listened for where no telephone events were negotiated."""
        self._table = table
        self._emit = emit
        self._inband = InbandListener(table, inband)
        self._events = EventReceiver()
        self._log = DigitLog()

    def set_formats(self, row: int, telephone_event: tuple[tuple[int, int], ...], *, receiving: bool) -> None:
        """What was negotiated: without telephone events tones are listened for."""
        self._events.set_formats(row, telephone_event)
        self._inband.listen(row, not telephone_event and receiving)

    def receive(self, packets: Iterable[EventPacket], now_ns: int) -> None:
        """Telephone events that came in this tick (RFC 4733)."""
        for packet in packets:
            for pressed in self._events.receive(packet, now_ns):
                self._press_event(pressed, now_ns)

    def on_tick(self, tick: int, now_ns: int) -> None:
        """Listen for tones in what was received."""
        for heard, start in self._inband.on_tick(tick):
            duration_ms = (heard.end - heard.begin) * 1000 // int(self._table.rate_hz[heard.row])
            self._press(heard.row, heard.digit, duration_ms, start + heard.begin, "inband", now_ns)

    def look_round(self, now_ns: int) -> None:
        """End events whose end was lost."""
        for pressed in self._events.on_deadline(now_ns):
            self._press_event(pressed, now_ns)

    def inject(self, row: int, digit: str, duration_ms: int, now_ns: int) -> None:
        """A digit that signalling heard (SIP INFO)."""
        position = self._position_at(row, now_ns - duration_ms * 1_000_000, now_ns)
        self._press(row, digit, duration_ms, position, "info", now_ns)

    def close(self, row: int) -> None:
        """The row's call is over."""
        self._inband.listen(row, False)
        self._events.close(row)
        self._log.close(row)

    def _press_event(self, pressed: Pressed, now_ns: int) -> None:
        position = self._position_at(pressed.row, pressed.began_ns, now_ns)
        self._press(pressed.row, pressed.digit, pressed.duration_ms, position, "rtp", now_ns)

    def _position_at(self, row: int, then_ns: int, now_ns: int) -> int:
        """Where the receive clock of the row stood at `then_ns`."""
        age = (now_ns - then_ns) * int(self._table.rate_hz[row]) // 1_000_000_000
        return max(0, int(self._table.rx_head[row]) - age)

    def _press(self, row: int, digit: str, duration_ms: int, position: int, by: str, now_ns: int) -> None:
        if self._log.report(row, digit, by, now_ns):
            self._emit(Digit(row, int(self._table.generation[row]), digit, duration_ms, position, by))
