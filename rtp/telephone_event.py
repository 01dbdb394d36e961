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

from sipagent.rtp.packet import Batch, Headers

DIGITS: Final = "0123456789*#ABCD!"  # event codes 0–15 (RFC 4733 table 3), 16 is flash
END_PACKETS: Final = 3
LOST_END_NS: Final = 40_000_000  # more than three packet times without a packet, and the event is over
SEGMENT_TICKS: Final = 0xFFFF  # an event that is longer goes on under a new timestamp (§2.5.1.3)
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
    """Joins packets to events; each event is reported once, whichever of its packets are lost."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}  # by row
        self._clock_rate_hz: dict[tuple[int, int], int] = {}

    def set_formats(self, row: int, formats: tuple[tuple[int, int], ...]) -> None:
        """The payload types of the row and their clock rates in Hz."""
        self.close(row)
        for payload_type, clock_rate_hz in formats:
            self._clock_rate_hz[row, payload_type] = clock_rate_hz

    def close(self, row: int) -> None:
        """The row's call is over, or its formats are new."""
        self._open.pop(row, None)
        for key in [key for key in self._clock_rate_hz if key[0] == row]:
            del self._clock_rate_hz[key]

    def receive(self, packet: EventPacket, now_ns: int) -> list[Pressed]:
        """Take one packet; returns the events that it ends."""
        if len(packet.payload) < 4:
            return []
        code, flags = packet.payload[0], packet.payload[1]
        duration = int.from_bytes(packet.payload[2:4], "big")
        if code >= len(DIGITS):
            return []
        current = self._open.get(packet.row)
        pressed: list[Pressed] = []
        if current is None or (current.ssrc, current.timestamp) != (packet.ssrc, packet.timestamp):
            age = 0 if current is None else (packet.timestamp - current.timestamp) % (1 << 32)
            if current is not None and current.ssrc == packet.ssrc and age >= 1 << 31:
                return []  # a straggler of an event before this one
            if current is not None and not current.ended and self._goes_on(current, packet, code, age):
                current.before_ticks += age
                current.timestamp = packet.timestamp
                current.duration_ticks = 0
            else:
                if current is not None and not current.ended:
                    pressed.append(self._end(packet.row, current))  # its end was lost
                rate = self._clock_rate_hz.get((packet.row, packet.payload_type), 8000)
                current = _Open(packet.ssrc, packet.timestamp, code, rate, now_ns, now_ns)
                self._open[packet.row] = current
        if current.ended or current.code != code:
            return pressed
        current.duration_ticks = max(current.duration_ticks, duration)
        current.last_ns = now_ns
        if flags & 0x80:
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

    @staticmethod
    def _goes_on(current: _Open, packet: EventPacket, code: int, age: int) -> bool:
        """A segment of a long event: same digit, no marker, and it begins where the full one before it ended."""
        return code == current.code and not packet.marker and SEGMENT_TICKS - 1 <= age <= SEGMENT_TICKS + 1

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
    """The digits that one row still has to send, packet by packet."""

    ticks: int  # timestamp units per packet
    period_ms: int
    queue: deque[tuple[str, int, int, bool]] = field(default_factory=deque)  # digit, duration_ms, gap_ms, last one
    announced: deque[str] = field(default_factory=deque)  # the digits of each request, for its end
    _step: int = 0

    def add(self, digits: str, duration_ms: int, gap_ms: int) -> None:
        """Append digits; ValueError when one of them is none."""
        digits = digits.upper()
        unknown = [digit for digit in digits if digit not in DIGITS and digit != ","]
        if unknown or not digits:
            raise ValueError(f"not digits: {digits!r}")
        for index, digit in enumerate(digits):
            self.queue.append((digit, duration_ms, gap_ms, index == len(digits) - 1))
        self.announced.append(digits)

    def next(self) -> tuple[EventFrame | None, str | None]:
        """One packet time: the event packet to send instead of audio (None = audio), and the digits that are done."""
        if not self.queue:
            return None, None
        digit, duration_ms, gap_ms, last = self.queue[0]
        if digit == ",":  # a pause of a second
            return None, self._advance(1000 // self.period_ms, last)
        packets = max(2, -(-duration_ms // self.period_ms))
        step = self._step
        done = self._advance(packets + max(END_PACKETS - 1, -(-gap_ms // self.period_ms)), last)
        if step >= packets + END_PACKETS - 1:
            return None, done
        duration = min((min(step, packets - 1) + 1) * self.ticks, SEGMENT_TICKS)
        end = step >= packets - 1
        payload = bytes([DIGITS.index(digit), (0x80 if end else 0) | _VOLUME]) + duration.to_bytes(2, "big")
        return EventFrame(payload, marker=step == 0, timestamp_offset=step * self.ticks), done

    def _advance(self, steps: int, last: bool) -> str | None:
        self._step += 1
        if self._step < steps:
            return None
        self._step = 0
        self.queue.popleft()
        return self.announced.popleft() if last else None
