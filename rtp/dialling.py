"""Sending digits: telephone events where they were negotiated, tones where they were not.

Either way speech waits meanwhile, and so do digits while the row is on hold, but for the end of the one that has begun.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.control import DigitsSent, Event, MediaProblem, SendDigits
from sipagent.rtp.playback import Playback
from sipagent.rtp.send import FOR_DIGITS, Sender
from sipagent.rtp.table import COUNTER, CallTable
from sipagent.rtp.telephone_event import EventFrame, EventSender


class Dialling:
    """The digits that rows are sending."""

    def __init__(
        self, table: CallTable, sender: Sender, playback: Playback, tick_ms: int, emit: Callable[[Event], None]
    ) -> None:
        self._table = table
        self._sender = sender
        self._playback = playback
        self._tick_ms = tick_ms
        self._emit = emit
        self._senders: dict[int, EventSender] = {}
        self._payload_type: dict[int, int] = {}

    def set_formats(self, row: int, formats: tuple[tuple[int, int], ...], clock_rate_hz: int) -> None:
        """Events go out under the payload type whose clock is that of the audio (RFC 4733 §2.1)."""
        self._payload_type.pop(row, None)
        for payload_type, rate_hz in formats:
            if rate_hz == clock_rate_hz:
                self._payload_type[row] = payload_type
        if row in self._senders and row not in self._payload_type:
            self._go_on_in_band(row)

    def send(self, command: SendDigits) -> None:
        """Begin, or append to what is being sent."""
        row = command.row
        try:
            if row in self._payload_type and not self._playback.dials(row):
                sender = self._senders.get(row) or EventSender()
                sender.add(command.digits, command.duration_ms, command.gap_ms)
                self._senders[row] = sender
                self._sender.hold(row, True, FOR_DIGITS)
            else:
                self._sound(command, command.digits)
        except ValueError as error:
            self._emit(MediaProblem(str(error), row, command.generation))

    def close(self, row: int) -> None:
        """The row's call is over."""
        self._senders.pop(row, None)
        self._payload_type.pop(row, None)

    def due(self, tick: int) -> dict[int, EventFrame]:
        """The events of this tick by row; a row with a frame sends no audio in this packet."""
        frames: dict[int, EventFrame] = {}
        for row in list(self._senders):
            if self._sender.due[row] > tick:
                continue
            sender = self._senders[row]
            period_ms = int(self._sender.samples[row]) * 1000 // int(self._table.rate_hz[row])
            on_hold = not self._sender.sending[row]
            frame, done = sender.next(int(self._sender.ticks[row]), period_ms, on_hold=on_hold)
            if frame is not None:
                frames[row] = frame
            self._tell(row, done)
            if not sender.queue:
                self._end(row)
        return frames

    def _tell(self, row: int, done: str | None) -> None:
        if done is not None:
            self._emit(DigitsSent(row, int(self._table.generation[row]), done))

    def _end(self, row: int) -> None:
        del self._senders[row]
        self._sender.hold(row, False, FOR_DIGITS)

    def _go_on_in_band(self, row: int) -> None:
        """The far end does not take events any more: what is left of the digits is sounded."""
        sender = self._senders[row]
        self._tell(row, sender.interrupt())
        self._end(row)
        rest = ""
        for digit, duration_ms, gap_ms, last in sender.queue:
            rest += digit
            if last:
                command = SendDigits(row, int(self._table.generation[row]), rest, duration_ms, gap_ms)
                try:
                    self._sound(command, sender.announced.popleft())
                except ValueError as error:  # a flash is no tone
                    self._emit(MediaProblem(str(error), row, command.generation))
                rest = ""

    def _sound(self, command: SendDigits, announced: str) -> None:
        """Sound digits in-band; ValueError when they are none."""
        row, rate_hz = command.row, int(self._table.rate_hz[command.row])
        self._playback.play_digits(row, command.digits, rate_hz, command.duration_ms, command.gap_ms, announced)

    def send_frames(self, frames: dict[int, EventFrame], send: Callable[[int, bytes], None]) -> None:
        """Send the packets of `frames`, once the rows' clocks have moved past this packet."""
        for row, frame in frames.items():
            sender = self._sender
            timestamp = (int(sender.timestamp[row]) - int(sender.ticks[row]) - frame.timestamp_offset) & 0xFFFFFFFF
            second = self._payload_type[row] | (0x80 if frame.marker else 0)
            header = bytes([0x80, second]) + (int(sender.sequence[row]) & 0xFFFF).to_bytes(2, "big")
            header += timestamp.to_bytes(4, "big") + int(sender.ssrc[row]).to_bytes(4, "big")
            send(row, header + frame.payload)
            sender.advance(np.array([row]))
            increment: NDArray[np.uint64] = np.array([1, len(frame.payload)], np.uint64)
            first = COUNTER["packets_sent"]
            self._table.counters[row, first : first + 2] += increment
