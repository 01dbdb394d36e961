"""The UDP sockets of every row: two on the RTP port, one on the RTCP port.

The listening socket sees what comes from anywhere, with its address: the slow way. Once the far end is known a second
socket on the same port is connected to it. The kernel prefers the connected one for packets of that far end (its
look-up scores a match of the remote address above a wildcard), so strangers never reach the fast way.
"""

import contextlib
import errno
import resource
import select
import socket
import sys
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sipagent.rtp.options import MediaOptions
from sipagent.rtp.packet import MAX_PACKET

Address = tuple[str, int]
Rows = NDArray[np.intp]

RECEIVE_BUFFER: Final = 1 << 18  # octets; a second of bursts
STRANGER_BUFFER: Final = 1 << 14
MAX_STRANGERS: Final = 256  # datagrams of the slow way per tick: a flood must not cost the others their deadline
DRAIN_LIMIT: Final = 1024
SO_MEMINFO: Final = 55  # <asm-generic/socket.h>: u4[9], since Linux 4.12
SK_MEMINFO_DROPS: Final = 8  # <linux/sock_diag.h>: which of them counts datagrams that found no room
FILES_OF_A_ROW: Final = 3
SPARE_FILES: Final = 64  # of the process, for all else: control, memory, recordings
_COUNT_MASK: Final = 0xFFFF_FFFF  # the kernel's count wraps


@dataclass(frozen=True, slots=True)
class Datagram:
    """A datagram of the slow way; `rtcp` tells which port of the row it came to."""

    row: int
    rtcp: bool
    data: bytes
    source: Address


