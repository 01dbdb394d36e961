"""A call table that plays the media plane's part for the ears, in virtual time."""

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import SPEECH_EVENTS, CallTable
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
        self.table.listened[:] = self.table.reflex[:] = 1
        self.ears = Ears(self.table, options or EarsOptions(), self.woken.append)
        self.events: list[list[tuple[bool, int]]] = [[] for _ in range(rows)]
        self.told: list[list[tuple[int, bool]]] = [[] for _ in range(rows)]  # rx position at which it was told
        self._noted = np.zeros(rows, np.int64)
        self.probabilities: list[NDArray[np.float32]] = []
        for row in range(rows):
            self.open(row, generation=1)

    def open(self, row: int, generation: int) -> None:
        self.table.generation[row] = generation
        self.table.rx_head[row] = 0
        self.table.tx_clock[row] = 0
        self.table.active[row] = 1
        self.ears.step(self.now)

    def hear(self, *pcm: NDArray[np.int16]) -> None:
        """Row n receives pcm[n], all of one length, and nothing is sent."""
        length = min(len(each) for each in pcm)
        received = np.stack([each[:length] for each in pcm])
        self.hear_all(received, np.zeros_like(received))

    def hear_all(self, received: NDArray[np.int16], sent: NDArray[np.int16]) -> None:
        """Row n receives received[n] while sent[n] leaves it."""
        rows = np.arange(len(received))
        for start in range(0, received.shape[1] - self.packet + 1, self.packet):
            self.now += 0.02
            span = slice(start, start + self.packet)
            for ring, clock, pcm in (
                (self.table.rx_pcm, self.table.rx_head, received),
                (self.table.sent_pcm, self.table.tx_clock, sent),
            ):
                position = clock[rows, None] + np.arange(self.packet)
                ring[rows[:, None], position & (ring.shape[1] - 1)] = pcm[:, span]
                clock[rows] += self.packet
            self.ears.step(self.now)
            self.probabilities.append(self.table.speech_probability.copy())
            for row in np.flatnonzero(self.table.speech_count[rows] != self._noted[rows]):
                self._note(int(row))

    def _note(self, row: int) -> None:
        count = int(self.table.speech_count[row])
        for number in range(len(self.events[row]), count):
            self.events[row].append((number % 2 == 0, int(self.table.speech_at[row, number % SPEECH_EVENTS])))
            self.told[row].append((int(self.table.rx_head[row]), number % 2 == 0))
        self._noted[row] = count

    def speaking(self, row: int) -> bool:
        return bool(self.table.speech_count[row] & 1)
