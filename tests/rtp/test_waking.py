import os

import numpy as np

from sipagent.rtp.waking import WAKE_TICKS, Waker


def written(fd: int) -> int:
    """How often the eventfd was written since the last look."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def test_a_worker_is_woken_once_for_all_that_moved_in_some_ticks_and_for_nothing_else() -> None:
    first, second, ears = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3))
    try:
        waker = Waker((first, second), ears)
        for tick in range(WAKE_TICKS):
            waker.wake(1 + tick, np.array([0, 0, -1] if tick == 0 else [], np.int16))
        assert (written(first), written(second), written(ears)) == (1, 0, 1)
        for tick in range(3 * WAKE_TICKS):
            waker.wake(1 + WAKE_TICKS + tick, np.array([], np.int16))
        assert (written(first), written(second), written(ears)) == (0, 0, 0)
    finally:
        for fd in (first, second, ears):
            os.close(fd)
