"""Waking the processes that read the call table: one eventfd per worker, written at most once in WAKE_TICKS ticks."""

import contextlib
import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

WAKE_TICKS: Final = 2  # 10 ms: to be woken costs a worker more than what it then does, and packets come each 20 ms


class Waker:
    """`wake_fds[i]` belongs to worker i, `ears_fd` to the ears (-1 = none)."""

    def __init__(self, wake_fds: tuple[int, ...], ears_fd: int) -> None:
        self._wake_fds = wake_fds
        self._ears_fd = ears_fd
        self._woken_tick = 0
        self._moved: set[int] = set()  # workers of rows that moved since they were woken last
        for fd in (*wake_fds, ears_fd):
            if fd >= 0:
                os.set_blocking(fd, False)

    def wake(self, tick: int, workers: NDArray[np.int16]) -> None:
        """A tick is over; something moved in rows of these workers, i2[n], any number of times each, -1 = nobody's."""
        if len(workers):
            self._moved.update(workers.tolist())
        early = tick % WAKE_TICKS != 0 and tick - self._woken_tick < WAKE_TICKS
        if early or not self._moved:
            return
        self._woken_tick = tick
        if self._ears_fd >= 0:
            _write(self._ears_fd)
        for worker in self._moved:
            if 0 <= worker < len(self._wake_fds):
                _write(self._wake_fds[worker])
        self._moved.clear()


def _write(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):  # it has not read the last 2⁶⁴ wake-ups: it will see this one too
        os.eventfd_write(fd, 1)
