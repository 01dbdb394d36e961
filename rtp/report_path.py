"""The way of RTCP: from where a row's reports are believed, and where its own go.

On a port of its own, or on that of RTP (RFC 5761). Reports are heard from the addresses that may send media, and
answered to the port that they come from (symmetric RTCP, RFC 4961); until then to the one that the SDP names.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from sipagent.rtp.latch import Address
from sipagent.rtp.rtcp import ControlReports
from sipagent.rtp.sockets import Datagram
from sipagent.rtp.srtp import SrtpRows
from sipagent.rtp.table import COUNTER, CallTable


class Seen(Protocol):
    """Who wants to see reports: row, packet, address (None = that of the row's media), and which way it goes."""

    def __call__(self, row: int, data: bytes, remote: Address | None, *, inward: bool) -> None:
        """A report is about to leave, or has come."""


class ReportPath:
    """Addresses of all rows; `send_shared` and `send_own` put a datagram on the RTP or the RTCP port.

    `seen` is told of every report in the clear.
    """

    def __init__(
        self,
        table: CallTable,
        srtp: SrtpRows,
        seen: Seen,
        send_shared: Callable[[int, bytes], None],
        send_own: Callable[[int, bytes, Address], bool],
    ) -> None:
        self._table = table
        self._srtp = srtp
        self._seen = seen
        self._send_shared = send_shared
        self._send_own = send_own
        self._remote: dict[int, Address | None] = {}  # None = on the port of RTP

    def set_remote(self, row: int, remote: Address | None) -> None:
        """Where the row's reports go from now on; None = where its media goes."""
        self._remote[row] = remote

    def forget(self, row: int) -> None:
        """The row reports to nobody."""
        self._remote.pop(row, None)

    def send(self, row: int, data: bytes) -> None:
        """Send a compound packet."""
        if row not in self._remote:
            return
        remote = self._remote[row]
        self._seen(row, data, remote, inward=False)
        data = self._srtp.protect_one(row, data, control=True)
        if remote is None:
            self._send_shared(row, data)
        elif not self._send_own(row, data, remote):
            self._count(row, "send_errors")

    def receive(self, datagram: Datagram, allowed: frozenset[str], reports: ControlReports, now_ns: int) -> None:
        """A datagram that came to the RTCP port, or as RTCP to the other one without being connected."""
        row, data = datagram.row, datagram.data
        if datagram.source[0] not in allowed:
            self._count(row, "dropped_source")
            return
        if self._srtp.secured[row]:
            clear = self._srtp.unprotect_one(row, data, now_ns, control=True)
            if clear is None:
                return
            data = clear
        self._seen(row, data, datagram.source if datagram.rtcp else None, inward=True)
        if not reports.receive(row, data, now_ns):
            self._count(row, "dropped_malformed")
        elif datagram.rtcp and self._remote.get(row) is not None:
            self._remote[row] = datagram.source

    def _count(self, row: int, name: str) -> None:
        self._table.counters[row, COUNTER[name]] += np.uint64(1)
