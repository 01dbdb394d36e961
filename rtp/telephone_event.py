"""Telephone events (RFC 4733), both ways.

A digit held for 100 ms, packets every 20 ms, seen on the wire (duration in timestamp units, E = end bit):

    RTP timestamp  t0    t0    t0    t0    t0    t0    t0      the event's beginning, in every packet of it
    marker         1     0     0     0     0     0     0
    duration       160   320   480   640   800   800   800
    E              0     0     0     0     1     1     1       the end comes three times: it must not be lost
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs.tones import PAUSE_MS
from sipagent.rtp.packet import Batch, Headers

DIGITS: Final = "0123456789*#ABCD!"  # event codes 0–15 (RFC 4733 table 3), 16 is flash
END_PACKETS: Final = 3
LOST_END_NS: Final = 40_000_000  # more than three packet times without a packet, and the event is over
SEGMENT_TICKS: Final = 0xFFFF  # an event that is longer goes on under a new timestamp (§2.5.1.3), …
SEGMENT_LEAST_TICKS: Final = 0x8000  # … or somewhat earlier: some take a multiple of their packet time
REPEATED_MS: Final = 60  # within which the copies of an end come
SHORTEST_MS: Final = 40  # of a digit that is cut short
REMEMBERED: Final = 32  # timestamps per row, so that no straggler presses again
_VOLUME: Final = 10  # -10 dBm0 (§2.3.4)


@dataclass(frozen=True, slots=True)
class EventPacket:
    """One packet of an event."""

    row: int
    ssrc: int
    timestamp: int
    marker: bool
    payload: bytes
    payload_type: int


def event_packets(batch: Batch, headers: Headers, chosen: NDArray[np.intp]) -> list[EventPacket]:
    """The packets `chosen` [n] of `batch`, which are of an event."""
    packets = []
    for index in chosen.tolist():
        start = int(headers.payload_offset[index])
        packets.append(
            EventPacket(
                row=int(batch.rows[index]),
                ssrc=int(headers.ssrc[index]),
                timestamp=int(headers.timestamp[index]),
                marker=bool(headers.marker[index]),
                payload=batch.data[index, start : start + int(headers.payload_length[index])].tobytes(),
                payload_type=int(headers.payload_type[index]),
            )
        )
    return packets


@dataclass(frozen=True, slots=True)
class Pressed:
    """One whole event: pressed at `began_ns` (when its first packet came) for `duration_ms`."""

    row: int
    digit: str
    duration_ms: int
    began_ns: int


@dataclass(slots=True)
class _Open:
    """An event of which the end has not come, or has come already and may be repeated."""

    ssrc: int
    timestamp: int
    code: int
    clock_rate_hz: int
    began_ns: int
    last_ns: int
    before_ticks: int = 0  # of earlier segments
    duration_ticks: int = 0
    ended: bool = False


class EventReceiver:
    """Joins packets to events; each event is reported once, whichever of its packets are lost.

    What was negotiated may change while a key is down: the event goes on, under another payload type perhaps.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}  # by row
        self._known: dict[int, deque[tuple[int, int]]] = {}  # (SSRC, timestamp) of the events of each row
        self._clock_rate_hz: dict[tuple[int, int], int] = {}

    def set_formats(self, row: int, formats: tuple[tuple[int, int], ...]) -> None:
        """The payload types of the row and their clock rates in Hz."""
        self._forget_formats(row)
        for payload_type, clock_rate_hz in formats:
            self._clock_rate_hz[row, payload_type] = clock_rate_hz

    def close(self, row: int) -> None:
        """The row's call is over."""
        self._open.pop(row, None)
        self._known.pop(row, None)
        self._forget_formats(row)

    def receive(self, packet: EventPacket, now_ns: int) -> list[Pressed]:
        """Take one packet; returns the events that it ends."""
        if len(packet.payload) < 4:
            return []
        code, end = packet.payload[0], bool(packet.payload[1] & 0x80)
        duration = int.from_bytes(packet.payload[2:4], "big")
        if code >= len(DIGITS):
            return []
        current = self._open.get(packet.row)
        pressed: list[Pressed] = []
        if current is None or (current.ssrc, current.timestamp) != (packet.ssrc, packet.timestamp):
            known = self._known.setdefault(packet.row, deque(maxlen=REMEMBERED))
            if (packet.ssrc, packet.timestamp) in known:
                return []  # a straggler of an event before this one
            known.append((packet.ssrc, packet.timestamp))
            if current is None or not self._goes_on(current, packet, code, duration, end=end):
                if current is not None and not current.ended:
                    pressed.append(self._end(packet.row, current))  # its end was lost
                rate = self._clock_rate_hz.get((packet.row, packet.payload_type), 8000)
                current = _Open(packet.ssrc, packet.timestamp, code, rate, now_ns, now_ns)
                self._open[packet.row] = current
        if current.ended or current.code != code:
            return pressed
        current.duration_ticks = max(current.duration_ticks, duration)
        current.last_ns = now_ns
        if end:
            pressed.append(self._end(packet.row, current))
        return pressed

    def on_deadline(self, now_ns: int, ptime_ns: int = 20_000_000) -> list[Pressed]:
        """End the events whose end packets were all lost."""
        patience = 3 * ptime_ns + LOST_END_NS
        overdue = [row for row, event in self._open.items() if not event.ended and now_ns - event.last_ns > patience]
        return [self._end(row, self._open[row]) for row in overdue]

    @property
    def open_rows(self) -> list[int]:
        """Rows in which a digit is held down now."""
        return [row for row, event in self._open.items() if not event.ended]

    def _forget_formats(self, row: int) -> None:
        for key in [key for key in self._clock_rate_hz if key[0] == row]:
            del self._clock_rate_hz[key]

    @staticmethod
    def _goes_on(current: _Open, packet: EventPacket, code: int, duration: int, *, end: bool) -> bool:
        """Whether a packet under another timestamp is of the event that we have; that is moved on then.

        Either as a segment of a long event, or because the sender moves the timestamp with each packet (Sonus does), so
        that the next one begins before this one is over.
        """
        age = (packet.timestamp - current.timestamp) % (1 << 32)
        if (current.ssrc, current.code) != (packet.ssrc, code) or packet.marker or age >= 1 << 31:
            return False
        before, rate = current.duration_ticks, current.clock_rate_hz
        if current.ended:
            return end and age <= min(before, REPEATED_MS * rate // 1000)
        if duration >= before and (age <= before or age == duration - before):
            current.timestamp = packet.timestamp
            return True
        if SEGMENT_LEAST_TICKS <= age <= SEGMENT_TICKS + 1 and abs(age - before) <= rate // 10:
            current.before_ticks += age
            current.timestamp = packet.timestamp
            current.duration_ticks = 0
            return True
        return False

    @staticmethod
    def _end(row: int, event: _Open) -> Pressed:
        event.ended = True
        duration_ms = (event.before_ticks + event.duration_ticks) * 1000 // event.clock_rate_hz
        return Pressed(row, DIGITS[event.code], duration_ms, event.began_ns)


@dataclass(frozen=True, slots=True)
class EventFrame:
    """What one packet of an event carries; `timestamp_offset` is how long ago it began, in timestamp units."""

    payload: bytes
    marker: bool
    timestamp_offset: int


@dataclass(slots=True)
class EventSender:
    """The digits that one row still has to send, packet by packet; packets may change their size in between."""

    queue: deque[tuple[str, int, int, bool]] = field(default_factory=deque)  # digit, duration_ms, gap_ms, last one
    announced: deque[str] = field(default_factory=deque)  # the digits of each request, for its end
    _offset: int = 0  # timestamp units since the event, or the pause, began
    _duration: int = 0  # as the last packet told it
    _ends: int = 0  # end packets that were sent

    def add(self, digits: str, duration_ms: int, gap_ms: int) -> None:
        """Append digits; ValueError when one of them is none."""
        keys = [key if key in PAUSE_MS else key.upper() for key in digits]
        if not keys or any(key not in DIGITS and key not in PAUSE_MS for key in keys):
            raise ValueError(f"not digits: {digits!r}")
        for index, key in enumerate(keys):
            self.queue.append((key, duration_ms, gap_ms, index == len(keys) - 1))
        self.announced.append("".join(keys))

    def next(self, ticks: int, period_ms: int, *, on_hold: bool = False) -> tuple[EventFrame | None, str | None]:
        """One packet time, of `ticks` timestamp units: the event packet to send, and the digits that are done.

        Without an event packet audio is sent. On hold a digit that has begun is brought to its end, and no other
        begins: without an end some far ends never hear of it, and to others the rest of it would be another press.
        """
        if not self.queue or (on_hold and (not self._offset or self.queue[0][0] in PAUSE_MS)):
            return None, None
        digit, duration_ms, gap_ms, last = self.queue[0]
        per_ms = ticks // period_ms
        if on_hold:
            duration_ms, gap_ms = min(duration_ms, SHORTEST_MS), 0
        offset, self._offset = self._offset, self._offset + ticks
        if digit in PAUSE_MS:
            return None, self._advance(last) if self._offset >= PAUSE_MS[digit] * per_ms else None
        frame = None
        if self._ends < END_PACKETS:
            if not self._ends:
                self._duration = self._offset
                self._ends = int(offset > 0 and self._offset >= duration_ms * per_ms)
            else:
                self._ends += 1
            flags = (0x80 if self._ends else 0) | _VOLUME
            payload = bytes([DIGITS.index(digit), flags]) + min(self._duration, SEGMENT_TICKS).to_bytes(2, "big")
            frame = EventFrame(payload, marker=offset == 0, timestamp_offset=offset)
        over = self._ends == END_PACKETS and self._offset >= self._duration + gap_ms * per_ms
        return frame, self._advance(last) if over else None

    def interrupt(self) -> str | None:
        """No events are taken any more: a digit that has begun counts as pressed; returns the digits that are done."""
        if not self._offset or self.queue[0][0] in PAUSE_MS:
            return None
        return self._advance(self.queue[0][3])

    def _advance(self, last: bool) -> str | None:
        self._offset = self._ends = 0
        self.queue.popleft()
        return self.announced.popleft() if last else None
