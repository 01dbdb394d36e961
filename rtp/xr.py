"""RTCP extended reports (RFC 3611): the VoIP metrics block of §4.7, built and parsed.

|     BT=7      |   reserved    |       block length = 8        |
|                        SSRC of source                         |
|   loss rate   | discard rate  | burst density |  gap density  |
|       burst duration          |         gap duration          |
|     round trip delay          |       end system delay        |
| signal level  |  noise level  |     RERL      |     Gmin      |
|   R factor    | ext. R factor |    MOS-LQ     |    MOS-CQ     |
|   RX config   |   reserved    |          JB nominal           |
|          JB maximum           |          JB abs max           |
"""

import struct
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

EXTENDED_REPORT: Final = 207
VOIP_METRICS: Final = 7
UNAVAILABLE: Final = 127
_METRICS: Final = struct.Struct(">I4B4H2b2B4BBxHHH")
_METRICS_WORDS: Final = 8


@dataclass(frozen=True, slots=True)
class VoipMetrics:
    """How the reporter hears `ssrc`, as on the wire.

    Rates and densities in 1/256, durations and delays in milliseconds, levels in dBm0, MOS in tenths; 127 stands for
    "unavailable" in levels, residual echo return loss, R factors and MOS.
    """

    ssrc: int
    loss_rate: int
    discard_rate: int
    burst_density: int
    gap_density: int
    burst_duration_ms: int
    gap_duration_ms: int
    round_trip_ms: int
    end_system_delay_ms: int
    signal_level_dbm0: int
    noise_level_dbm0: int
    residual_echo_return_loss_db: int
    gap_minimum: int
    r_factor: int
    external_r_factor: int
    mos_listening: int
    mos_conversational: int
    receiver_configuration: int
    jitter_buffer_nominal_ms: int
    jitter_buffer_maximum_ms: int
    jitter_buffer_absolute_maximum_ms: int


_fields = attrgetter(*VoipMetrics.__slots__)  # dataclasses.astuple copies deeply, at 200 µs a report


@dataclass(frozen=True, slots=True)
class ExtendedReport:
    """XR of the reporter `ssrc`, with its VoIP metrics blocks."""

    ssrc: int
    metrics: tuple[VoipMetrics, ...]


def build_extended(report: ExtendedReport) -> bytes:
    """The body behind the RTCP header; raises struct.error for a value that does not fit its field."""
    head = struct.pack(">BxH", VOIP_METRICS, _METRICS_WORDS)
    return struct.pack(">I", report.ssrc) + b"".join(head + _METRICS.pack(*_fields(block)) for block in report.metrics)


def parse_extended(body: bytes) -> ExtendedReport | None:
    """The report in the body behind the RTCP header; blocks of other types are passed over, None = malformed."""
    if len(body) < 4:
        return None
    metrics = []
    offset = 4
    while offset < len(body):
        if len(body) - offset < 4:
            return None
        kind, _, words = struct.unpack_from(">BBH", body, offset)
        end = offset + 4 + 4 * words
        if end > len(body):
            return None
        if kind == VOIP_METRICS and words == _METRICS_WORDS:
            metrics.append(VoipMetrics(*_METRICS.unpack_from(body, offset + 4)))
        offset = end
    return ExtendedReport(int.from_bytes(body[:4], "big"), tuple(metrics))
