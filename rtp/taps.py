"""Recording: what rows hear and send is handed to the recorder, a tenth of a second at a time."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.control import ControlRecording, Event, MediaProblem, Record
from sipagent.rtp.recording import Recorder
from sipagent.rtp.table import RX_RING, SENT_RING, CallTable

EVERY_TICKS: Final = 20
TURN: Final = 14  # of each of these


class RecordingTaps:
    """Reads the rings of the rows that are recorded; the recorder's thread does the rest."""

    def __init__(self, table: CallTable, emit: Callable[[Event], None]) -> None:
        self._table = table
        self._emit = emit
        self._recorder: Recorder | None = None  # its thread is started with the first recording
        self._cursors: dict[int, tuple[int, int, int, int]] = {}  # row: rx and tx at the start, rx and tx read so far

    def start(self, command: Record) -> None:
        """Record from now on; position 0 of the file is this moment on both clocks."""
        if self._recorder is None:
            self._recorder = Recorder()
        row = command.row
        if row in self._cursors:
            self._emit(MediaProblem("this call is being recorded already", row, command.generation))
            return
        heard, sent = int(self._table.rx_head[row]), int(self._table.tx_clock[row])
        self._cursors[row] = (heard, sent, heard, sent)
        self._recorder.start((row, command.generation), command.path, int(self._table.rate_hz[row]))

    def control(self, command: ControlRecording) -> None:
        """Pause, resume or stop."""
        row, key = command.row, (command.row, command.generation)
        if self._recorder is None or row not in self._cursors:
            self._emit(MediaProblem("this call is not being recorded", row, command.generation))
            return
        self._copy(row)
        if command.action == "pause":
            self._recorder.pause(key)
        elif command.action == "resume":
            self._recorder.resume(key)
        elif command.action == "stop":
            del self._cursors[row]
            self._recorder.stop(key)
        else:
            self._emit(MediaProblem(f"not an action on a recording: {command.action!r}", row, command.generation))

    def close(self, row: int, generation: int) -> None:
        """The row's call is over: what is left is written, then the file is closed."""
        if self._recorder is not None and row in self._cursors:
            self._copy(row)
            del self._cursors[row]
            self._recorder.stop((row, generation))

    def on_tick(self, tick: int) -> None:
        """Hand over what has come since the last time, in every tenth of a second."""
        if tick % EVERY_TICKS == TURN:
            self.hand_over()

    def hand_over(self) -> None:
        """Hand over what has come since the last time, and tell which files are closed."""
        if self._recorder is None:
            return
        for row in self._cursors:
            self._copy(row)
        for ended in self._recorder.finished():
            self._emit(ended)

    def shut_down(self) -> None:
        """Close every file."""
        if self._recorder is not None:
            self._recorder.close()
            for ended in self._recorder.finished():
                self._emit(ended)

    def _copy(self, row: int) -> None:
        assert self._recorder is not None
        table = self._table
        rx_start, tx_start, rx_read, tx_read = self._cursors[row]
        rx_head, tx_clock = int(table.rx_head[row]), int(table.tx_clock[row])
        # Half a ring at most: a plane that was stopped for longer leaves a gap, which the recorder writes as silence.
        rx_from, tx_from = max(rx_read, rx_head - RX_RING // 2), max(tx_read, tx_clock - SENT_RING // 2)
        self._recorder.append(
            (row, int(table.generation[row])),
            _cut(table.rx_pcm[row], rx_from, rx_head),
            _cut(table.sent_pcm[row], tx_from, tx_clock),
            rx_from - rx_start,
            tx_from - tx_start,
        )
        self._cursors[row] = (rx_start, tx_start, rx_head, tx_clock)


def _cut(ring: NDArray[np.int16], start: int, end: int) -> NDArray[np.int16]:
    """A copy of ring positions [start, end)."""
    return np.take(ring, np.arange(start, end), mode="wrap")