class RowSockets:
    """Binds `options.rows` pairs of ports at once; a row whose ports are not to be had has port 0 and cannot be used.

    `refusal` is the errno of the first of those, 0 when there is none.
    """

    def __init__(self, options: MediaOptions) -> None:
        self._address = options.address
        self._family = socket.AF_INET6 if ":" in options.address else socket.AF_INET
        self._dscp = options.dscp
        self._first_port = options.first_port
        self._poll = select.epoll()
        self._listening: list[socket.socket | None] = []
        self._control: list[socket.socket | None] = []
        self._connected: list[socket.socket | None] = [None] * options.rows
        self._by_fd: dict[int, tuple[int, bool, socket.socket]] = {}
        self.refusal = 0
        allowed = _files_allowed() // FILES_OF_A_ROW
        self._dropped = [0] * options.rows  # of the row's sockets of now, as far as `take_dropped` has told of it
        for row in range(options.rows):
            pair = None
            if row < allowed:
                pair = self._bind_pair(options.first_port + 2 * row)
            else:
                self._note_refusal(errno.EMFILE)
            self._listening.append(pair[0] if pair else None)
            self._control.append(pair[1] if pair else None)

    @property
    def ports(self) -> tuple[int, ...]:
        """RTP port by row, 0 = could not be had."""
        return tuple(
            self._first_port + 2 * row if listening is not None else 0 for row, listening in enumerate(self._listening)
        )

    def open(self, row: int) -> int:
        """Listen for the row from now on; returns how many stale datagrams its ports held."""
        stale = 0
        for sock, rtcp in ((self._listening[row], False), (self._control[row], True)):
            if sock is None or sock.fileno() in self._by_fd:
                continue
            stale += _drain(sock)
            self._by_fd[sock.fileno()] = (row, rtcp, sock)
            self._poll.register(sock.fileno(), select.EPOLLIN)
        self._dropped[row] = self._count_dropped(row)
        return stale

    def connect(self, row: int, remote: Address) -> socket.socket | None:
        """The socket of the fast way to and from `remote`, replacing the one before; None when that is no address."""
        self._disconnect(row)
        sock = self._new_socket(RECEIVE_BUFFER)
        try:
            sock.bind((self._address, self._first_port + 2 * row))
            sock.connect(remote)
        except (OSError, OverflowError, TypeError, ValueError):
            sock.close()
            return None
        _drain(sock)  # what came from strangers between bind and connect
        self._connected[row] = sock
        self._dropped[row] += _dropped_by_kernel(sock)
        return sock

    def close(self, row: int) -> None:
        """Deaf from now on; the ports stay ours."""
        self._disconnect(row)
        for sock in (self._listening[row], self._control[row]):
            if sock is not None and self._by_fd.pop(sock.fileno(), None) is not None:
                self._poll.unregister(sock.fileno())

    def take_dropped(self, rows: Rows) -> NDArray[np.uint64]:
        """How many datagrams to `rows` [n] the kernel had no room for since the last call, or since `open`, u8[n]."""
        new = np.zeros(len(rows), np.uint64)
        for index, row in enumerate(rows.tolist()):
            count = self._count_dropped(row)
            new[index] = (count - self._dropped[row]) & _COUNT_MASK
            self._dropped[row] = count
        return new

    def close_all(self) -> None:
        """Give every port back."""
        for sock in (*self._listening, *self._control, *self._connected):
            if sock is not None:
                sock.close()
        self._poll.close()

    def receive(self) -> list[Datagram]:
        """What came the slow way since the last call, RTCP included."""
        datagrams: list[Datagram] = []
        while len(datagrams) < MAX_STRANGERS:
            ready = self._poll.poll(0, MAX_STRANGERS)
            if not ready:
                break
            for fd, _ in ready:
                row, rtcp, sock = self._by_fd[fd]
                try:
                    data, source = sock.recvfrom(MAX_PACKET)
                except OSError:  # BlockingIOError, or an ICMP error that belongs to an earlier send
                    continue
                datagrams.append(Datagram(row, rtcp, data, (source[0], source[1])))
        return datagrams

    def send_control(self, row: int, data: bytes, remote: Address) -> bool:
        """Send an RTCP packet from the row's RTCP port; False when the kernel would not take it."""
        sock = self._control[row]
        if sock is None:
            return False
        try:
            sock.sendto(data, remote)
        except OSError:
            return False
        return True

    def _disconnect(self, row: int) -> None:
        old, self._connected[row] = self._connected[row], None
        if old is not None:
            self._dropped[row] -= _dropped_by_kernel(old)
            old.close()

    def _count_dropped(self, row: int) -> int:
        sockets = (self._listening[row], self._control[row], self._connected[row])
        return sum(_dropped_by_kernel(sock) for sock in sockets if sock is not None)

    def _bind_pair(self, port: int) -> tuple[socket.socket, socket.socket] | None:
        # SO_REUSEPORT lets another process of the same user bind the port too: one that is taken already shows itself
        # only to a socket without that option.
        probe = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            probe.bind((self._address, port))
        except OSError as error:  # taken, forbidden, or not an address of this machine (any more)
            self._note_refusal(error.errno)
            return None
        finally:
            probe.close()
        listening, control = self._new_socket(STRANGER_BUFFER), self._new_socket(STRANGER_BUFFER, shared=False)
        try:
            listening.bind((self._address, port))
            control.bind((self._address, port + 1))
        except OSError as error:
            listening.close()
            control.close()
            self._note_refusal(error.errno)
            return None
        return listening, control

    def _note_refusal(self, number: int | None) -> None:
        self.refusal = self.refusal or number or errno.EIO

    def _new_socket(self, receive_buffer: int, *, shared: bool = True) -> socket.socket:
        sock = socket.socket(self._family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        with contextlib.suppress(OSError):  # a container may forbid it; the media flows all the same
            if self._family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, self._dscp << 2)
            else:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, self._dscp << 2)
        return sock


def _files_allowed() -> int:
    """How many sockets this process may open, when recordings and captures are to be possible as well."""
    try:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except OSError:  # a sandbox may forbid to ask (seccomp)
        return sys.maxsize
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(0, limit - SPARE_FILES)


def _dropped_by_kernel(sock: socket.socket) -> int:
    """How many datagrams the socket had no room for since it was made; 0 where the kernel does not tell."""
    try:  # twice as fast as contextlib.suppress, and called for every socket once a second
        memory = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * (SK_MEMINFO_DROPS + 1))
    except OSError:
        return 0
    return int.from_bytes(memory[4 * SK_MEMINFO_DROPS :], sys.byteorder)


def _drain(sock: socket.socket) -> int:
    count = 0
    with contextlib.suppress(BlockingIOError):
        while count < DRAIN_LIMIT:
            with contextlib.suppress(ConnectionError):
                sock.recv(1)
                count += 1
    return count
