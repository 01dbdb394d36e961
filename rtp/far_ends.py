"""Where the far end of each row is: as its SDP says, or where its packets come from; and what comes from elsewhere.

Packets from the far end go the fast way, for all rows at once. What comes to a row's listening sockets goes through
here one by one: RTCP, packets that came before the keys, far ends behind a NAT, and strangers.
"""

import ipaddress
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.capture_taps import CaptureTaps
from sipagent.rtp.control import Event, Latched, SetStream
from sipagent.rtp.io import PacketIo
from sipagent.rtp.latch import Address, SourcePolicy
from sipagent.rtp.packet import MAX_PACKET, Batch
from sipagent.rtp.receive import Receiver
from sipagent.rtp.report_path import ReportPath
from sipagent.rtp.rtcp import ControlReports
from sipagent.rtp.rtcp_packet import FIRST_TYPE, LAST_TYPE
from sipagent.rtp.sockets import Datagram, RowSockets
from sipagent.rtp.srtp import SrtpRows
from sipagent.rtp.table import COUNTER, CallTable
from sipagent.rtp.turns import Turns


class FarEnds:
    """The far ends of all rows of `table`; `media_since_ns` i8[rows] is when each was named last."""

    def __init__(
        self,
        table: CallTable,
        latch_packets: int,
        sockets: RowSockets,
        io: PacketIo,
        turns: Turns,
        receiver: Receiver,
        srtp: SrtpRows,
        report_path: ReportPath,
        reports: ControlReports,
        capture: CaptureTaps,
        emit: Callable[[Event], None],
    ) -> None:
        self._table = table
        self._latch_packets = latch_packets
        self._sockets = sockets
        self._io = io
        self._turns = turns
        self._receiver = receiver
        self._srtp = srtp
        self._report_path = report_path
        self._reports = reports
        self._capture = capture
        self._emit = emit
        self._policies: dict[int, SourcePolicy] = {}
        self._offered: dict[int, Address] = {}  # the far end as the SDP named it
        self.media_since_ns: NDArray[np.int64] = np.zeros(table.rows, np.int64)
        self._latches = table.counters[:, COUNTER["latches"]]
        self._dropped = table.counters[:, COUNTER["dropped_source"]]

    def remote(self, row: int) -> Address | None:
        """Where the row's packets go and come from."""
        policy = self._policies.get(row)
        return policy.remote if policy is not None else None

    def name(self, command: SetStream, payload_types: Iterable[int], now_ns: int) -> bool:
        """Follow what an offer/answer says; False when nothing can be sent there."""
        row, offered = command.row, (_canonical(command.remote_address), command.remote_port)
        allowed = frozenset(_canonical(address) for address in (*command.allowed, command.remote_address))
        before = self._policies.get(row)
        moved = self._offered.get(row) != offered
        # A hold by 0.0.0.0 names nobody: the far end is where it was, and goes on from there.
        remote = offered if before is None or (moved and is_usable(command)) else before.remote
        self._policies[row] = SourcePolicy(remote, allowed, frozenset(payload_types), self._latch_packets)
        self.media_since_ns[row] = now_ns
        if not (is_usable(command) and moved):
            return True
        self._offered[row] = offered
        self._turns.forget(row)
        connected = self._connect(row, offered)
        self._receiver.follow_anyone(row)
        return connected

    def name_reports(self, command: SetStream, now_ns: int) -> None:
        """Follow where an offer/answer wants RTCP."""
        row, port = command.row, command.rtcp_port
        if is_usable(command):
            address = _canonical(command.rtcp_address or command.remote_address)
            self._report_path.set_remote(row, (address, port) if port else None)
            self._reports.begin(row, now_ns)
        else:
            self._report_path.forget(row)

    def forget(self, row: int) -> None:
        """The row's call is over."""
        self._report_path.forget(row)
        self._policies.pop(row, None)
        self._offered.pop(row, None)
        self._turns.forget(row)
        self._io.remove(row)
        self._sockets.close(row)

    def receive(self, datagram: Datagram, now_ns: int) -> None:
        """A datagram of a listening socket."""
        row, data = datagram.row, datagram.data
        policy = self._policies.get(row)
        if policy is None:
            if self._table.active[row] and not datagram.rtcp:
                self._srtp.early.hold(datagram, now_ns)
        elif datagram.rtcp or (len(data) >= 8 and FIRST_TYPE <= data[1] <= LAST_TYPE):
            self._report_path.receive(datagram, policy.allowed, self._reports, now_ns)
        elif not self._srtp.secured[row]:
            self._receive_clear(datagram, policy, data, now_ns)
        elif datagram.source[0] not in policy.allowed:  # a stranger must not make us decrypt
            self._dropped[row] += np.uint64(1)
        else:
            clear = self._srtp.unprotect_one(row, data, now_ns, control=False)
            if clear is not None:  # nor may a forger be latched to
                self._receive_clear(datagram, policy, clear, now_ns)

    def _receive_clear(self, datagram: Datagram, policy: SourcePolicy, data: bytes, now_ns: int) -> None:
        row = datagram.row
        if self._capture:
            self._capture.heard(row, datagram.source, data, now_ns)
        if self._srtp.secured[row] and datagram.source == policy.remote:
            self._receiver.receive(_batch(row, data), now_ns)
            return
        heard_ns = int(self._table.rx_last_ns[row])
        if heard_ns < self.media_since_ns[row]:
            heard_ns = 0
        continues = len(data) >= 12 and self._receiver.continues(
            row, int.from_bytes(data[8:12], "big"), int.from_bytes(data[2:4], "big")
        )
        packets = policy.stranger(datagram.source, data, now_ns, heard_ns=heard_ns, continues=continues)
        if packets is None:
            self._dropped[row] += np.uint64(1)
            return
        # The packets of its probation were not counted as refused only to be heard after all.
        self._dropped[row] -= np.uint64(min(len(packets) - 1, int(self._dropped[row])))
        self._latches[row] += np.uint64(1)
        self._connect(row, policy.remote)
        self._emit(Latched(row, int(self._table.generation[row]), *policy.remote))
        for packet in packets:
            self._receiver.receive(_batch(row, packet), now_ns)

    def _connect(self, row: int, remote: Address) -> bool:
        self._io.remove(row)
        sock = self._sockets.connect(row, remote)
        if sock is not None:
            self._io.add(row, sock)
        return sock is not None


def is_usable(command: SetStream) -> bool:
    """Whether media can be sent to where the SDP says (RFC 3264 §5.1: port 0 and address 0.0.0.0 say no)."""
    return command.remote_port > 0 and _canonical(command.remote_address) not in ("0.0.0.0", "::")


def _canonical(address: str) -> str:
    """The spelling that the kernel uses for an IP address; host names stay as they are and match nothing."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address


def _batch(row: int, packet: bytes) -> Batch:
    data = np.zeros((1, MAX_PACKET), np.uint8)
    data[0, : len(packet)] = np.frombuffer(packet, np.uint8)
    return Batch(np.array([row]), data, np.array([len(packet)]))
