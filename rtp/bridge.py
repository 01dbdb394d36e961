"""Two rows joined: each hears what the other receives, and the agent who talks in one of them.

Packets come when they please and leave on our clock, so the other side is heard a little later than it was received:
as late as its row waits for a gap. Up to there its time line is complete, and nothing is torn apart by a packet that
was merely late. The deadline is the line's own and moves; a reader that is not where it belongs goes there while the
other side is silent.

    rx ring of the other row   ──────────────┬──────────────────┬─────►
                                      read here     deadline    rx_head
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs.resample import Resampler
from sipagent.rtp.receive import Receiver
from sipagent.rtp.ring import RingColumn
from sipagent.rtp.send import Sender
from sipagent.rtp.table import FAR_END, OTHER_SIDE, CallTable

Rows = NDArray[np.intp]

MOST_BEHIND: Final = 6  # packets that may wait beyond the deadline; more come from a clock that is faster than ours
SILENCE: Final = 64  # samples of no more than this are moved over unheard, -54 dBFS
ASTRAY_MS: Final = 5  # a reader this much too early is brought back
_NOBODY: Final = -1


class Bridges:
    """All joined rows; a mixer of the Sender."""

    def __init__(self, table: CallTable, sender: Sender, receiver: Receiver) -> None:
        rows = table.rows
        self._table, self._sender, self._receiver = table, sender, receiver
        self.filled_ns = 0  # when time lines were filled last; the owner keeps it
        self._received = RingColumn(table.rx_pcm)
        self._speech = RingColumn(table.tx_pcm)
        self._other = np.full(rows, _NOBODY, np.intp)  # the row that each is joined with
        self._apart = np.zeros(rows, np.bool_)  # joined, but for the agent's sake alone
        self._heard = np.zeros(rows, np.int64)  # read position in the other's rx ring; below 0 = not begun
        self._has_agent = np.zeros(rows, np.bool_)
        self._spoken = np.zeros(rows, np.int64)  # read position in the other's tx ring
        self._flushed = np.zeros(rows, np.int64)
        self._busy = np.zeros(rows, np.bool_)  # joined, or parted while the agent still spoke to the other side
        self._resamplers = {
            (what, from_hz): Resampler(rows, from_hz, 24000 - from_hz)
            for what in ("heard", "spoken")
            for from_hz in (8000, 16000)
        }
        sender.add_mixer(self.mix, self._busy)

    def join(self, row: int, other: int, *, agent: bool, apart: bool) -> None:
        """Join two rows that are both open, or change how they are; ValueError when that makes no sense.

        `agent`: the one of `row` is heard by whom `tx_audience` names, else by nobody. `apart`: by the agent only, the
        two do not hear each other.
        """
        if row == other:
            raise ValueError("a row cannot be joined with itself")
        both = np.array([row, other])
        if self._other[row] != other:
            self.part(row)
            self.part(other)
            self._other[both] = other, row
            self._heard[both] = _NOBODY
            for resampler in self._resamplers.values():
                resampler.reset(both)
        elif self._apart[row] and not apart:
            self._heard[both] = _NOBODY
        self._apart[both] = apart
        if agent and not self._has_agent[row]:
            self._spoken[other] = self._table.tx_read[row]
            self._flushed[other] = self._table.tx_flush_done[row]
        self._has_agent[both] = agent, False
        self._busy[both] = True
        self._sender.mute(both, not agent)
        self._sender.route(row, agent)

    def part(self, row: int) -> None:
        """Part the row from the one it is joined with, if any; what the agent says to the other side stays unheard."""
        other = int(self._other[row])
        if other == _NOBODY:
            return
        both = np.array([row, other])
        self._other[both] = _NOBODY
        self._has_agent[both] = False
        self._busy[both] = self._sender.routed[both]
        self._sender.mute(both, False)

    def close(self, row: int) -> None:
        """The row's call is over."""
        self.part(row)
        self._busy[row] = False

    def mix(self, rows: Rows, samples: int) -> tuple[Rows, NDArray[np.float32]]:
        """The other sides' share of the next packet of `rows`: (rows that are joined, f4[n, samples])."""
        busy = rows[self._busy[rows]]
        parted = self._other[busy] == _NOBODY
        if parted.any():
            self._forget(busy[parted])
            busy = busy[~parted]
        sound = np.zeros((len(busy), samples), np.float32)
        if not len(busy):
            return busy, sound
        to_hz = int(self._table.rate_hz[busy[0]])  # rows whose packets have the same form
        from_hz = self._table.rate_hz[self._other[busy]]
        for each in np.unique(from_hz).tolist():
            same = np.flatnonzero(from_hz == each)
            alike = busy[same]
            count = samples * each // to_hz
            near = ~self._apart[alike]
            if near.any():
                sound[same[near]] += self._convert("heard", alike[near], self._hear(alike[near], count, each), to_hz)
            with_agent = self._has_agent[self._other[alike]]
            if with_agent.any():
                listening = alike[with_agent]
                sound[same[with_agent]] += self._convert("spoken", listening, self._overhear(listening, count), to_hz)
        return busy, sound

    def _forget(self, rows: Rows) -> None:
        """Rows that were parted, and whose agent speaks to its own far end again, are nothing special any more."""
        own = rows[self._table.tx_audience[rows] == FAR_END]
        self._busy[own] = False
        for row in own.tolist():
            self._sender.route(row, False)

    def _hear(self, rows: Rows, count: int, rate_hz: int) -> NDArray[np.int16]:
        """What the other sides of `rows` [n] received, i2[n, count]; moves the read positions."""
        other = self._other[rows]
        head = self._table.rx_head[other]
        goal = self._receiver.complete(other, self.filled_ns) - count
        start = self._heard[rows]
        # Before its first packet it is not known when the other line's packets come.
        goal = np.where(self._table.rx_last_ns[other] > 0, goal, -1)
        start = np.where((start < 0) | (goal - start > MOST_BEHIND * count), goal, start)
        there = (start >= 0) & (head - start >= count)
        pcm = self._received.read(other, np.maximum(start, 0), count)
        pcm[~there] = 0  # it has not come yet, and is heard in the next packet
        astray = goal - start
        # Earlier only from more than a packet behind: whether the last one has come is a matter of phase.
        move = there & ((astray < -ASTRAY_MS * rate_hz // 1000) | (astray > count)) & _silent(pcm)
        ahead = np.flatnonzero(move & (astray > 0))
        if len(ahead):
            move[ahead] = _silent(self._received.read(other[ahead], start[ahead] + count, count))
        self._heard[rows] = start + count * there + np.clip(astray, -count, count) * move
        return pcm

    def _overhear(self, rows: Rows, count: int) -> NDArray[np.int16]:
        """What the agents of the other sides of `rows` [n] said to them, i2[n, count]: what has left, never before."""
        other, table = self._other[rows], self._table
        flushed, read = table.tx_flush_done[other], table.tx_read[other]
        start = self._spoken[rows]
        start = np.where((flushed != self._flushed[rows]) | (read - start > MOST_BEHIND * count), read, start)
        ready = np.minimum(read - start, count)
        pcm = self._speech.read(other, start, count)
        meant = (table.tx_audience[other] & OTHER_SIDE) != 0
        pcm[(np.arange(count) >= ready[:, None]) | ~meant[:, None]] = 0
        self._spoken[rows] = start + ready
        self._flushed[rows] = flushed
        return pcm

    def _convert(self, what: str, rows: Rows, pcm: NDArray[np.int16], to_hz: int) -> NDArray[np.int16]:
        from_hz = int(self._table.rate_hz[self._other[rows[0]]])
        return pcm if from_hz == to_hz else self._resamplers[what, from_hz].process(rows, pcm)


def _silent(pcm: NDArray[np.int16]) -> NDArray[np.bool_]:
    silent: NDArray[np.bool_] = (pcm.max(axis=1) <= SILENCE) & (pcm.min(axis=1) >= -SILENCE)
    return silent
