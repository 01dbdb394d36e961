"""One TCP or TLS connection: bytes in, whole messages out, and proof that the far end is there (RFC 5626 §4.4.1)."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from sipagent.sip.flow import Flow
from sipagent.sip.framing import StreamFramer

MAX_UNSENT_BYTES = 1_048_576  # a far end that does not read is dropped
PARTIAL_MESSAGE_S = 32.0  # a message that trickles in for longer ends its connection
PING_S = 100.0  # RFC 5626 §4.4.1: 95 to 120 s on a connection that we opened
PONG_S = 10.0


class ConnectionOwner(Protocol):
    """Who keeps the connections."""

    on_message: Callable[[bytes, Flow], None]

    def opened(self, connection: "Connection", remote: tuple[str, int], local: tuple[str, int]) -> Flow | None:
        """A connection is there; gives its flow, None when there are too many."""

    def closed(self, flow: Flow) -> None:
        """A connection is gone."""


class Connection(asyncio.Protocol):
    """One TCP or TLS connection, opened by either side."""

    def __init__(self, owner: ConnectionOwner, protocol: str, outgoing: bool) -> None:
        self.protocol, self.outgoing = protocol, outgoing
        self.flow: Flow | None = None
        self._owner = owner
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._keepalive: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The flow begins."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        remote, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if remote is not None and local is not None:
            self.flow = self._owner.opened(self, (remote[0], remote[1]), (local[0], local[1]))
        if self.flow is None:
            transport.abort()
        elif self.outgoing:
            self._plan_ping()

    def data_received(self, data: bytes) -> None:
        """Cut into messages and hand them on."""
        if self.flow is None:
            return
        self._cancel_patience()
        pings = self._framer.pings
        messages = self._framer.feed(data)
        if self._framer.pings > pings:
            self.send(b"\r\n")
        for message in messages:
            self._owner.on_message(message, self.flow)
        if self._framer.broken:
            self.close()
        elif self._framer.partial:
            self._patience = asyncio.get_running_loop().call_later(PARTIAL_MESSAGE_S, self._lose_patience)
        if self.outgoing and data:
            self._plan_ping()

    def connection_lost(self, error: Exception | None) -> None:
        """The flow ends."""
        self._cancel_patience()
        if self._keepalive is not None:
            self._keepalive.cancel()
        if self.flow is not None:
            self._owner.closed(self.flow)

    def send(self, data: bytes) -> bool:
        """Write; False when the connection is closing or its far end does not read."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._transport.abort()
            return False
        self._transport.write(data)
        return True

    def close(self) -> None:
        """Close after what is written."""
        if self._transport is not None:
            self._transport.close()

    def _lose_patience(self) -> None:
        if self._framer.partial:
            self.close()

    def _cancel_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _plan_ping(self) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._keepalive = asyncio.get_running_loop().call_later(PING_S, self._ping)

    def _ping(self) -> None:
        """RFC 5626 §4.4.1: a double CRLF; whatever comes back within 10 s shows that the flow lives."""
        if self.send(b"\r\n\r\n"):
            self._keepalive = asyncio.get_running_loop().call_later(PONG_S, self._no_pong)

    def _no_pong(self) -> None:
        if self._transport is not None:
            self._transport.abort()
