"""Captures of calls: packets on their way to pcapng files, streamed to disk by one thread.

The media loop only hands lists over. Nothing here blocks it: when the disk is too slow, packets are left out and
counted. A file that cannot be opened or written, or has reached its size, ends that capture with a `problem`, and never
the call; whatever ends it, the file is whole up to its last packet.

    media loop:  start ─ put ─ put ─ put ─ stop            finished()
                   │ queue (bounded in octets)                 ▲
    thread:      open ── every 250 ms: sort, write ── close ───┘
"""

import os
import queue
import time
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final

from sipagent.rtp import pcapng
from sipagent.rtp.control import CaptureEnded
from sipagent.rtp.pcapng import Address
from sipagent.rtp.writer_thread import WriterThread

RowKey = tuple[int, int]  # row, generation
Packet = tuple[int, Address, Address, bytes]  # CLOCK_MONOTONIC ns, source, target, UDP payload

WRITE_INTERVAL_S: Final = 0.25
BACKLOG_OCTETS: Final = 16_000_000  # handed over and not yet written, all captures together
COMMENT: Final = (
    "One call as sipagent heard and sent it. Our side has the address that the far end sees. SIP is shown in UDP "
    "datagrams, whatever carried it. RTP is shown in the clear also where the line carried SRTP, at the time of the "
    "5 ms tick that dealt with it. Credentials, media keys and pressed keys are masked: an event's number is 255."
)


@dataclass(slots=True)
class _Capture:
    """One open file, known to the writer thread alone."""

    key: RowKey
    path: str
    limit: int  # octets
    descriptor: int
    size: int = 0
    packets: int = 0
    left_out: int = 0
    waiting: list[Packet] = field(default_factory=list)


class CaptureWriter:
    """All captures of a media plane and the one thread that writes them; the methods may be called by one thread."""

    def __init__(
        self,
        wall_clock_offset_ns: int,
        backlog_octets: int = BACKLOG_OCTETS,
        interval_s: float = WRITE_INTERVAL_S,
    ) -> None:
        """`wall_clock_offset_ns` is what to add to a packet's time for the time of day."""
        self._offset_ns = wall_clock_offset_ns
        self._limit = backlog_octets
        self._put = 0  # octets handed over; only the caller's thread writes it
        self._taken = 0  # octets taken; only the writer thread writes it
        self._missing: dict[RowKey, int] = {}  # packets that found no room, told with the next ones
        self._done: queue.SimpleQueue[CaptureEnded] = queue.SimpleQueue()
        self._open: dict[RowKey, _Capture] = {}
        self._writer = WriterThread("capture", interval_s, self._write_all, self._stop_all)
        self._writer.start()

    def start(self, key: RowKey, path: str, limit_octets: int) -> None:
        """Begin a file, with mode 0600; one that exists already is not written over."""
        self._writer.do(lambda: self._start(key, path, limit_octets))

    def put(self, key: RowKey, packets: list[Packet]) -> None:
        """Hand over packets, about in the order of their times; nobody may change the list later."""
        octets = sum(len(packet[3]) for packet in packets)
        if self._put - self._taken + octets > self._limit:
            self._missing[key] = self._missing.get(key, 0) + len(packets)
            return
        self._put += octets
        missing = self._missing.pop(key, 0)
        self._writer.do(lambda: self._take(key, packets, octets, missing))

    def stop(self, key: RowKey) -> None:
        """Close the file once all that was handed over is written; `finished` then tells of it."""
        missing = self._missing.pop(key, 0)
        self._writer.do(lambda: self._stop(key, missing))

    def finished(self) -> list[CaptureEnded]:
        """The captures that have ended since the last call of this method."""
        ended = []
        while not self._done.empty():
            ended.append(self._done.get())
        return ended

    def close(self, timeout_s: float = 5.0) -> None:
        """Close every file and end the thread; waits for the disk for at most `timeout_s`."""
        self._writer.close(timeout_s)

    # ---- the writer thread

    def _write_all(self) -> None:
        for capture in list(self._open.values()):
            self._write(capture)

    def _stop_all(self) -> None:
        for key in list(self._open):
            self._stop(key, 0)

    def _start(self, key: RowKey, path: str, limit: int) -> None:
        if key in self._open:
            self._done.put(CaptureEnded(*key, path, 0, 0, "this call is being captured already"))
            return
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._done.put(CaptureEnded(*key, path, 0, 0, error.strerror or str(error)))
            return
        capture = self._open[key] = _Capture(key, path, limit, descriptor)
        _, problem = self._append(capture, [pcapng.preamble("sipagent", COMMENT)])
        if problem:
            self._end(capture, problem)

    def _take(self, key: RowKey, packets: list[Packet], octets: int, missing: int) -> None:
        self._taken += octets
        capture = self._open.get(key)
        if capture is not None:
            capture.waiting += packets
            capture.left_out += missing

    def _stop(self, key: RowKey, missing: int) -> None:
        capture = self._open.get(key)
        if capture is not None:
            capture.left_out += missing
            self._write(capture)
            if key in self._open:
                slow = f"the disk was too slow: {capture.left_out} packets are left out" if capture.left_out else ""
                self._end(capture, slow)

    def _write(self, capture: _Capture) -> None:
        packets, capture.waiting = capture.waiting, []
        packets.sort(key=itemgetter(0))
        blocks = [
            pcapng.packet(at_ns + self._offset_ns, pcapng.datagram(source, target, data))
            for at_ns, source, target, data in packets
        ]
        size, count = capture.size, 0
        while count < len(blocks) and size + len(blocks[count]) <= capture.limit:
            size += len(blocks[count])
            count += 1
        written, problem = self._append(capture, blocks[:count])
        capture.packets += written
        capture.left_out += len(blocks) - written
        if count < len(blocks):
            problem = problem or f"it has reached {capture.limit // 1_000_000} MB"
        if problem:
            self._end(capture, problem)

    def _append(self, capture: _Capture, blocks: list[bytes]) -> tuple[int, str]:
        """Write blocks; how many of them are in the file, and why not all."""
        rest, problem = memoryview(b"".join(blocks)), ""
        octets = 0
        try:
            while octets < len(rest):
                octets += os.write(capture.descriptor, rest[octets:])
        except OSError as error:
            problem = error.strerror or str(error)
        count = 0
        while count < len(blocks) and octets >= len(blocks[count]):
            octets -= len(blocks[count])
            capture.size += len(blocks[count])
            count += 1
        return count, problem

    def _end(self, capture: _Capture, problem: str) -> None:
        del self._open[capture.key]
        try:
            end = pcapng.statistics(time.time_ns(), capture.left_out)
            if os.pwrite(capture.descriptor, end, capture.size) < len(end):
                raise OSError("short write: is the disk full?")
            os.ftruncate(capture.descriptor, capture.size + len(end))
        except OSError as error:
            problem = problem or error.strerror or str(error)
            os.ftruncate(capture.descriptor, capture.size)  # half a block would make the file unreadable
        os.close(capture.descriptor)
        self._done.put(CaptureEnded(*capture.key, capture.path, capture.packets, capture.left_out, problem))
