"""What the operator should hear of a call while it goes on, each problem once a call."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.control import Event, MediaProblem
from sipagent.rtp.latch import Address
from sipagent.rtp.table import COUNTER, CallTable
from sipagent.rtp.worker_columns import mend

Rows = NDArray[np.intp]


class Problems:
    """Looks for problems of the rows of `table`, and puts right what workers wrote.

    `remote(row)` is where a row's packets come from.
    """

    def __init__(
        self, table: CallTable, remote: Callable[[int], Address | None], emit: Callable[[Event], None]
    ) -> None:
        self._table = table
        self._remote = remote
        self._emit = emit
        self._flood_told = np.zeros(table.rows, np.bool_)
        self._kernel_told = np.zeros(table.rows, np.bool_)
        self._nonsense_told = np.zeros(table.rows, np.bool_)

    def open(self, row: int) -> None:
        """The row goes to a new call."""
        self._flood_told[row] = self._kernel_told[row] = self._nonsense_told[row] = False

    def look_round(self, rows: Rows) -> None:
        """Tell what is new of `rows` [n]; ten times a second is often enough."""
        for row in self._first("dropped_flood", rows, self._flood_told):
            host, port = self._remote(row) or ("nowhere", 0)
            self._tell(row, f"more packets than a call has come from {host}:{port}: the rest is dropped")
        for row in self._first("dropped_kernel", rows, self._kernel_told):
            count = int(self._table.counters[row, COUNTER["dropped_kernel"]])
            self._tell(row, f"the kernel dropped {count} packets of this call: too many came, or we were too slow")
        for column, wrong in mend(self._table, rows).items():
            for row in wrong[~self._nonsense_told[wrong]].tolist():
                self._nonsense_told[row] = True
                self._tell(row, f"the worker of this call wrote nonsense to {column}: it was put right")

    def _first(self, counter: str, rows: Rows, told: NDArray[np.bool_]) -> list[int]:
        """Rows that have counted something for the first time in their call."""
        new = rows[(self._table.counters[rows, COUNTER[counter]] > 0) & ~told[rows]]
        told[new] = True
        found: list[int] = new.tolist()
        return found

    def _tell(self, row: int, problem: str) -> None:
        self._emit(MediaProblem(problem, row, int(self._table.generation[row])))
