"""The call table: one segment of shared memory per media plane, in which every call is a row.

Every plane maps the same segment. Each column has exactly one writer, named below; everybody may read. (But for one
case: what a worker wrote and cannot have meant, the media plane puts right, see `worker_columns`.)
Positions are 64-bit sample counters that only grow, in samples of the row's own `rate_hz`; a ring index is
`position & (RING - 1)`. A reader that finds `head - position > RING` has been lapped and skips to `head - RING`.

Clocks of a row, all in samples:

    rx_head    call time received: grows with the sender's RTP timestamps, gaps concealed or filled with silence
    tx_clock   call time sent: grows by one packet per ptime from open to close, speech or silence alike
    tx_head    speech written by the worker      (write position of tx_pcm)
    tx_read    speech that left the socket       (read position of tx_pcm; `tx_head - tx_read` is still waiting)

Flush: the worker sets `tx_flush_to = tx_head`. Before the next packet the media plane stores the position that had
really been played in `tx_flush_at`, moves `tx_read` to `tx_flush_to`, and then sets `tx_flush_done = tx_flush_to`.
So `tx_flush_at` is what the far end heard, to the packet.
"""

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

RX_RING: Final = 1 << 16  # 8.2 s at 8 kHz: a worker that blocks for 5 s loses nothing
TX_RING: Final = 1 << 15  # 4.1 s at 8 kHz ahead of the line; workers top it up as it drains
SENT_RING: Final = 1 << 13  # 1 s at 8 kHz of what left the socket, for the echo gate
CONCEALED_BLOCK: Final = 32  # samples per flag of rx_concealed
SPEECH_EVENTS: Final = 16
MARKS: Final = 64
FAR_END: Final = 1
OTHER_SIDE: Final = 2

COUNTERS: Final = (
    "packets_received",
    "octets_received",
    "packets_sent",
    "octets_sent",
    "lost",
    "concealed_samples",
    "silence_samples",  # filled in for silence suppression
    "dropped_late",
    "dropped_duplicate",
    "dropped_malformed",
    "dropped_payload_type",
    "dropped_source",  # from an address that the call does not allow
    "dropped_ssrc",
    "dropped_auth",  # SRTP authentication failed
    "dropped_replay",
    "dropped_full",  # arrived while no slot was free
    "dropped_flood",  # a far end sent more than one may
    "dropped_kernel",  # came while the buffers of the row's sockets were full
    "reordered",
    "ssrc_changes",
    "latches",
    "comfort_noise_packets",
    "dtmf_packets",
    "dry_slots",  # packets for which nobody had audio in the middle of speech
    "clipped_samples",
    "double_talk_packets",
    "send_errors",
)
COUNTER: Final = {name: index for index, name in enumerate(COUNTERS)}

GAUGES: Final = (
    "jitter_ms",  # RFC 3550 §6.4.1
    "gap_deadline_ms",  # how long a gap is waited for now
    "round_trip_ms",
    "loss_fraction",  # ours, since the start
    "remote_loss_fraction",  # as the far end reports it
    "remote_jitter_ms",
    "r_factor_in",
    "mos_in",
    "r_factor_out",
    "mos_out",
    "level_in_dbov",
    "level_out_dbov",
    "noise_floor_dbov",
    "echo_delay_ms",
    "echo_return_loss_db",
)
GAUGE: Final = {name: index for index, name in enumerate(GAUGES)}
UNKNOWN_GAUGE: Final = {  # what stands in a gauge before there is anything to show
    **dict.fromkeys(("r_factor_in", "mos_in", "r_factor_out", "mos_out", "echo_return_loss_db"), 0.0),
    **dict.fromkeys(("level_in_dbov", "level_out_dbov", "noise_floor_dbov"), -127.0),
}

