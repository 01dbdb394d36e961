"""Two rows joined: each hears what the other receives, and the agent where that is wanted."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs.resample import Resampler
from sipagent.rtp.ring import RingColumn
from sipagent.rtp.send import Sender
from sipagent.rtp.table import CallTable

Rows = NDArray[np.intp]

MOST_BEHIND: Final = 6  # packets of the other side that may wait; more come from a clock that is faster than ours
HEARD_BY: Final = ("both", "a", "none")


@dataclass(slots=True)
class _Leg:
    """What one row takes from the other: `heard` and `agent` are read positions in the other's rings."""

    other: int
    heard: int
    agent: int | None = None  # None = this leg does not hear the other row's agent
    flushed: int = 0


class Bridges:
    """All joined rows; a mixer of the Sender."""

    def __init__(self, table: CallTable, sender: Sender) -> None:
        self._table = table
        self._sender = sender
        self._received = RingColumn(table.rx_pcm)
        self._speech = RingColumn(table.tx_pcm)
        self._legs: dict[int, _Leg] = {}
        self._bridged = np.zeros(table.rows, np.bool_)
        self._resamplers = {
            (what, from_hz): Resampler(table.rows, from_hz, 24000 - from_hz)
            for what in ("heard", "agent")
            for from_hz in (8000, 16000)
        }
        sender.add_mixer(self.mix, self._bridged)

    def join(self, row: int, other: int, agent_heard_by: str) -> None:
        """Join two rows that are both open; ValueError when that makes no sense."""
        if agent_heard_by not in HEARD_BY:
            raise ValueError(f"agent_heard_by is one of {', '.join(HEARD_BY)}, not {agent_heard_by!r}")
        if row == other:
            raise ValueError("a row cannot be joined with itself")
        self.part(row)
        self.part(other)
        head, table = self._table.rx_head, self._table
        self._legs[row] = _Leg(other, int(head[other]))
        self._legs[other] = _Leg(row, int(head[row]))
        if agent_heard_by == "both":
            self._legs[other].agent = int(table.tx_read[row])
            self._legs[other].flushed = int(table.tx_flush_done[row])
        self._bridged[[row, other]] = True
        self._sender.mute(np.array([row, other]), agent_heard_by == "none")
        for resampler in self._resamplers.values():
            resampler.reset(np.array([row, other]))

    def part(self, row: int) -> None:
        """Part the row from the one it is joined with, if any."""
        leg = self._legs.pop(row, None)
        if leg is None:
            return
        self._legs.pop(leg.other, None)
        self._bridged[[row, leg.other]] = False
        self._sender.mute(np.array([row, leg.other]), False)

    def mix(self, rows: Rows, samples: int) -> tuple[Rows, NDArray[np.float32]]:
        """The other sides' share of the next packet of `rows`: (rows that are joined, f4[n, samples])."""
        joined = rows[self._bridged[rows]]
        sound = np.zeros((len(joined), samples), np.float32)
        for index, row in enumerate(joined.tolist()):
            leg = self._legs[row]
            count = samples * int(self._table.rate_hz[leg.other]) // int(self._table.rate_hz[row])
            sound[index] = self._hear(row, leg, count)
            if leg.agent is not None:
                sound[index] += self._hear_agent(row, leg, count)
        return joined, sound

    def _hear(self, row: int, leg: _Leg, count: int) -> NDArray[np.int16]:
        head = int(self._table.rx_head[leg.other])
        if head - leg.heard > MOST_BEHIND * count:
            leg.heard = head - 2 * count
        if head - leg.heard < count:
            pcm = np.zeros((1, count), np.int16)  # its packet has not come yet; it will be heard in the next one
        else:
            pcm = self._received.read(np.array([leg.other]), np.array([leg.heard]), count)
            leg.heard += count
        return self._convert("heard", row, leg.other, pcm)

    def _hear_agent(self, row: int, leg: _Leg, count: int) -> NDArray[np.int16]:
        assert leg.agent is not None
        table = self._table
        flushed, read = int(table.tx_flush_done[leg.other]), int(table.tx_read[leg.other])
        if flushed != leg.flushed or read - leg.agent > MOST_BEHIND * count:
            leg.flushed, leg.agent = flushed, read
        pcm = np.zeros((1, count), np.int16)
        ready = min(count, read - leg.agent)  # what has left for the other side
        if ready > 0:
            pcm[:, :ready] = self._speech.read(np.array([leg.other]), np.array([leg.agent]), ready)
            leg.agent += ready
        return self._convert("agent", row, leg.other, pcm)

    def _convert(self, what: str, row: int, other: int, pcm: NDArray[np.int16]) -> NDArray[np.int16]:
        from_hz = int(self._table.rate_hz[other])
        if from_hz != int(self._table.rate_hz[row]):
            pcm = self._resamplers[what, from_hz].process(np.array([row]), pcm)
        first: NDArray[np.int16] = pcm[0]
        return first
