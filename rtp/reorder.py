"""The packets of each row that wait for an earlier one."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.formats import MAX_PAYLOAD

Rows = NDArray[np.intp]

SLOTS: Final = 32  # packets that may wait: 640 ms at 20 ms each
HISTORY: Final = 128  # sequence numbers remembered to tell a duplicate from a late packet; > MAX_MISORDER
NOBODY: Final = 1 << 60


class ReorderBuffer:
    """Slots by extended sequence number; everything here is arrays of one row per call."""

    def __init__(self, rows: int) -> None:
        self._payload = np.zeros((rows, SLOTS, MAX_PAYLOAD), np.uint8)
        self._sequence = np.full((rows, SLOTS), NOBODY, np.int64)  # NOBODY = the slot is empty
        self._position = np.zeros((rows, SLOTS), np.int64)
        self._timestamp = np.zeros((rows, SLOTS), np.int64)
        self._length = np.zeros((rows, SLOTS), np.int64)
        self._kind = np.zeros((rows, SLOTS), np.int64)
        self._history = np.full((rows, HISTORY), -1, np.int64)
        self.waiting = np.zeros(rows, np.int64)  # packets in the slots of a row

    def clear(self, rows: Rows) -> None:
        """Drop what waits and what is remembered."""
        self._sequence[rows] = NOBODY
        self._history[rows] = -1
        self.waiting[rows] = 0

    def seen(self, rows: Rows, sequence: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True where this extended sequence number came before."""
        return self._history[rows, sequence & (HISTORY - 1)] == sequence  # type: ignore[no-any-return]

    def remember(self, rows: Rows, sequence: NDArray[np.int64]) -> None:
        """Note that these extended sequence numbers have come."""
        self._history[rows, sequence & (HISTORY - 1)] = sequence

    def remember_all(self, rows: Rows, start: NDArray[np.int64], end: NDArray[np.int64]) -> None:
        """Note that all numbers from `start` [n] up to `end` [n], without it, have come."""
        number = end[:, None] - 1 - np.arange(HISTORY)
        inside = number >= start[:, None]
        slot = number & (HISTORY - 1)
        self._history[rows[:, None], slot] = np.where(inside, number, self._history[rows[:, None], slot])

    def has_room(self, rows: Rows, sequence: NDArray[np.int64]) -> NDArray[np.bool_]:
        """True where no other packet waits in the slot of this one: the row has not SLOTS numbers in flight."""
        return self._sequence[rows, sequence & (SLOTS - 1)] == NOBODY  # type: ignore[no-any-return]

    def store(
        self,
        rows: Rows,
        sequence: NDArray[np.int64],
        position: NDArray[np.int64],
        timestamp: NDArray[np.int64],
        kind: NDArray[np.int64],
        payload: NDArray[np.uint8],
        length: NDArray[np.int64],
    ) -> None:
        """Keep one packet per row, of which `has_room` is true."""
        slot = sequence & (SLOTS - 1)
        self._payload[rows, slot, : payload.shape[1]] = payload
        self._sequence[rows, slot] = sequence
        self._position[rows, slot] = position
        self._timestamp[rows, slot] = timestamp
        self._length[rows, slot] = length
        self._kind[rows, slot] = kind
        self.waiting[rows] += 1

    def earliest(self, rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.intp]]:
        """(sequence, position, slot) of the first waiting packet of each row; sequence NOBODY where none waits."""
        sequences = self._sequence[rows]
        slot = sequences.argmin(axis=1)
        everyone = np.arange(len(rows))
        sequence = sequences[everyone, slot]
        position = np.where(sequence == NOBODY, NOBODY, self._position[rows, slot])
        return sequence, position, slot

    def peek(
        self, rows: Rows, slot: NDArray[np.intp]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        """What waits in a slot of each row: (kind, payload u1[n, MAX_PAYLOAD], length)."""
        return self._kind[rows, slot], self._payload[rows, slot], self._length[rows, slot]

    def take(
        self, rows: Rows, slot: NDArray[np.intp]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        """Remove one packet per row: (timestamp, kind, payload u1[n, MAX_PAYLOAD], length)."""
        self._sequence[rows, slot] = NOBODY
        self.waiting[rows] -= 1
        return self._timestamp[rows, slot], self._kind[rows, slot], self._payload[rows, slot], self._length[rows, slot]
