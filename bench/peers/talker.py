"""What the callers say, and what their records of it tell: pacing, delay, loss.

A caller says a second of sound and is silent for a second, as people do in a call; the beginning of each sound is found
again in what comes back, so that the delay is known whatever codecs, buffers and rate changes lie between.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import g711

PACKET: Final = 160
SOUND_PACKETS: Final = 50
LOOP_PACKETS: Final = 100
PACKET_NS: Final = 20_000_000
SAMPLE_NS: Final = 125_000
QUIET_PACKETS: Final = 10  # before a packet that begins a sound
RECORD: Final = np.dtype(
    [
        ("at", "<i8"),
        ("timestamp", "<u4"),
        ("call", "<u2"),
        ("sequence", "<u2"),
        ("loud", "<i2"),
        ("kind", "<u2"),
        ("unused", "<u4"),
    ]
)
RECEIVED: Final = 0
SENT: Final = 1
PARTS: Final = {"p50": 50.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back to the callers of one run; times in ms."""

    packets: int
    expected_packets: int
    silent_calls: int  # calls to which no RTP came back
    sequence_gaps: int
    timestamp_gaps: int
    pacing_ms: dict[str, float]  # arrival less RTP time, less the least such difference in the same second of the call
    delay_ms: dict[str, float]  # from the sending of a sound's first sample to its return
    speech_lost: float  # share of the packets with sound that did not come back
    sounds: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def loop(seed: int = 1) -> bytes:
    """Two seconds of µ-law: one of voice-like sound, loud from its first sample on in every packet, one of silence."""
    random = np.random.default_rng(seed)
    time_s = np.arange(SOUND_PACKETS * PACKET) / 8000
    pitch_hz = 120 + 15 * np.sin(2 * np.pi * 2.3 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / 8000
    voice = sum(np.cos(n * phase) / (1 + abs(n * 120 - 600) / 300) for n in range(1, 25))
    voice = voice / np.abs(voice).max() + 0.02 * random.standard_normal(len(time_s))
    pcm = np.zeros(LOOP_PACKETS * PACKET, np.int16)
    pcm[: len(time_s)] = np.clip(voice * 24000, -30000, 30000)
    pcm[0] = 24000
    pcm[np.arange(SOUND_PACKETS) * PACKET] = 24000
    return g711.ulaw_encode(pcm).tobytes()


def read(data: bytes) -> NDArray[np.void]:
    """The records that the talker wrote; a last one that is cut off is dropped."""
    return np.frombuffer(data, RECORD, len(data) // RECORD.itemsize)


def analyse(records: NDArray[np.void], calls: int, begin_ns: int, end_ns: int) -> Heard:
    """Figures of the packets that arrived from `begin_ns` to `end_ns`."""
    records = records[(records["at"] >= begin_ns) & (records["at"] < end_ns)]
    came, said = records[records["kind"] == RECEIVED], records[records["kind"] == SENT]
    pacing: list[NDArray[np.float64]] = []
    delays: list[float] = []
    sequence_gaps = timestamp_gaps = silent = expected = returned = 0
    for call in range(calls):
        mine = came[came["call"] == call]
        if not len(mine):
            silent += 1
            continue
        step = np.diff(mine["sequence"].astype(np.int64)).astype(np.int16)
        ticks = np.diff(mine["timestamp"].astype(np.int64)).astype(np.int32)
        sequence_gaps += int((step != 1).sum())
        timestamp_gaps += int((ticks != step.astype(np.int64) * PACKET).sum())
        pacing.append(_lateness_ns(mine["at"], np.concatenate(([0], np.cumsum(ticks, dtype=np.int64)))))
        begins, loud = _sounds(mine)
        for sent_at in said["at"][said["call"] == call].tolist():
            after = begins[begins >= sent_at]
            if sent_at + 2_000_000_000 > end_ns or not len(after):
                continue  # its end is not in the records
            first = int(after[0])
            if first - sent_at > 1_000_000_000:
                continue
            delays.append(first - sent_at)
            expected += SOUND_PACKETS
            until = first + (SOUND_PACKETS + QUIET_PACKETS) * PACKET_NS
            returned += min(SOUND_PACKETS, int(((loud >= first - PACKET_NS) & (loud < until)).sum()))
    return Heard(
        packets=len(came),
        expected_packets=round(calls * (end_ns - begin_ns) / PACKET_NS),
        silent_calls=silent,
        sequence_gaps=sequence_gaps,
        timestamp_gaps=timestamp_gaps,
        pacing_ms=percentiles(np.concatenate(pacing) if pacing else np.zeros(0)),
        delay_ms=percentiles(np.array(delays, np.float64)),
        speech_lost=round(1 - returned / expected, 5) if expected else float(silent == 0),
        sounds=len(delays),
    )


def percentiles(values_ns: NDArray[np.float64]) -> dict[str, float]:
    """In ms; empty without values."""
    if not len(values_ns):
        return {}
    return {name: round(float(np.percentile(values_ns, part)) / 1e6, 3) for name, part in PARTS.items()}


def _lateness_ns(at: NDArray[np.int64], ticks: NDArray[np.int64]) -> NDArray[np.float64]:
    difference = at - ticks * SAMPLE_NS
    second = (at - at[0]) // 1_000_000_000
    least = np.full(int(second[-1]) + 1, np.iinfo(np.int64).max)
    np.minimum.at(least, second, difference)
    late: NDArray[np.float64] = (difference - least[second]).astype(np.float64)
    return late


def _sounds(mine: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Times at which sounds begin, and arrival times of the packets that hold sound."""
    loud = mine[mine["loud"] >= 0]
    if not len(loud):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    quiet = np.diff(loud["at"], prepend=loud["at"][0] - 1_000_000_000) > QUIET_PACKETS * PACKET_NS
    if loud["at"][0] - mine["at"][0] < QUIET_PACKETS * PACKET_NS:
        quiet[0] = False  # nobody knows what came before the records
    first = loud[quiet]
    return first["at"] + first["loud"] * np.int64(SAMPLE_NS), loud["at"]
