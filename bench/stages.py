"""Time per tick by stage: a plane in virtual time, fed from arrays, with no system call in it."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.concealer import PitchConcealer
from sipagent.rtp.control import Codec, OpenRow, SetStream
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import MAX_PACKET, Batch
from sipagent.rtp.plane import MediaPlane
from sipagent.rtp.sockets import RowSockets
from sipagent.rtp.table import CallTable

TICK_NS = 5_000_000
TICKS = 400
PHASES = 4
EVENTS = ((101, 8000),)


class _ArrayIo:
    """PacketIo that receives a ready batch and sends to nobody."""

    name = "arrays"
    more = False

    def __init__(self, packets: NDArray[np.uint8]) -> None:
        rows = len(packets)
        self._data = np.zeros((rows, MAX_PACKET), np.uint8)
        self._data[:, 0] = 0x80
        self._data[:, 8:12].view(">u4")[:, 0] = np.arange(rows) + 1
        self._data[:, 12:172] = np.random.default_rng(1).integers(0xA0, 0x100, (rows, 160))  # loud, and not clipped
        self._groups = [np.arange(phase, rows, PHASES) for phase in range(PHASES)]
        self.tick = 0

    def add(self, row: int, sock: Any) -> None: ...

    def remove(self, row: int) -> None: ...

    def receive(self) -> list[Batch]:
        rows = self._groups[self.tick % PHASES]
        number = self.tick // PHASES
        self.tick += 1
        self._data[rows, 2:4] = (number >> 8 & 255, number & 255)
        self._data[rows, 4:8] = np.frombuffer((number * 160).to_bytes(4, "big"), np.uint8)
        return [Batch(rows, self._data[rows], np.full(len(rows), 172))]

    def send(self, rows: NDArray[np.intp], length: NDArray[np.int64]) -> None: ...

    def send_one(self, row: int, data: bytes) -> None: ...

    def take_errors(self) -> NDArray[np.intp]:
        return np.zeros(0, np.intp)

    def close(self) -> None: ...


class _NoSockets:
    def open(self, row: int) -> int:
        return 0

    def connect(self, row: int, remote: tuple[str, int]) -> object:
        return object()

    def receive(self) -> list[Any]:
        return []

    def send_control(self, row: int, data: bytes, remote: tuple[str, int]) -> bool:
        return True

    def close(self, row: int) -> None: ...

    def close_all(self) -> None: ...


def stages(rows: int) -> dict[str, float]:
    """Mean µs per tick of each stage with `rows` calls talking both ways; the kernel's part is not in it."""
    table, _ = CallTable.create(rows)
    table.tx_gain[:] = 1.0
    options = MediaOptions(rows=rows)
    plane = MediaPlane(
        table, options, cast(RowSockets, _NoSockets()), _ArrayIo, PitchConcealer(table), lambda event: None
    )
    codec = Codec(0, "PCMU", 8000, 8000)
    for row in range(rows):
        plane.handle(OpenRow(row, 1), 0)
        plane.handle(SetStream(row, 1, "192.0.2.1", 4000, codec, (codec,), telephone_event=EVENTS), 0)
    spent: dict[str, int] = defaultdict(int)
    receiver, sender = plane.receiver, plane.sender
    everything = _timed(plane, "tick", "tick", spent)
    for owner, name, stage in (
        (plane.io, "receive", "copy in"),
        (receiver, "receive", "receive"),
        (receiver, "_continue", "of it: in order"),
        (receiver.delay, "observe", "of it: delay, jitter"),
        (plane.timeline, "append", "of it: into the ring"),
        (receiver, "fill", "gaps"),
        (plane._concealer, "on_tick", "noise floor"),
        (sender, "compose", "send"),
        (sender, "_speak", "of it: speech, gain, mix"),
        (plane._codecs, "decode", "decode"),
        (plane._codecs, "encode", "encode"),
        (plane, "_look_round", "gauges"),
        (plane._meters, "on_tick", "levels"),
        (plane._reports, "on_tick", "RTCP"),
        (plane._digits, "on_tick", "tones"),
    ):
        _timed(owner, name, stage, spent)
    for tick in range(1, TICKS + 1):
        table.tx_head[:] = table.tx_read + 800
        everything(tick, tick * TICK_NS)
        if tick == TICKS // 4:
            spent.clear()
    measured = {stage: round(total / 1000 / (TICKS - TICKS // 4), 1) for stage, total in spent.items()}
    return dict(sorted(measured.items(), key=lambda item: -item[1]))


def _timed(owner: Any, name: str, stage: str, spent: dict[str, int]) -> Callable[..., Any]:
    inner = getattr(owner, name)

    def timed(*arguments: Any) -> Any:
        begin = time.thread_time_ns()
        try:
            return inner(*arguments)
        finally:
            spent[stage] += time.thread_time_ns() - begin

    setattr(owner, name, timed)
    return timed
