"""What the VoIP metrics block (RFC 3611 §4.7) of a row says, from its counters and gauges."""

from typing import Final

import numpy as np

from sipagent.codecs.level import DBM0_TO_DBOV, SILENCE_DBOV
from sipagent.rtp import quality
from sipagent.rtp.bursts import G_MIN
from sipagent.rtp.gauges import WIDE_RATE_HZ
from sipagent.rtp.receive import Receiver
from sipagent.rtp.send import Sender
from sipagent.rtp.table import COUNTER, GAUGE, CallTable
from sipagent.rtp.xr import UNAVAILABLE, VoipMetrics

RECEIVER_CONFIGURATION: Final = 0b10_11_0000  # enhanced concealment, adaptive jitter buffer


def voip_metrics(table: CallTable, receiver: Receiver, sender: Sender, row: int, tick_ms: int) -> VoipMetrics | None:
    """The block of one row whose gauges are up to date; None before the first packet."""
    reception = receiver.reception(row)
    if reception is None:
        return None
    one = np.array([row])
    counters, gauges = table.counters[row], table.gauges[row]
    packet_ms = int(sender.samples[row]) * 1000 / int(table.rate_hz[row])
    bursts = receiver.losses.metrics(one, np.array([reception.highest_sequence + 1]), np.array([packet_ms]))
    lost, received = int(counters[COUNTER["lost"]]), int(counters[COUNTER["packets_received"]])
    discarded = int(counters[COUNTER["dropped_late"]] + counters[COUNTER["dropped_full"]])
    round_trip_ms = float(gauges[GAUGE["round_trip_ms"]])
    wide = table.rate_hz[one] == WIDE_RATE_HZ
    r = float(gauges[GAUGE["r_factor_in"]])
    listening = r + float(quality.delay_impairment(np.array([round_trip_ms / 2 + packet_ms + tick_ms]))[0])
    mos_listening = float(quality.mos(np.array([listening]), wide)[0])
    return VoipMetrics(
        ssrc=reception.ssrc,
        loss_rate=_eighth(lost / max(1, lost + received)),
        discard_rate=_eighth(discarded / max(1, lost + received)),
        burst_density=_eighth(float(bursts.burst_density[0])),
        gap_density=_eighth(float(bursts.gap_density[0])),
        burst_duration_ms=_sixteen(float(bursts.burst_ms[0])),
        gap_duration_ms=_sixteen(float(bursts.gap_ms[0])),
        round_trip_ms=_sixteen(round_trip_ms),
        end_system_delay_ms=_sixteen(packet_ms + tick_ms),
        signal_level_dbm0=_level(float(gauges[GAUGE["level_in_dbov"]])),
        noise_level_dbm0=_level(float(gauges[GAUGE["noise_floor_dbov"]])),
        residual_echo_return_loss_db=_echo(float(gauges[GAUGE["echo_return_loss_db"]])),
        gap_minimum=G_MIN,
        r_factor=min(100, round(r / quality.SCALE_WIDE if wide[0] else r)),
        external_r_factor=UNAVAILABLE,
        mos_listening=round(10 * mos_listening),
        mos_conversational=round(10 * float(gauges[GAUGE["mos_in"]])),
        receiver_configuration=RECEIVER_CONFIGURATION,
        jitter_buffer_nominal_ms=_sixteen(float(gauges[GAUGE["gap_deadline_ms"]])),
        jitter_buffer_maximum_ms=_sixteen(float(receiver.delay.maximum_ms)),
        jitter_buffer_absolute_maximum_ms=_sixteen(float(receiver.delay.maximum_ms)),
    )


def _eighth(fraction: float) -> int:
    """A fraction in 1/256, cut at 255."""
    return min(255, int(256 * fraction))


def _sixteen(milliseconds: float) -> int:
    return min(0xFFFF, max(0, round(milliseconds)))


def _level(level_dbov: float) -> int:
    """dBm0 (§4.7.3), 127 where nothing was measured."""
    return UNAVAILABLE if level_dbov <= SILENCE_DBOV else max(-128, min(126, round(level_dbov - DBM0_TO_DBOV)))


def _echo(return_loss_db: float) -> int:
    return UNAVAILABLE if return_loss_db <= 0 else min(126, round(return_loss_db))
