"""A media plane without sockets, in virtual time: packets and ticks are given by the test."""

import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sipagent.codecs import g711
from sipagent.rtp.concealer import Concealer, PitchConcealer
from sipagent.rtp.control import Codec, Event, OpenRow, SetStream
from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import MAX_PACKET, Batch
from sipagent.rtp.plane import MediaPlane
from sipagent.rtp.sockets import Datagram, RowSockets
from sipagent.rtp.table import COUNTER, CallTable

TICK_NS = 5_000_000
START_NS = 1_000_000_000
PCMU = Codec(0, "PCMU", 8000, 8000)
PCMA = Codec(8, "PCMA", 8000, 8000)
FAR_END = "192.0.2.1"


def rtp(
    sequence: int,
    timestamp: int,
    payload: bytes = bytes(160),
    *,
    ssrc: int = 7,
    payload_type: int = 0,
    marker: bool = False,
) -> bytes:
    second = payload_type | (0x80 if marker else 0)
    return struct.pack(">BBHII", 0x80, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc) + payload


@dataclass(frozen=True)
class Sent:
    at_ns: int
    data: bytes

    @property
    def sequence(self) -> int:
        return struct.unpack(">H", self.data[2:4])[0]

    @property
    def timestamp(self) -> int:
        return struct.unpack(">I", self.data[4:8])[0]

    @property
    def marker(self) -> bool:
        return self.data[1] >= 128

    @property
    def payload_type(self) -> int:
        return self.data[1] & 0x7F

    @property
    def pcm(self) -> NDArray[np.int16]:
        return g711.ulaw_decode(np.frombuffer(self.data[12:], np.uint8))


class WireIo:
    """PacketIo onto lists."""

    name = "wire"
    waiting: NDArray[np.intp] = np.zeros(0, np.intp)

    def __init__(self, packets: NDArray[np.uint8]) -> None:
        self._packets = packets
        self.arriving: list[tuple[int, bytes]] = []
        self.sent: dict[int, list[Sent]] = defaultdict(list)
        self.now_ns = 0
        self.rows: set[int] = set()

    def add(self, row: int, sock: Any) -> None:
        self.rows.add(row)

    def remove(self, row: int) -> None:
        self.rows.discard(row)

    def receive(self) -> list[Batch]:
        if not self.arriving:
            return []
        data = np.zeros((len(self.arriving), MAX_PACKET), np.uint8)
        for index, (_, packet) in enumerate(self.arriving):
            data[index, : len(packet)] = np.frombuffer(packet, np.uint8)
        rows = np.array([row for row, _ in self.arriving], np.intp)
        length = np.array([len(packet) for _, packet in self.arriving], np.int64)
        self.arriving.clear()
        return [Batch(rows, data, length)]

    def send(self, rows: NDArray[np.intp], length: NDArray[np.int64]) -> None:
        for row, octets in zip(rows.tolist(), length.tolist(), strict=True):
            self.sent[row].append(Sent(self.now_ns, self._packets[row, :octets].tobytes()))

    def send_one(self, row: int, data: bytes) -> None:
        self.sent[row].append(Sent(self.now_ns, data))

    def take_errors(self) -> NDArray[np.intp]:
        return np.zeros(0, np.intp)

    def close(self) -> None:
        pass


@dataclass
class NoSockets:
    """RowSockets without any; `datagrams` come the slow way."""

    datagrams: list[Datagram] = field(default_factory=list)
    connected: dict[int, tuple[str, int]] = field(default_factory=dict)
    control: list[tuple[int, bytes, tuple[str, int]]] = field(default_factory=list)

    def open(self, row: int) -> int:
        return 0

    def connect(self, row: int, remote: tuple[str, int]) -> object:
        self.connected[row] = remote
        return object()

    def close(self, row: int) -> None:
        self.connected.pop(row, None)

    def close_all(self) -> None:
        pass

    def receive(self) -> list[Datagram]:
        datagrams, self.datagrams = self.datagrams, []
        return datagrams

    def take_dropped(self, rows: NDArray[np.intp]) -> NDArray[np.uint64]:
        return np.zeros(len(rows), np.uint64)

    def send_control(self, row: int, data: bytes, remote: tuple[str, int]) -> bool:
        self.control.append((row, data, remote))
        return True


