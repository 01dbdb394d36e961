import os
from collections.abc import Iterator

import numpy as np
import pytest

from sipagent.rtp.table import CallTable
from sipagent.rtp.waking import WAKE_TICKS, Waker

NOBODYS, FIRST, FIRST_TOO, SECOND = range(4)
NOTHING = np.zeros(0, np.intp)


@pytest.fixture
def fds() -> Iterator[tuple[int, int, int]]:
    """Of two workers and of the ears."""
    fds = tuple(os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3))
    yield fds  # type: ignore[misc]
    for fd in fds:
        os.close(fd)


@pytest.fixture
def table() -> CallTable:
    table, fd = CallTable.create(4)
    os.close(fd)
    table.worker[:] = (-1, 0, 0, 1)
    table.listened[:] = (0, 0, 1, 0)
    return table


def written(fd: int) -> int:
    """How often the eventfd was written since the last look."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def test_a_worker_is_woken_once_for_all_that_moved_in_some_ticks_and_for_nothing_else(
    table: CallTable, fds: tuple[int, int, int]
) -> None:
    waker = Waker(table, fds[:2], fds[2])
    for tick in range(1, 1 + WAKE_TICKS):
        waker.wake(tick, np.array([NOBODYS, FIRST, FIRST_TOO]) if tick == 1 else NOTHING)
    assert [written(fd) for fd in fds] == [1, 0, 1]
    for tick in range(1 + WAKE_TICKS, 1 + 4 * WAKE_TICKS):
        waker.wake(tick, NOTHING)
    assert [written(fd) for fd in fds] == [0, 0, 0]


def test_a_worker_is_woken_in_a_later_tick_when_its_own_was_slept_through(
    table: CallTable, fds: tuple[int, int, int]
) -> None:
    waker = Waker(table, fds[:2], fds[2])
    waker.wake(2 * WAKE_TICKS, np.array([SECOND]))
    assert written(fds[1]) == 1
    waker.wake(3 * WAKE_TICKS + 1, np.array([SECOND]))
    assert written(fds[1]) == 1


def test_the_ears_are_woken_for_rows_that_they_listen_to(table: CallTable, fds: tuple[int, int, int]) -> None:
    waker = Waker(table, fds[:2], fds[2])
    waker.wake(WAKE_TICKS, np.array([FIRST, SECOND]))
    assert [written(fd) for fd in fds] == [1, 1, 0]
    waker.wake(2 * WAKE_TICKS, np.array([FIRST_TOO]))
    assert [written(fd) for fd in fds] == [1, 0, 1]
