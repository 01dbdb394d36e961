"""The reflex: the agent lowers its voice the moment the caller begins to speak, before any worker has reacted."""

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import CallTable

Rows = NDArray[np.intp]


class Reflex:
    """Sets and clears the column `duck`."""

    def __init__(self, table: CallTable, duck_ms: int) -> None:
        self._table = table
        self._duck_s = duck_ms / 1000
        self._since_s = np.zeros(table.rows, np.float64)
        self._flush_to = np.zeros(table.rows, np.int64)  # as it was when the row was ducked

    def duck(self, rows: Rows, now: float) -> None:
        """The caller began to speak in `rows`; those whose agent is talking, and whose route allows it, are ducked."""
        table = self._table
        rows = rows[(table.reflex[rows] != 0) & (table.tx_head[rows] > table.tx_read[rows])]
        self._since_s[rows] = now
        self._flush_to[rows] = table.tx_flush_to[rows]
        table.duck[rows] = 1

    def raise_again(self, rows: Rows) -> None:
        """The caller is silent again in `rows`, or they belong to another call now."""
        self._table.duck[rows] = 0

    def settle(self, now: float) -> None:
        """Raise rows whose worker has decided (its flush is carried out), whose time is up, or whose call is over."""
        table = self._table
        rows = np.flatnonzero(table.duck)
        if not rows.size:
            return
        flush_to = table.tx_flush_to[rows]
        flushed = (flush_to != self._flush_to[rows]) & (table.tx_flush_done[rows] >= flush_to)
        done = flushed | (now - self._since_s[rows] >= self._duck_s) | (table.active[rows] == 0)
        table.duck[rows[done]] = 0
