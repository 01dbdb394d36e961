"""The process of a media plane.

How the parent starts it: create the call table, one SEQPACKET pair and one eventfd per worker; fork (from a clean fork
server) a child that calls `run(control, table_fd, options, wake_fds, ears_fd)`. The first message on the control socket
is MediaReady with the ports; then OpenRow, SetStream, … are obeyed. A message that is no command is skipped. The child
ends on Shutdown, when the parent's end of the pair is closed, or with the parent. A plane that is started again over
the same table begins with every row closed.

A worker that wants to be heard sets `tx_gain` to 1.0 when it takes a row.
"""

import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import time
from typing import Final

import numpy as np
import numpy.ma  # np.unique imports it at its first call: 50 ms in the first tick with a packet
from numpy.typing import NDArray

from sipagent.rtp.concealer import PitchConcealer
from sipagent.rtp.control import MediaReady
from sipagent.rtp.io import PacketIo
from sipagent.rtp.io_epoll import EpollIo
from sipagent.rtp.io_uring import UringIo
from sipagent.rtp.loop import ControlChannel, run_loop
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.plane import MediaPlane
from sipagent.rtp.sockets import RowSockets
from sipagent.rtp.table import CallTable
from sipagent.rtp.waking import Waker

M_TRIM_THRESHOLD: Final = -1  # mallopt(3)
M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = (
    32 << 20
)  # of freed memory: else each tick gives the arrays of a tick back, and faults them in again
PR_SET_PDEATHSIG: Final = 1
PR_SET_TIMERSLACK: Final = 29
PRIORITY: Final = 10  # of SCHED_RR: above all that is not real-time, below what the kernel needs itself


def run(
    control: socket.socket,
    table_fd: int,
    options: MediaOptions,
    wake_fds: tuple[int, ...] = (),
    ears_fd: int = -1,
) -> None:
    """Run a media plane over the table in `table_fd` until told to end.

    `wake_fds[i]` is the eventfd of worker i, `ears_fd` that of the ears: each is written at most once in two ticks,
    when a row of that worker (one that is listened to, for the ears) has received or sent.
    """
    _prepare_process()
    channel = ControlChannel(control)
    table = CallTable(table_fd, options.rows)
    sockets = RowSockets(options)
    plane = MediaPlane(
        table,
        options,
        sockets,
        lambda packets: make_io(packets, options.io),
        PitchConcealer(table),
        channel.emit,
        time.time_ns() - time.monotonic_ns(),
    )
    channel.emit(MediaReady(sockets.ports, plane.io.name, sockets.refusal))
    gc.collect()
    gc.freeze()
    gc.disable()  # the loop makes no cycles; a collection would be a pause in every call
    try:
        run_loop(plane, channel, Waker(table, wake_fds, ears_fd), options.tick_ms)
    finally:
        plane.shut_down()
        channel.flush()
        control.close()


def make_io(packets: NDArray[np.uint8], wanted: str) -> PacketIo:
    """The packet engine `wanted`; io_uring gives way to epoll where the kernel or a container forbids it."""
    if wanted in ("auto", "io_uring"):
        try:
            return UringIo(packets)
        except OSError:  # ENOSYS, EPERM (seccomp, kernel.io_uring_disabled), EINVAL (before 6.0), ENOMEM
            pass
    return EpollIo(packets)


def _prepare_process() -> None:
    """Ask the kernel for what a clock wants; whatever it refuses is done without."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
