"""Time per tick by stage: a plane in virtual time, fed from arrays by lines that lose packets, without a system call.

    python -m bench.stages [--rows 1000,2000] [--loss 0.01] [--json]

Each stage is told without those that it calls, so that they add up to `tick`. What the kernel takes for receiving and
sending is what `bench.media` finds beyond it.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from bench.show import lines
from sipagent.rtp import packet
from sipagent.rtp.concealer import PitchConcealer
from sipagent.rtp.control import Codec, OpenRow, SetStream
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import MAX_PACKET, Batch
from sipagent.rtp.plane import MediaPlane
from sipagent.rtp.sockets import RowSockets
from sipagent.rtp.table import CallTable

TICK_NS: Final = 5_000_000
TICKS: Final = 400
PHASES: Final = 2  # packets come each 20 ms, and are taken each 10
EVENTS: Final = ((101, 8000),)
LOSS: Final = 0.01


class _ArrayIo:
    """PacketIo that receives a ready batch and sends to nobody."""

    name = "arrays"
    waiting: NDArray[np.intp] = np.zeros(0, np.intp)

    def __init__(self, packets: NDArray[np.uint8], loss: float) -> None:
        rows = len(packets)
        self._loss = loss
        self._random = np.random.default_rng(2)
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
        rows = rows[self._random.random(len(rows)) >= self._loss]
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

    def take_dropped(self, rows: NDArray[np.intp]) -> NDArray[np.uint64]:
        return np.zeros(len(rows), np.uint64)

    def send_control(self, row: int, data: bytes, remote: tuple[str, int]) -> bool:
        return True

    def close(self, row: int) -> None: ...

    def close_all(self) -> None: ...


class _Stopwatch:
    """Processor time by stage, in ns, without what other stages took within."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = defaultdict(int)
        self._within: list[int] = []
        self._before: list[tuple[Any, str, Callable[..., Any]]] = []

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Time the calls of `owner.name`."""
        inner = getattr(owner, name)
        self._before.append((owner, name, inner))

        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.thread_time_ns()
            self._within.append(0)
            try:
                return inner(*arguments, **named)
            finally:
                took = time.thread_time_ns() - begin
                self.spent[stage] += took - self._within.pop()
                if self._within:
                    self._within[-1] += took

        setattr(owner, name, timed)

    def put_back(self) -> None:
        """Leave everything as it was."""
        for owner, name, inner in reversed(self._before):
            setattr(owner, name, inner)


def stages(rows: int, loss: float = LOSS) -> dict[str, float]:
    """Mean µs per tick of each stage with `rows` calls talking both ways, the largest first."""
    table, _ = CallTable.create(rows)
    table.tx_gain[:] = 1.0
    plane = MediaPlane(
        table,
        MediaOptions(rows=rows),
        cast(RowSockets, _NoSockets()),
        lambda packets: _ArrayIo(packets, loss),
        PitchConcealer(table),
        lambda event: None,
    )
    codec = Codec(0, "PCMU", 8000, 8000)
    for row in range(rows):
        plane.handle(OpenRow(row, 1), 0)
        plane.handle(SetStream(row, 1, "192.0.2.1", 4000, codec, (codec,), telephone_event=EVENTS), 0)
    watch = _Stopwatch()
    receiver, sender = plane.receiver, plane.sender
    for owner, name, stage in (
        (plane, "tick", "other"),
        (plane.io, "receive", "receive"),
        (packet, "parse", "parse"),
        (receiver._in_order, "match", "parse"),
        (plane._turns, "take", "order"),
        (receiver, "_examine", "order"),
        (receiver, "receive", "order"),
        (plane.timeline, "append", "into the ring"),
        (receiver, "fill", "gaps"),
        (plane.timeline, "fill", "conceal"),
        (receiver.delay, "observe", "jitter"),
        (plane._codecs, "decode", "decode"),
        (plane._meters, "on_tick", "level"),
        (plane._concealer, "on_tick", "noise floor"),
        (plane._digits, "on_tick", "tones"),
        (plane._gauges, "update", "gauges"),
        (plane._reports, "on_tick", "RTCP"),
        (sender, "compose", "header"),
        (sender, "_go_on", "speech"),
        (sender, "_speak", "speech"),
        (plane._codecs, "encode", "encode"),
        (plane, "_send", "send"),
    ):
        watch.watch(owner, name, stage)
    try:
        for tick in range(1, TICKS + 1):
            table.tx_head[:] = table.tx_read + 800
            plane.tick(tick, tick * TICK_NS, receives=plane.receives(tick))
            if tick == TICKS // 4:
                watch.spent.clear()
    finally:
        watch.put_back()
    per_tick = {stage: total / 1000 / (TICKS - TICKS // 4) for stage, total in watch.spent.items()}
    largest = sorted(per_tick.items(), key=lambda item: -item[1])
    return {"tick": round(sum(per_tick.values()), 1)} | {stage: round(spent, 1) for stage, spent in largest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,2000", help="numbers of calls, with commas")
    parser.add_argument("--loss", type=float, default=LOSS, help="share of the packets")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.rows.split(",")]
    by_rows = {rows: stages(rows, arguments.loss) for rows in counts}
    table = [
        {"stage": stage} | {f"{rows} rows, µs": by_rows[rows].get(stage, 0.0) for rows in counts}
        for stage in by_rows[counts[-1]]
    ]
    figures = {"loss": arguments.loss, "us_per_tick": table}
    print(json.dumps(figures) if arguments.json else "\n".join(lines(figures)))


if __name__ == "__main__":
    main()
