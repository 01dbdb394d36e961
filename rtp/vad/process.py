"""The process `sipagent-vad`: the ears of one media plane.

Start recipe: call `run` as the entry of a child process, with

    control          one end of a SOCK_SEQPACKET pair; nothing is said on it, its closing ends the process
    table_fd, rows   the memfd of the call table and its number of rows
    options          EarsOptions
    wake_fd          eventfd (EFD_NONBLOCK) that the media plane writes when it has samples of a row that is listened to
    worker_wake_fds  eventfd per worker, indexed by the column `worker`

Whoever starts it sets OPENBLAS_NUM_THREADS=1 beforehand: the products are small, and a second thread only spins.
A wake_fd that stays silent is no error: while they listen to a row, the ears look by themselves every 10 ms, and else
every 200. They may die and be started again at any time.
"""

import contextlib
import gc
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Final

from sipagent.rtp.table import CallTable
from sipagent.rtp.vad.ears import Ears
from sipagent.rtp.vad.options import EarsOptions

LOOK_MS: Final = 10  # by ourselves, when nobody wakes us …
IDLE_MS: Final = 200  # … and no row is listened to
_REST_S: Final = 0.008  # between steps: windows last 32 ms, and a larger batch costs less per window


def run(
    control: socket.socket,
    table_fd: int,
    rows: int,
    options: EarsOptions,
    wake_fd: int,
    worker_wake_fds: Sequence[int],
) -> None:
    """Hear until `control` is closed at the other end. Raises ConfigError when the model cannot be loaded."""

    def wake(worker: int) -> None:
        if worker < len(worker_wake_fds):
            with contextlib.suppress(BlockingIOError):  # its counter is full: it will wake anyway
                os.eventfd_write(worker_wake_fds[worker], 1)

    ears = Ears(CallTable(table_fd, rows), options, wake)
    gc.freeze()
    waiting = select.poll()
    waiting.register(control, select.POLLIN | select.POLLHUP)
    waiting.register(wake_fd, select.POLLIN)
    while True:
        ready = dict(waiting.poll(LOOK_MS if ears.listens else IDLE_MS))
        if control.fileno() in ready and _is_closed(control):
            return
        if wake_fd in ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(wake_fd)
        ears.step(time.monotonic())
        time.sleep(_REST_S)


def _is_closed(control: socket.socket) -> bool:
    try:
        return not control.recv(4096, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
