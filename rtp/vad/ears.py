"""The ears: voice activity of every call, one batch per step."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import RX_RING, SPEECH_EVENTS, CallTable
from sipagent.rtp.vad import onset, windows
from sipagent.rtp.vad.activity import Activity, Changes
from sipagent.rtp.vad.echo import EchoGate
from sipagent.rtp.vad.options import EarsOptions
from sipagent.rtp.vad.reflex import Reflex
from sipagent.rtp.vad.silero import CONTEXT, HIDDEN, WINDOW, Silero, model_path

_ROUNDS: Final = 16  # windows of one row in one step: half a second of backlog
_KEPT_AFTER_LAPPING: Final = RX_RING // 4

Rows = NDArray[np.intp]


class Ears:
    """Reads the receive rings and writes the ears' columns of `table`.

    `wake(worker)` is called at most once per step for each worker with news. A step with nothing to hear costs a few
    comparisons; a window more quiet than the gate never reaches the network.
    """

    def __init__(self, table: CallTable, options: EarsOptions, wake: Callable[[int], None]) -> None:
        self._table = table
        self._options = options
        self._wake = wake
        self.listens = False  # to any row, when it looked last
        self._silero = Silero(model_path(options.model_file))
        self._activity = Activity(table.rows, options)
        self._echo = EchoGate(table) if options.echo else None
        self._reflex = Reflex(table, options.duck_ms)
        self._gate_power = (32768 * 10 ** (options.gate_dbov / 20)) ** 2
        self._generation = np.zeros(table.rows, np.uint32)
        self._position = np.zeros(table.rows, np.int64)  # first sample not heard yet
        self._state = np.zeros((2, table.rows, HIDDEN), np.float32)

    def step(self, now: float) -> int:
        """Hear what came since the last step; returns the number of windows heard. `now` is in monotonic seconds."""
        self._reflex.settle(now)
        rows = np.flatnonzero(self._table.active & self._table.listened)
        self.listens = bool(rows.size)
        if not self.listens:
            return 0
        fresh = rows[self._table.generation[rows] != self._generation[rows]]
        if fresh.size:
            self._begin(fresh)
        workers: set[int] = set()
        heard = 0
        for _ in range(_ROUNDS):
            rows = self._due(rows)
            if not rows.size:
                break
            heard += rows.size
            changes = self._hear(rows)
            workers.update(self._tell(changes, now))
        for worker in workers - {-1}:
            self._wake(worker)
        return heard

    def _begin(self, rows: Rows) -> None:
        table = self._table
        self._activity.reset(rows)
        if self._echo:
            self._echo.reset(rows)
        self._reflex.raise_again(rows)
        self._state[:, rows] = 0
        self._position[rows] = table.rx_head[rows]
        self._generation[rows] = table.generation[rows]
        table.speech_probability[rows] = 0
        table.speech_count[rows] = 0
        table.speech_generation[rows] = table.generation[rows]  # last: readers believe the others from here on

    def _due(self, rows: Rows) -> Rows:
        """Those of `rows` that hold a whole window; rows that lapped us lose what the ring no longer holds."""
        head = self._table.rx_head[rows]
        position = np.minimum(self._position[rows], head)  # a head that fell back began to count anew
        position = np.where(head - position > RX_RING - _KEPT_AFTER_LAPPING, head - _KEPT_AFTER_LAPPING, position)
        self._position[rows] = position
        return rows[head - position >= self._window_samples(rows)]

    def _window_samples(self, rows: Rows) -> NDArray[np.int64]:
        rate = self._table.rate_hz[rows].astype(np.int64)
        return rate * WINDOW // windows.NETWORK_HZ

    def _hear(self, rows: Rows) -> Changes:
        table = self._table
        start = self._position[rows]
        rate_hz = table.rate_hz[rows]
        first = start // (rate_hz // windows.NETWORK_HZ) - CONTEXT
        samples = windows.narrowband(table.rx_pcm, rows, first, CONTEXT + WINDOW, rate_hz, table.rx_head[rows])
        verdict = None
        if self._echo:
            pending, speaking = self._activity.pending(rows), self._activity.speaking[rows]
            verdict = self._echo.judge(rows, start, samples, pending, speaking)
        new = samples[:, CONTEXT:]
        probability = np.zeros(len(rows), np.float32)
        audible = np.einsum("ns,ns->n", new, new) > self._gate_power * WINDOW
        loud = np.flatnonzero(audible if verdict is None else audible & ~verdict.explained)
        if loud.size:
            state = self._state[:, rows[loud]]
            probability[loud] = self._silero.step(samples[loud], state)
            self._state[:, rows[loud]] = state
        self._position[rows] = start + self._window_samples(rows)
        table.speech_probability[rows] = probability
        changes = self._activity.step(rows, probability, start, verdict.hold if verdict else None)
        self._state[:, self._activity.forgettable(rows)] = 0
        return changes

    def _tell(self, changes: Changes, now: float) -> list[int]:
        """Write the events of one round; returns the workers that they concern."""
        if changes.onset_rows.size:
            self._reflex.duck(changes.onset_rows, now)
            self._write(changes.onset_rows, self._backdated(changes.onset_rows, changes.onset_positions))
        if changes.offset_rows.size:
            self._reflex.raise_again(changes.offset_rows)
            self._write(changes.offset_rows, changes.offset_positions)
        workers: list[int] = self._table.worker[np.concatenate([changes.onset_rows, changes.offset_rows])].tolist()
        return workers

    def _backdated(self, rows: Rows, start: NDArray[np.int64]) -> NDArray[np.int64]:
        position = start.copy()
        for rate_hz in (8000, 16000):
            of_rate = np.flatnonzero(self._table.rate_hz[rows] == rate_hz)
            if of_rate.size:
                before, window = onset.span_samples(self._options.backdate_ms, rate_hz)
                pcm = windows.gather(self._table.rx_pcm, rows[of_rate], start[of_rate], before, window)
                position[of_rate] = onset.first_sample(pcm, start[of_rate], before, rate_hz)
        return position

    def _write(self, rows: Rows, position: NDArray[np.int64]) -> None:
        table = self._table
        count = table.speech_count[rows]
        table.speech_at[rows, count % SPEECH_EVENTS] = self._activity.settle(rows, position)
        table.speech_count[rows] = count + 1  # last: a reader that sees it finds the position
