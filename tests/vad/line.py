"""A call table that plays the media plane's part for the ears, in virtual time."""

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import RX_RING, SENT_RING, SPEECH_EVENTS, CallTable
from sipagent.rtp.vad.ears import Ears
from sipagent.rtp.vad.options import EarsOptions


class Line:
    """Rows that receive (and send) what a test says, in packets of 20 ms, with the ears stepping after each packet."""

    def __init__(self, rows: int, options: EarsOptions | None = None, rate_hz: int = 8000) -> None:
        self.table, self._fd = CallTable.create(rows)
        self.rate_hz = rate_hz
        self.packet = rate_hz // 50
        self.woken: list[int] = []
        self.now = 1000.0
        self.table.rate_hz[:] = rate_hz
        self.table.worker[:] = np.arange(rows)
        self.table.reflex[:] = 1
        self.ears = Ears(self.table, options or EarsOptions(), self.woken.append)
        self.events: list[list[tuple[bool, int]]] = [[] for _ in range(rows)]
        self.probabilities: list[NDArray[np.float32]] = []
        for row in range(rows):
            self.open(row, generation=1)

    def open(self, row: int, generation: int) -> None:
        self.table.generation[row] = generation
        self.table.rx_head[row] = 0
        self.table.tx_clock[row] = 0
        self.table.active[row] = 1
        self.ears.step(self.now)

    def hear(self, *pcm: NDArray[np.int16], sent: NDArray[np.int16] | None = None) -> None:
        """Row n receives pcm[n], all of one length; `sent` leaves every row meanwhile."""
        length = min(len(each) for each in pcm)
        for start in range(0, length - self.packet + 1, self.packet):
            self.now += 0.02
            for row, samples in enumerate(pcm):
                head = int(self.table.rx_head[row])
                index = np.arange(head, head + self.packet) & (RX_RING - 1)
                self.table.rx_pcm[row, index] = samples[start : start + self.packet]
                self.table.rx_head[row] = head + self.packet
                clock = int(self.table.tx_clock[row])
                index = np.arange(clock, clock + self.packet) & (SENT_RING - 1)
                self.table.sent_pcm[row, index] = 0 if sent is None else sent[start : start + self.packet]
                self.table.tx_clock[row] = clock + self.packet
            self.ears.step(self.now)
            self.probabilities.append(self.table.speech_probability.copy())
            for row in range(len(pcm)):
                self._note(row)

    def _note(self, row: int) -> None:
        count = int(self.table.speech_count[row])
        for number in range(len(self.events[row]), count):
            self.events[row].append((number % 2 == 0, int(self.table.speech_at[row, number % SPEECH_EVENTS])))

    def speaking(self, row: int) -> bool:
        return bool(self.table.speech_count[row] & 1)
