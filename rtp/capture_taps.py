"""Capturing: what rows that are captured hear and send is handed to the writer, a tenth of a second at a time.

Packets are taken where they are in the clear: behind SRTP on their way in, before it on their way out. While no row is
captured nothing is asked of this object but whether it is true.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.capture import CaptureWriter, Packet, RowKey
from sipagent.rtp.control import CaptureMessage, Event, StartCapture, StopCapture
from sipagent.rtp.formats import Kind
from sipagent.rtp.packet import HEADER, Batch, is_rtcp
from sipagent.rtp.pcapng import Address
from sipagent.rtp.table import CallTable

Rows = NDArray[np.intp]

EVERY_TICKS: Final = 20
TURN: Final = 16  # of each of these
MASKED_EVENT: Final = b"\xff"


class CaptureTaps:
    """Copies packets of captured rows; the writer's thread does the rest."""

    def __init__(
        self,
        table: CallTable,
        kinds: NDArray[np.uint8],
        first_port: int,
        remote_of: Callable[[int], Address | None],
        emit: Callable[[Event], None],
        wall_clock_offset_ns: int,
    ) -> None:
        """`kinds` u1[rows, 128] are the receiver's; `remote_of` gives where a row's media goes."""
        self._table = table
        self._kinds = kinds
        self._first_port = first_port
        self._remote_of = remote_of
        self._emit = emit
        self._offset_ns = wall_clock_offset_ns
        self._writer: CaptureWriter | None = None  # its thread is started with the first capture
        self._files: dict[RowKey, list[Packet]] = {}  # packets of open files that are not handed over yet
        self._addresses: dict[int, str] = {}  # ours, by row that is captured
        self._captured = np.zeros(table.rows, np.bool_)
        self._blank: set[int] = set()

    def __bool__(self) -> bool:
        """Whether any row is captured."""
        return bool(self._addresses)

    # ---- commands

    def start(self, command: StartCapture) -> None:
        """Capture from now on; whatever goes wrong is told by CaptureEnded."""
        if self._writer is None:
            self._writer = CaptureWriter(self._offset_ns)
        key = (command.row, command.generation)
        self._writer.start(key, command.path, command.limit_octets)
        self._files.setdefault(key, [])
        self._addresses[command.row] = command.address
        self._captured[command.row] = True

    def message(self, command: CaptureMessage) -> None:
        """A SIP message of the call, which may come when the row is closed."""
        waiting = self._files.get((command.row, command.generation))
        if waiting is not None:
            waiting.append((command.at_ns, command.source, command.target, command.data))

    def stop(self, command: StopCapture) -> None:
        """Close the file."""
        self._finish((command.row, command.generation))

    def blank(self, row: int, blank: bool) -> None:
        """Keep headers only from here on, as the recording is paused, or payloads again."""
        (self._blank.add if blank else self._blank.discard)(row)

    def close(self, row: int) -> None:
        """The row has no media any more; the file stays open for the last words of SIP."""
        self._captured[row] = False
        self._addresses.pop(row, None)
        self._blank.discard(row)

    # ---- packets

    def received(self, batch: Batch, now_ns: int) -> None:
        """Packets of the fast way, in the clear."""
        chosen = np.flatnonzero(self._captured[batch.rows])
        if not len(chosen):
            return
        control = is_rtcp(batch.data[chosen], batch.length[chosen])
        every = zip(chosen.tolist(), batch.rows[chosen].tolist(), batch.length[chosen].tolist(), control, strict=True)
        for index, row, length, is_control in every:
            remote = self._remote_of(row)
            if remote is not None:
                data = batch.data[index, :length].tobytes()
                self._note(row, now_ns, remote, data if is_control else self._veiled(row, data), inward=True)

    def heard(self, row: int, source: Address, data: bytes, now_ns: int) -> None:
        """A packet of the slow way, in the clear, whether it will be believed or not."""
        if self._captured[row]:
            self._note(row, now_ns, source, self._veiled(row, data), inward=True)

    def sent(self, packets: NDArray[np.uint8], rows: Rows, length: NDArray[np.int64], now_ns: int) -> None:
        """The buffers `packets` u1[rows, stride] of `rows` [n] are about to leave, `length` [n] octets of each."""
        chosen = np.flatnonzero(self._captured[rows])
        for row, octets in zip(rows[chosen].tolist(), length[chosen].tolist(), strict=True):
            self._note_sent(row, self._veiled(row, packets[row, :octets].tobytes()), now_ns)

    def sent_event(self, row: int, data: bytes, now_ns: int) -> None:
        """A telephone event is about to leave."""
        if self._captured[row]:
            self._note_sent(row, _without_key(data), now_ns)

    def report(self, row: int, data: bytes, remote: Address | None, now_ns: int, *, inward: bool) -> None:
        """An RTCP packet in the clear; `remote` None = it goes where media goes."""
        if self._captured[row]:
            where = remote or self._remote_of(row)
            if where is not None:
                self._note(row, now_ns, where, data, inward=inward, port=0 if remote is None else 1)

    # ---- every tick

    def on_tick(self, tick: int) -> None:
        """Hand over what has come since the last time, in every tenth of a second."""
        if tick % EVERY_TICKS == TURN:
            self.hand_over()

    def hand_over(self) -> None:
        """Hand over what has come since the last time, and tell which files are closed."""
        if self._writer is None:
            return
        for key, waiting in self._files.items():
            if waiting:
                self._writer.put(key, waiting)
                self._files[key] = []
        self._tell(self._writer)

    def shut_down(self) -> None:
        """Close every file."""
        if self._writer is not None:
            for key in list(self._files):
                self._finish(key)
            self._writer.close()
            self._tell(self._writer)

    # ---- small things

    def _finish(self, key: RowKey) -> None:
        waiting = self._files.pop(key, None)
        if waiting is None or self._writer is None:
            return
        if self._table.generation[key[0]] == key[1]:
            self.close(key[0])
        self._writer.put(key, waiting)
        self._writer.stop(key)

    def _tell(self, writer: CaptureWriter) -> None:
        for ended in writer.finished():
            key = (ended.row, ended.generation)
            if self._files.pop(key, None) is not None and self._table.generation[ended.row] == ended.generation:
                self.close(ended.row)  # it has ended by itself
            self._emit(ended)

    def _note_sent(self, row: int, data: bytes, now_ns: int) -> None:
        remote = self._remote_of(row)
        if remote is not None:
            self._note(row, now_ns, remote, data, inward=False)

    def _note(self, row: int, now_ns: int, remote: Address, data: bytes, *, inward: bool, port: int = 0) -> None:
        ours = (self._addresses[row], self._first_port + 2 * row + port)
        ends = (remote, ours) if inward else (ours, remote)
        self._files[row, int(self._table.generation[row])].append((now_ns, *ends, data))

    def _veiled(self, row: int, data: bytes) -> bytes:
        """An RTP packet without what must not be read: pressed keys, and all sound while it is to be blank."""
        if row in self._blank:
            return data[:HEADER].ljust(len(data), b"\0")
        if len(data) > HEADER and self._kinds[row, data[1] & 0x7F] == Kind.TELEPHONE_EVENT:
            return _without_key(data)
        return data


def _without_key(data: bytes) -> bytes:
    """A telephone event (RFC 4733 §2.3) whose number, the first of each four octets, is masked."""
    start = HEADER + 4 * (data[0] & 15)
    if data[0] & 0x10:  # RFC 3550 §5.3.1
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    masked = bytearray(data)
    masked[start::4] = MASKED_EVENT * len(range(start, len(data), 4))
    return bytes(masked)
