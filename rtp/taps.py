"""Recording: what rows hear and send is handed to the recorder, a tenth of a second at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.control import ControlRecording, Event, MediaProblem, Record
from sipagent.rtp.heard_leg import HeardLeg
from sipagent.rtp.receive import Receiver
from sipagent.rtp.recording import Recorder
from sipagent.rtp.table import RX_RING, SENT_RING, CallTable

EVERY_TICKS: Final = 20
TURN: Final = 14  # of each of these


@dataclass(slots=True)
class _Tap:
    """One row that is recorded."""

    path: str
    start_ns: int  # position 0 of the file, …
    tx_start: int  # … on the clock of what we send
    rx_read: int
    tx_read: int
    heard: HeardLeg


class RecordingTaps:
    """Reads the rings of the rows that are recorded; the recorder's thread does the rest."""

    def __init__(self, table: CallTable, receiver: Receiver, emit: Callable[[Event], None]) -> None:
        self._table = table
        self._receiver = receiver
        self._emit = emit
        self._recorder: Recorder | None = None  # its thread is started with the first recording
        self._taps: dict[int, _Tap] = {}  # by row

    def start(self, command: Record, now_ns: int) -> None:
        """Record from now on; position 0 of the file is this moment on both clocks."""
        if self._recorder is None:
            self._recorder = Recorder()
        row = command.row
        if row in self._taps:
            self._emit(MediaProblem("this call is being recorded already", row, command.generation))
            return
        rate_hz = int(self._table.rate_hz[row])
        heard, sent = int(self._table.rx_head[row]), int(self._table.tx_clock[row])
        leg = HeardLeg(rate_hz, self._receiver.came_at(row, heard, now_ns, now_ns))
        self._taps[row] = _Tap(command.path, now_ns, sent, heard, sent, leg)
        self._recorder.start((row, command.generation), command.path, rate_hz)

    def control(self, command: ControlRecording, now_ns: int) -> None:
        """Pause, resume or stop."""
        row, key = command.row, (command.row, command.generation)
        if self._recorder is None or row not in self._taps:
            self._emit(MediaProblem("this call is not being recorded", row, command.generation))
            return
        self._copy(row, now_ns)
        if command.action == "pause":
            self._recorder.pause(key)
        elif command.action == "resume":
            self._recorder.resume(key)
        elif command.action == "stop":
            del self._taps[row]
            self._recorder.stop(key)
        else:
            self._emit(MediaProblem(f"not an action on a recording: {command.action!r}", row, command.generation))

    def close(self, row: int, generation: int, now_ns: int) -> None:
        """The row's call is over: what is left is written, then the file is closed."""
        if self._recorder is not None and row in self._taps:
            self._copy(row, now_ns)
            del self._taps[row]
            self._recorder.stop((row, generation))

    def on_tick(self, tick: int, now_ns: int) -> None:
        """Hand over what has come since the last time, in every tenth of a second."""
        if tick % EVERY_TICKS == TURN:
            self.hand_over(now_ns)

    def hand_over(self, now_ns: int) -> None:
        """Hand over what has come since the last time, and tell which files are closed."""
        if self._recorder is None:
            return
        for row in self._taps:
            self._copy(row, now_ns)
        for ended in self._recorder.finished():
            tap = self._taps.get(ended.row)
            if tap is not None and tap.path == ended.path:  # its file could not be opened or written
                del self._taps[ended.row]
            self._emit(ended)

    def shut_down(self) -> None:
        """Close every file."""
        if self._recorder is not None:
            self._recorder.close()
            for ended in self._recorder.finished():
                self._emit(ended)

    def _copy(self, row: int, now_ns: int) -> None:
        assert self._recorder is not None
        table, tap = self._table, self._taps[row]
        rx_head, tx_clock = int(table.rx_head[row]), int(table.tx_clock[row])
        # A ring at most: a plane that was stopped for longer leaves a gap, which the recorder writes as silence.
        rx_from, tx_from = max(tap.rx_read, rx_head - RX_RING), max(tap.tx_read, tx_clock - SENT_RING)
        tap.heard.at += rx_from - tap.rx_read
        came_at = self._receiver.came_at(row, rx_head, tap.start_ns, now_ns) - (rx_head - rx_from)
        heard, heard_at = tap.heard.place(_cut(table.rx_pcm[row], rx_from, rx_head), came_at)
        sent = _cut(table.sent_pcm[row], tx_from, tx_clock)
        self._recorder.append((row, int(table.generation[row])), heard, sent, heard_at, tx_from - tap.tx_start)
        tap.rx_read, tap.tx_read = rx_head, tx_clock


def _cut(ring: NDArray[np.int16], start: int, end: int) -> NDArray[np.int16]:
    """A copy of ring positions [start, end)."""
    return np.take(ring, np.arange(start, end), mode="wrap")
