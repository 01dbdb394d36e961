"""Turns: batches in which no row occurs twice, as everything behind wants them, and no row more often than others bear.

A line that stalled brings several packets of a row at once; they take turns. What is more than `TURNS` waits for the
next tick, and beyond `MAX_WAITING` it is dropped: a far end that floods us, or somebody who forges its address, must
not cost the other calls their deadlines.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.packet import Batch

Rows = NDArray[np.intp]

TURNS: Final = 8  # packets of one row that a tick deals with …
TURNS_OF_A_FLOOD: Final = 1  # … and where more come than can wait: half a millisecond each, one by one
MAX_WAITING: Final = 256  # packets of one row that wait for the next ticks: five seconds in which we were stopped
MAX_HELD_UP: Final = MAX_WAITING // TURNS + 8  # ticks; then it is a flood, and the clock of the row goes on

_NO_ROWS: Final = np.zeros(0, np.intp)


class Turns:
    """What has come and is not dealt with yet.

    `dropped` u8[rows] counts packets that nobody could wait for. `held_up` bool[rows] is set for the rows whose packets
    are late because of us: what seems to be missing there is not lost, and the line's own delay cannot be told.
    """

    def __init__(self, dropped: NDArray[np.uint64], held_up: NDArray[np.bool_]) -> None:
        self._dropped = dropped
        self._held_up = held_up
        self._held_up_ticks = np.zeros(len(held_up), np.int64)
        self._waiting: Batch | None = None
        self._in_kernel = _NO_ROWS  # rows of which the last tick had not taken all
        self._behind = False  # somebody was, in the last tick

    def take(self, came: list[Batch], in_kernel: Rows = _NO_ROWS, *, stopped: bool = False) -> list[Batch]:
        """What this tick deals with: of what waited and of what `came`, in the order of each row.

        `in_kernel` are rows of which more is there than came; `stopped`: this tick begins so late that all are late.
        """
        late = stopped or self._waiting is not None or len(in_kernel) > 0 or len(self._in_kernel) > 0
        if not late and len(came) <= 1 and all(_each_row_once(batch) for batch in came):
            if self._behind:
                self._hold_up(np.zeros(len(self._held_up), np.bool_))
            return came
        behind = np.full(len(self._held_up), stopped)
        behind[self._in_kernel] = behind[in_kernel] = True
        self._in_kernel = in_kernel
        batches = came
        if self._waiting is not None:
            behind[self._waiting.rows] = True
            batches = [self._waiting, *came]
            self._waiting = None
        taken = self._share(_join(batches), stopped=stopped) if batches else []
        if self._waiting is not None:
            behind[self._waiting.rows] = True
        self._hold_up(behind)
        return taken

    def _share(self, batch: Batch, *, stopped: bool) -> list[Batch]:
        rows, turn = batch.rows, _turns(batch.rows)
        turns = np.full(len(self._held_up), TURNS)
        if not stopped:
            turns[rows[turn >= TURNS + MAX_WAITING]] = TURNS_OF_A_FLOOD
        late = turn >= turns[rows]
        if late.any():
            waits = late & (turn < turns[rows] + MAX_WAITING)
            np.add.at(self._dropped, rows[late & ~waits], np.uint64(1))
            self._waiting = batch.take(np.flatnonzero(waits))
        taken = [np.flatnonzero((turn == number) & ~late) for number in range(min(TURNS, int(turn.max()) + 1))]
        return [batch.take(chosen) for chosen in taken if len(chosen)]

    def forget(self, row: int) -> None:
        """The row goes to another far end, or its call is over: what waits is not heard any more."""
        if self._waiting is not None:
            others = np.flatnonzero(self._waiting.rows != row)
            self._waiting = self._waiting.take(others) if len(others) else None

    def _hold_up(self, behind: NDArray[np.bool_]) -> None:
        self._behind = bool(behind.any())
        self._held_up_ticks = np.where(behind, self._held_up_ticks + 1, 0)
        self._held_up[:] = behind & (self._held_up_ticks <= MAX_HELD_UP)


def in_turns(batch: Batch) -> Iterator[Batch]:
    """All of `batch` in batches in which no row occurs twice, in the order of each row."""
    if _each_row_once(batch):
        yield batch
        return
    turn = _turns(batch.rows)
    for number in range(int(turn.max()) + 1):
        yield batch.take(np.flatnonzero(turn == number))


def _each_row_once(batch: Batch) -> bool:
    return len(set(batch.rows.tolist())) == len(batch)


def _turns(rows: Rows) -> NDArray[np.intp]:
    """How many packets of the same row come before each, [n]."""
    order = np.argsort(rows, kind="stable")
    sorted_rows = rows[order]
    everyone = np.arange(len(rows))
    first = np.maximum.accumulate(np.where(np.diff(sorted_rows, prepend=-1) != 0, everyone, 0))
    turn = np.empty(len(rows), np.intp)
    turn[order] = everyone - first
    return turn


def _join(batches: Sequence[Batch]) -> Batch:
    """One batch of all, as wide as the widest."""
    if len(batches) == 1:
        return batches[0]
    data = np.zeros((sum(map(len, batches)), max(batch.data.shape[1] for batch in batches)), np.uint8)
    at = 0
    for batch in batches:
        data[at : at + len(batch), : batch.data.shape[1]] = batch.data
        at += len(batch)
    return Batch(
        np.concatenate([batch.rows for batch in batches]), data, np.concatenate([batch.length for batch in batches])
    )
