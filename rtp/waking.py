"""Waking the processes that read the call table: one eventfd per worker, written at most once per tick."""

import contextlib
import os

import numpy as np
from numpy.typing import NDArray


class Waker:
    """`wake_fds[i]` belongs to worker i, `ears_fd` to the ears (-1 = none)."""

    def __init__(self, wake_fds: tuple[int, ...], ears_fd: int) -> None:
        self._wake_fds = wake_fds
        self._ears_fd = ears_fd
        for fd in (*wake_fds, ears_fd):
            if fd >= 0:
                os.set_blocking(fd, False)

    def wake(self, workers: NDArray[np.int16]) -> None:
        """Something moved in rows of these workers, i2[n], any number of times each, -1 = nobody's."""
        if not len(workers):
            return
        if self._ears_fd >= 0:
            _write(self._ears_fd)
        hit = np.bincount(workers[workers >= 0], minlength=len(self._wake_fds))
        for worker in np.flatnonzero(hit[: len(self._wake_fds)]).tolist():
            _write(self._wake_fds[worker])


def _write(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):  # it has not read the last 2⁶⁴ wake-ups: it will see this one too
        os.eventfd_write(fd, 1)
