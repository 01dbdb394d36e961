"""What the VoIP metrics blocks (RFC 3611 §4.7) of rows say, from their counters and gauges."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs.level import DBM0_TO_DBOV, SILENCE_DBOV
from sipagent.rtp import quality
from sipagent.rtp.bursts import G_MIN
from sipagent.rtp.gauges import WIDE_RATE_HZ
from sipagent.rtp.receive import Receiver, Reception
from sipagent.rtp.send import Sender
from sipagent.rtp.table import COUNTER, GAUGE, CallTable
from sipagent.rtp.xr import UNAVAILABLE, VoipMetrics

Rows = NDArray[np.intp]
Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

RECEIVER_CONFIGURATION: Final = 0b10_11_0000  # enhanced concealment, adaptive jitter buffer


def voip_metrics(
    table: CallTable, receiver: Receiver, sender: Sender, rows: Rows, reception: Reception, tick_ms: int
) -> list[VoipMetrics]:
    """One block for each of `rows` [n], whose gauges are up to date; of rows that heard nothing it means nothing."""
    counters = table.counters[rows].astype(np.float64)
    gauges = table.gauges[rows].astype(np.float64)
    packet_ms = sender.samples[rows] * 1000 / table.rate_hz[rows]
    bursts = receiver.losses.metrics(rows, reception.highest_sequence + 1, packet_ms)
    lost = counters[:, COUNTER["lost"]]
    expected = quality.expected(counters)
    discarded = counters[:, COUNTER["dropped_late"]] + counters[:, COUNTER["dropped_full"]]
    round_trip_ms = gauges[:, GAUGE["round_trip_ms"]]
    wide = table.rate_hz[rows] == WIDE_RATE_HZ
    r = gauges[:, GAUGE["r_factor_in"]]
    listening = quality.mos(r + quality.delay_impairment(round_trip_ms / 2 + packet_ms + tick_ms), wide)
    return_loss_db = gauges[:, GAUGE["echo_return_loss_db"]]
    longest = np.full(len(rows), receiver.delay.maximum_ms)
    columns = (
        reception.ssrc,
        _eighth(quality.loss_fraction(lost, expected)),
        _eighth(quality.loss_fraction(discarded, expected)),
        _eighth(bursts.burst_density),
        _eighth(bursts.gap_density),
        _sixteen(bursts.burst_ms),
        _sixteen(bursts.gap_ms),
        _sixteen(round_trip_ms),
        _sixteen(packet_ms + tick_ms),
        _level(gauges[:, GAUGE["level_in_dbov"]]),
        _level(gauges[:, GAUGE["noise_floor_dbov"]]),
        np.where(return_loss_db > 0, np.clip(return_loss_db, 0, UNAVAILABLE - 1), UNAVAILABLE),
        np.full(len(rows), G_MIN),
        np.minimum(np.rint(np.where(wide, r / quality.SCALE_WIDE, r)), 100),
        np.full(len(rows), UNAVAILABLE),
        np.rint(10 * listening),
        np.rint(10 * gauges[:, GAUGE["mos_in"]]),
        np.full(len(rows), RECEIVER_CONFIGURATION),
        _sixteen(gauges[:, GAUGE["gap_deadline_ms"]]),
        longest,
        longest,
    )
    return [VoipMetrics(*values) for values in np.stack([column.astype(np.int64) for column in columns], 1).tolist()]


def _eighth(fraction: Floats) -> Numbers:
    """Fractions in 1/256, cut at 255."""
    return np.minimum(256 * fraction, 255).astype(np.int64)


def _sixteen(milliseconds: Floats) -> Numbers:
    return np.clip(np.rint(milliseconds), 0, 0xFFFF).astype(np.int64)


def _level(level_dbov: Floats) -> Numbers:
    """dBm0 (§4.7.3), 127 where nothing was measured."""
    measured = np.clip(np.rint(level_dbov - DBM0_TO_DBOV), -128, UNAVAILABLE - 1)
    return np.where(level_dbov <= SILENCE_DBOV, UNAVAILABLE, measured).astype(np.int64)
