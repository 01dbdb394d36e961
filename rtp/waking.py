"""Waking the processes that read the call table: one eventfd per worker, written at most once in WAKE_TICKS ticks."""

import contextlib
import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.table import CallTable

Rows = NDArray[np.intp]

WAKE_TICKS: Final = 2  # 10 ms: to be woken costs a worker more than what it then does, and packets come each 20 ms


class Waker:
    """`wake_fds[i]` belongs to worker i of `table`, `ears_fd` to the ears (-1 = none)."""

    def __init__(self, table: CallTable, wake_fds: tuple[int, ...], ears_fd: int) -> None:
        self._table = table
        self._wake_fds = wake_fds
        self._ears_fd = ears_fd
        self._woken_tick = 0
        self._moved: set[int] = set()  # workers of rows that moved since they were woken last
        self._heard = False  # a row that the ears listen to is among them
        for fd in (*wake_fds, ears_fd):
            if fd >= 0:
                os.set_blocking(fd, False)

    def wake(self, tick: int, rows: Rows) -> None:
        """A tick is over, in which `rows` [n] moved."""
        if len(rows):
            self._moved.update(self._table.worker[rows].tolist())
            self._heard = self._heard or bool(self._table.listened[rows].any())
        early = tick % WAKE_TICKS != 0 and tick - self._woken_tick < WAKE_TICKS
        if early or not self._moved:
            return
        self._woken_tick = tick
        if self._ears_fd >= 0 and self._heard:
            _write(self._ears_fd)
            self._heard = False
        for worker in self._moved:
            if 0 <= worker < len(self._wake_fds):
                _write(self._wake_fds[worker])
        self._moved.clear()


def _write(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):  # it has not read the last 2⁶⁴ wake-ups: it will see this one too
        os.eventfd_write(fd, 1)
