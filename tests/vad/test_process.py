"""The process itself: two eventfds, a socket that ends it."""

import multiprocessing
import os
import select
import socket

import numpy as np

from sipagent.rtp.table import CallTable
from sipagent.rtp.vad import process
from sipagent.rtp.vad.options import EarsOptions
from tests.vad import speech


@speech.needs_recordings
def test_the_process_hears_wakes_the_worker_and_ends_with_its_control_socket() -> None:
    table, table_fd = CallTable.create(4)
    table.active[2] = table.listened[2] = table.generation[2] = 1
    table.rate_hz[2] = 8000
    table.worker[2] = 1
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wake_fd, *worker_fds = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(3))
    arguments = (theirs, table_fd, 4, EarsOptions(), wake_fd, tuple(worker_fds))
    ears = multiprocessing.get_context("fork").Process(target=_child, args=(ours, arguments), daemon=True)
    ears.start()
    theirs.close()
    try:
        waiting = select.poll()
        waiting.register(worker_fds[1], select.POLLIN)
        sentence = np.tile(speech.recordings(1)[0], 4)
        for start in range(0, len(sentence) - 1600, 1600):
            head = int(table.rx_head[2])
            table.rx_pcm[2, np.arange(head, head + 1600) & 0xFFFF] = sentence[start : start + 1600]
            table.rx_head[2] = head + 1600
            os.eventfd_write(wake_fd, 1)
            if waiting.poll(200):
                break
        assert table.speech_count[2] > 0
        assert table.speech_generation[2] == 1
        assert not select.select([worker_fds[0]], [], [], 0)[0]
        ours.close()
        ears.join(5)
        assert ears.exitcode == 0
    finally:
        ours.close()
        if ears.is_alive():
            ears.kill()
        ears.join(5)
        for fd in (table_fd, wake_fd, *worker_fds):
            os.close(fd)


def _child(ours: socket.socket, arguments: tuple[socket.socket, int, int, EarsOptions, int, tuple[int, ...]]) -> None:
    ours.close()
    process.run(*arguments)
