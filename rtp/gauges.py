"""The quality gauges of rows, from their counters and from what the far end reports."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp import quality
from sipagent.rtp.receive import Receiver
from sipagent.rtp.send import Sender
from sipagent.rtp.table import COUNTER, GAUGE, CallTable

Rows = NDArray[np.intp]

FAR_BUFFER_MS: Final = 40.0  # of an end that we know nothing of: two packets
WIDE_RATE_HZ: Final = 16000


class Gauges:
    """Writes jitter, loss, R and MOS; 0 stands for "not known yet" in R, MOS and what only the far end can say."""

    def __init__(self, table: CallTable, receiver: Receiver, sender: Sender, tick_ms: int) -> None:
        self._table = table
        self._receiver = receiver
        self._sender = sender
        self._tick_ms = tick_ms
        self.reported = np.zeros(table.rows, np.bool_)  # the far end has told how it hears us
        self.scored = np.zeros(table.rows, np.bool_)  # … and has computed R and MOS itself (RFC 3611)

    def open(self, row: int) -> None:
        """The row goes to a new call."""
        self.reported[row] = self.scored[row] = False

    def update(self, rows: Rows) -> None:
        """Bring the gauges of `rows` up to date; once a second is often enough."""
        table = self._table
        self._receiver.count(rows)
        delay = self._receiver.delay
        table.gauges[rows, GAUGE["jitter_ms"]] = delay.jitter_ms(rows)
        table.gauges[rows, GAUGE["gap_deadline_ms"]] = delay.deadline_ms(rows)
        counters = table.counters[rows].astype(np.float64)
        received = counters[:, COUNTER["packets_received"]]
        lost = counters[:, COUNTER["lost"]]
        expected = quality.expected(counters)
        table.gauges[rows, GAUGE["loss_fraction"]] = quality.loss_fraction(lost, expected)
        wide = table.rate_hz[rows] == WIDE_RATE_HZ
        half_ms = table.gauges[rows, GAUGE["round_trip_ms"]].astype(np.float64) / 2
        packet_ms = 1000 * self._sender.samples[rows] / np.maximum(table.rate_hz[rows], 1)
        # To who listens a packet that came too late is lost.
        missed = lost + counters[:, COUNTER["dropped_late"]] + counters[:, COUNTER["dropped_full"]]
        missing = quality.loss_fraction(missed, expected)
        ratio = quality.burst_ratio(missed, self._receiver.losses.runs[rows].astype(np.float64), missing)
        r = quality.r_factor(missing, ratio, half_ms + packet_ms + self._tick_ms, wide)
        heard = received > 0
        table.gauges[rows, GAUGE["r_factor_in"]] = np.where(heard, r, 0)
        table.gauges[rows, GAUGE["mos_in"]] = np.where(heard, quality.mos(r, wide), 0)
        table.gauges[rows, GAUGE["echo_delay_ms"]] = 1000 * table.echo_delay_samples[rows] / table.rate_hz[rows]
        coupling = table.echo_coupling[rows]  # 0 = no echo was found
        loss_db = -20 * np.log10(np.where((coupling > 0) & (coupling < np.inf), coupling, 1))
        table.gauges[rows, GAUGE["echo_return_loss_db"]] = loss_db + 0.0  # of -0.0 it makes 0.0
        estimated = self.reported[rows] & ~self.scored[rows]
        if estimated.any():
            self._estimate_out(rows[estimated], half_ms[estimated] + packet_ms[estimated], wide[estimated])

    def _estimate_out(self, rows: Rows, delay_ms: NDArray[np.float64], wide: NDArray[np.bool_]) -> None:
        """How the far end hears us, if its receiver is such as ours."""
        gauges = self._table.gauges
        loss = gauges[rows, GAUGE["remote_loss_fraction"]].astype(np.float64)
        buffer_ms = np.maximum(2.0 * gauges[rows, GAUGE["remote_jitter_ms"]], FAR_BUFFER_MS)
        r = quality.r_factor(loss, np.ones(len(rows)), delay_ms + buffer_ms, wide)
        gauges[rows, GAUGE["r_factor_out"]] = r
        gauges[rows, GAUGE["mos_out"]] = quality.mos(r, wide)
