"""A worker that echoes every row through the call table, and measures how old audio is when it can be read."""

import os
import select
import time

import numpy as np

from sipagent.codecs import g711
from sipagent.rtp.ring import RingColumn
from sipagent.rtp.table import CallTable

SAMPLES = 160
READY = b"r"
_DIGIT = {int(g711.DECODE[g711.PCMU, 0xA0 | digit << 1]): digit for digit in range(16)}
DIGITS = 8  # of the send time in a payload, see loadgen.c


def run(table_fd: int, rows: int, wake_fd: int, stop_fd: int, report_fd: int) -> None:
    """Write READY, echo until `stop_fd` is readable, then write the ages of audio seen, f8 milliseconds."""
    table = CallTable(table_fd, rows)
    received, speech = RingColumn(table.rx_pcm), RingColumn(table.tx_pcm)
    read = np.zeros(rows, np.int64)
    ages: list[float] = []
    everyone = np.arange(rows)
    table.tx_gain[:] = 1.0
    os.write(report_fd, READY)
    poll = select.poll()
    poll.register(wake_fd, select.POLLIN)
    poll.register(stop_fd, select.POLLIN)
    while True:
        ready = dict(poll.poll(1000))
        if stop_fd in ready:
            break
        if wake_fd in ready:
            os.eventfd_read(wake_fd)
        now_us = time.monotonic_ns() // 1000
        opened = table.active[:] != 0
        read[~opened] = 0
        behind = table.rx_head - read > 5 * SAMPLES
        read[behind] = table.rx_head[behind]
        rows_ready = everyone[opened & (table.rx_head - read >= SAMPLES)]
        if not len(rows_ready):
            continue
        pcm = received.read(rows_ready, read[rows_ready], SAMPLES)
        speech.write(rows_ready, table.tx_head[rows_ready], pcm)
        table.tx_head[rows_ready] += SAMPLES
        read[rows_ready] += SAMPLES
        sent_us = _sent_us(pcm[0, :DIGITS])
        if sent_us is not None:
            # Packets still leave while we look round: one that was sent after `now_us` was taken is no time old.
            age_us = (now_us - sent_us) & 0xFFFFFFFF
            ages.append(age_us / 1000 if age_us < 1 << 31 else 0.0)
    with os.fdopen(report_fd, "wb") as report:
        report.write(np.array(ages).tobytes())


def _sent_us(pcm: np.ndarray) -> int | None:
    """The send time in the first samples of a packet, None when there is none."""
    value = 0
    for digit, sample in enumerate(pcm.tolist()):
        if sample not in _DIGIT:
            return None
        value |= _DIGIT[sample] << (4 * digit)
    return value
