"""The options of a media plane: one frozen record, handed over at its start."""

import msgspec


class MediaOptions(msgspec.Struct, frozen=True):
    """All that a media plane is told at start; later commands only concern rows."""

    address: str = "127.0.0.1"  # where the RTP sockets are bound; IPv4 or IPv6
    first_port: int = 16000  # even; row n uses first_port + 2 n, and the next for RTCP
    rows: int = 64
    io: str = "auto"  # auto | epoll | io_uring
    tick_ms: int = 5
    dscp: int = 46  # EF, RFC 3246
    gap_deadline_min_ms: int = 20  # a gap is waited for at least this long …
    gap_deadline_max_ms: int = 170  # … and at most this
    gap_deadline_percentile: float = 0.995  # of the row's own delay distribution
    no_media_ms: int = 2000  # first NoMedia event after this much silence of the far end
    latch_packets: int = 4  # valid packets from an allowed source before it is latched
    comfort_noise_dbov: float = -70.0  # floor when nobody speaks; -127 = digital silence
    duck_gain: float = 0.25  # -12 dB while the ears duck
    ramp_ms: int = 5  # of every change of gain, so that it does not click
    inband_dtmf: bool = True
    rtcp_interval_ms: int = 5000
