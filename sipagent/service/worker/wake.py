"""Which conversations have something to do: found for all rows of a call table at once."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import CallTable


class Polled(Protocol):
    """What has a row."""

    def poll(self) -> None:
        """The row has moved: audio came, was played, or the caller began or stopped to speak."""


Item = TypeVar("Item", bound=Polled)


class RowWatch(Generic[Item]):
    """The rows of one table that are watched; `moved` yields those that changed since it was last asked."""

    def __init__(self, table: CallTable) -> None:
        self._table = table
        self._items: dict[int, Item] = {}
        self._rows: NDArray[np.intp] = np.empty(0, np.intp)
        self._seen: NDArray[np.int64] = np.empty((0, 4), np.int64)

    def add(self, row: int, item: Item) -> None:
        """Watch a row; it counts as moved."""
        self._items[row] = item
        self._renew()

    def remove(self, row: int) -> None:
        """Watch it no more."""
        self._items.pop(row, None)
        self._renew()

    def moved(self) -> Iterator[Item]:
        """Those whose receive or playout clock, flushes or speech events have moved."""
        table, rows = self._table, self._rows
        if not len(rows):
            return
        now = np.stack(
            (table.rx_head[rows], table.tx_read[rows], table.tx_flush_done[rows], table.speech_count[rows]), axis=1
        )
        changed = (now != self._seen).any(axis=1)
        self._seen = now
        for row in rows[changed].tolist():
            if row in self._items:  # one that was polled before may have ended another
                yield self._items[row]

    def _renew(self) -> None:
        self._rows = np.fromiter(self._items, np.intp, len(self._items))
        self._seen = np.full((len(self._rows), 4), -1, np.int64)