def new_table(rows: int) -> CallTable:
    """A table that no other process shares: its map stays when the file is closed, and goes with the last test."""
    table, fd = CallTable.create(rows)
    os.close(fd)
    return table


class Line:
    """A plane of a few rows and what it hears and says."""

    def __init__(
        self, rows: int = 2, concealer: Concealer | None = None, table: CallTable | None = None, **options: Any
    ) -> None:
        self.table = table or new_table(rows)
        self.table.tx_gain[:] = 1.0
        self.events: list[Event] = []
        self.sockets = NoSockets()
        self.options = MediaOptions(rows=rows, **({"comfort_noise_dbov": -127.0} | options))
        self.plane = MediaPlane(
            self.table,
            self.options,
            cast(RowSockets, self.sockets),
            WireIo,
            concealer or PitchConcealer(self.table),
            self.events.append,
        )
        self.io = cast(WireIo, self.plane.io)
        self.now_ns = START_NS
        self.tick_number = 0
        self.woken: NDArray[np.int16] = np.zeros(0, np.int16)  # workers of the rows that moved

    def open(self, row: int = 0, generation: int = 1, rate_hz: int = 8000, worker: int = 0, **stream: Any) -> "Line":
        self.do(OpenRow(row, generation, worker, rate_hz))
        self.stream(row, generation, **stream)
        return self

    def stream(self, row: int = 0, generation: int = 1, **stream: Any) -> None:
        given: dict[str, Any] = {"send": PCMU, "receive": (PCMU, PCMA), "telephone_event": ((101, 8000),)}
        given |= {"remote_address": FAR_END, "remote_port": 4000}
        self.do(SetStream(row=row, generation=generation, **(given | stream)))

    def do(self, command: Any) -> None:
        self.plane.handle(command, self.now_ns)

    def arrive(self, *packets: bytes, row: int = 0) -> None:
        self.io.arriving.extend((row, packet) for packet in packets)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.tick_number += 1
            self.now_ns += TICK_NS
            self.io.now_ns = self.now_ns
            self.woken = self.table.worker[self.plane.tick(self.tick_number, self.now_ns)]

    def run_ms(self, milliseconds: int) -> None:
        self.tick(milliseconds // 5)

    def counter(self, name: str, row: int = 0) -> int:
        self.plane.receiver.count(np.array([row]))  # for others the table is up to a tenth of a second old
        return int(self.table.counters[row, COUNTER[name]])

    def heard(self, row: int = 0) -> NDArray[np.int16]:
        """All call time of the row, as far as the ring holds it."""
        head = int(self.table.rx_head[row])
        return self.table.rx_pcm[row, :head].copy()

    def sent(self, row: int = 0) -> list[Sent]:
        return self.io.sent[row]

    def events_of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def talk(line: Line, packets: list[tuple[int, bytes]], row: int = 0, until_ms: int = 0) -> None:
    """Let packets arrive at their times (milliseconds from now), ticking as time passes."""
    begin = line.now_ns
    queue = sorted(packets, key=lambda item: item[0])
    index = 0
    end_ms = max(until_ms, queue[-1][0] + 10 if queue else 0)
    while line.now_ns - begin < end_ms * 1_000_000:
        while index < len(queue) and queue[index][0] * 1_000_000 <= line.now_ns + TICK_NS - begin:
            line.arrive(queue[index][1], row=row)
            index += 1
        line.tick()


def marked(number: int, samples: int = 160) -> bytes:
    """A payload that says which packet it is: one µ-law value throughout, never zero."""
    return bytes([0x80 | (number % 100)]) * samples


def packets_heard(line: Line, row: int = 0) -> Iterator[int]:
    """Which `marked` packets are in the ring, in order; -1 for a stretch of silence or concealment."""
    pcm = line.heard(row)
    values = g711.ulaw_decode(np.array([0x80 | number for number in range(100)], np.uint8))
    for start in range(0, len(pcm) - 159, 160):
        block = pcm[start + 80 : start + 160]
        match = np.flatnonzero(values == block[0])
        yield int(match[0]) if len(match) and (block == block[0]).all() else -1