PLANE_COUNTERS: Final = (
    "ticks",
    "late_ticks",  # started more than one tick after their deadline
    "skipped_ticks",
    "stray_packets",  # came to a row that is closed
    "heartbeat_ns",  # CLOCK_MONOTONIC of the last tick
    "pacing_p50_us",
    "pacing_p99_us",
    "pacing_p999_us",
    "pacing_max_us",
    "tick_cpu_us",
)
PLANE_COUNTER: Final = {name: index for index, name in enumerate(PLANE_COUNTERS)}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `shape` is that of a row's cell, `writer` the only plane that may assign to it."""

    name: str
    dtype: DTypeLike
    writer: str
    shape: tuple[int, ...] = ()


COLUMNS: Final = (
    Column("generation", np.uint32, "media"),  # of the call that holds the row; 0 = never used
    Column("active", np.uint8, "media"),  # 1 from OpenRow to CloseRow
    Column("worker", np.int16, "media"),  # whose eventfd is written when the row moves; -1 = nobody
    Column("rate_hz", np.int32, "media"),  # sample rate of every ring of the row: 8000 or 16000
    Column("rx_head", np.int64, "media"),
    Column("rx_pcm", np.int16, "media", (RX_RING,)),
    Column("rx_concealed", np.uint8, "media", (RX_RING // CONCEALED_BLOCK,)),  # not of the oldest 4096 samples
    Column("rx_last_ns", np.int64, "media"),  # CLOCK_MONOTONIC of the last valid RTP packet; 0 = none yet
    Column("srtp_key", np.uint64, "media"),  # fingerprint of the key under which the next two were noted
    Column("srtp_ssrc", np.uint32, "media"),  # of the encrypted stream that the row heard last, …
    Column("srtp_index", np.int64, "media"),  # … and how far it has come, wraps included (RFC 3711 §3.3.1); -1 = none
    Column("tx_clock", np.int64, "media"),
    Column("tx_read", np.int64, "media"),
    Column("tx_flush_at", np.int64, "media"),
    Column("tx_flush_done", np.int64, "media"),
    Column("sent_pcm", np.int16, "media", (SENT_RING,)),  # indexed by tx_clock
    Column("mark_clock", np.int64, "media", (MARKS,)),  # tx_clock at which mark n left
    Column("mark_done", np.int64, "media"),  # marks passed
    Column("counters", np.uint64, "media", (len(COUNTERS),)),
    Column("gauges", np.float32, "media", (len(GAUGES),)),
    Column("listened", np.uint8, "media"),  # 1 = the ears hear this row (its conversation takes turns)
    Column("reflex", np.uint8, "media"),  # 1 = the ears may duck this row (from the route)
    Column("tx_head", np.int64, "worker"),
    Column("tx_pcm", np.int16, "worker", (TX_RING,)),
    Column("tx_flush_to", np.int64, "worker"),
    Column("tx_gain", np.float32, "worker"),  # 1.0 = as written; ramped by the media plane
    Column("tx_audience", np.uint8, "worker"),  # who hears our speech while the row is bridged: FAR_END | OTHER_SIDE
    Column("mark_position", np.int64, "worker", (MARKS,)),  # tx position of mark n, ascending
    Column("mark_count", np.int64, "worker"),
    Column("speech_probability", np.float32, "ears"),
    Column("speech_count", np.int64, "ears"),  # onsets and offsets so far: odd = the caller is speaking
    Column("speech_at", np.int64, "ears", (SPEECH_EVENTS,)),  # rx position of event n: onset, offset, onset …
    Column("speech_generation", np.uint32, "ears"),  # row generation that the speech columns belong to
    Column("duck", np.uint8, "ears"),  # 1 = lower the agent's voice now
    Column("echo_delay_samples", np.int32, "ears"),
    Column("echo_coupling", np.float32, "ears"),
)

MADV_POPULATE_WRITE: Final = 23  # <linux/mman.h>
_ALIGNMENT: Final = 64


class CallTable:
    """Numpy views of one call-table segment; attribute `x` is column x, shape (rows, *cell), of the column's dtype."""

    generation: NDArray[np.uint32]
    active: NDArray[np.uint8]
    worker: NDArray[np.int16]
    rate_hz: NDArray[np.int32]
    rx_head: NDArray[np.int64]
    rx_pcm: NDArray[np.int16]
    rx_concealed: NDArray[np.uint8]
    rx_last_ns: NDArray[np.int64]
    srtp_key: NDArray[np.uint64]
    srtp_ssrc: NDArray[np.uint32]
    srtp_index: NDArray[np.int64]
    tx_clock: NDArray[np.int64]
    tx_read: NDArray[np.int64]
    tx_flush_at: NDArray[np.int64]
    tx_flush_done: NDArray[np.int64]
    sent_pcm: NDArray[np.int16]
    mark_clock: NDArray[np.int64]
    mark_done: NDArray[np.int64]
    counters: NDArray[np.uint64]
    gauges: NDArray[np.float32]
    listened: NDArray[np.uint8]
    reflex: NDArray[np.uint8]
    tx_head: NDArray[np.int64]
    tx_pcm: NDArray[np.int16]
    tx_flush_to: NDArray[np.int64]
    tx_gain: NDArray[np.float32]
    tx_audience: NDArray[np.uint8]
    mark_position: NDArray[np.int64]
    mark_count: NDArray[np.int64]
    speech_probability: NDArray[np.float32]
    speech_count: NDArray[np.int64]
    speech_at: NDArray[np.int64]
    speech_generation: NDArray[np.uint32]
    duck: NDArray[np.uint8]
    echo_delay_samples: NDArray[np.int32]
    echo_coupling: NDArray[np.float32]
    plane: NDArray[np.int64]  # shape (len(PLANE_COUNTERS),); written by the media plane

    def __init__(self, fd: int, rows: int) -> None:
        """Map `fd`, a memfd from `create`, for `rows` rows; raises ValueError when the segment is too small."""
        self.rows = rows
        size = segment_size(rows)
        if os.fstat(fd).st_size < size:
            raise ValueError(f"call table of {rows} rows needs {size} bytes, the segment has {os.fstat(fd).st_size}")
        self._map = mmap.mmap(fd, size)
        for name, dtype, shape, offset in _layout(rows):
            count = int(np.prod(shape, dtype=np.int64))
            setattr(self, name, np.frombuffer(self._map, dtype, count, offset).reshape(shape))

    @classmethod
    def create(cls, rows: int, name: str = "sipagent-call-table") -> tuple["CallTable", int]:
        """A zeroed table and its memfd, to be handed to the other planes. Untouched pages cost no memory."""
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, segment_size(rows))
        # Who maps it must not be able to take it from under the others.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd, rows), fd

    def populate(self, row: int) -> None:
        """Have the memory of the row's rings mapped now: a page fault costs a packet more time than all else does."""
        for ring in (self.rx_pcm, self.tx_pcm, self.sent_pcm):
            first = ring[row].ctypes.data - self.plane.ctypes.data
            begin = first // mmap.PAGESIZE * mmap.PAGESIZE
            with contextlib.suppress(OSError):  # before Linux 5.14: then page by page, as they are used
                self._map.madvise(MADV_POPULATE_WRITE, begin, first + ring[row].nbytes - begin)


def segment_size(rows: int) -> int:
    """Bytes of a segment for `rows` rows."""
    end = 0
    for _, dtype, shape, offset in _layout(rows):
        end = offset + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return -(-end // mmap.PAGESIZE) * mmap.PAGESIZE


def _layout(rows: int) -> Iterator[tuple[str, Any, tuple[int, ...], int]]:
    offset = 0
    yield "plane", np.dtype(np.int64), (len(PLANE_COUNTERS),), offset
    offset += len(PLANE_COUNTERS) * 8
    for column in COLUMNS:
        offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
        shape = (rows, *column.shape)
        yield column.name, np.dtype(column.dtype), shape, offset
        offset += int(np.prod(shape, dtype=np.int64)) * np.dtype(column.dtype).itemsize
