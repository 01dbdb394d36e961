"""Sockets: UDP, TCP and TLS under one interface (RFC 3261 §18). Nothing else of the stack touches them."""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import structlog

from sipagent.errors import ConfigError
from sipagent.sip.connection import Connection
from sipagent.sip.flow import Flow
from sipagent.sip.header import MAX_PORT, bracketed
from sipagent.sip.public_address import StunQuery
from sipagent.sip.stun import is_stun
from sipagent.sip.tls import TlsSettings
from sipagent.sip.tls_accept import TlsAccept

MAX_CONNECTIONS = 2_000
CONNECT_S = 4.0
LOCAL_FOR_S = 1.0  # our own address is believed for so long; asking for it takes 9 µs
RECEIVE_BUFFER_BYTES = 1 << 20
_log = structlog.get_logger("sip")


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound address. `address` may be a wildcard."""

    protocol: str
    address: str
    port: int

    @property
    def wildcard(self) -> bool:
        """Bound to all addresses of its family."""
        return self.address in ("0.0.0.0", "::")

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    def __str__(self) -> str:
        return f"{self.protocol.lower()}:{bracketed(self.address)}:{self.port}"


class Transports:
    """All sockets of an engine. Received messages and broken connections are reported by the two callbacks."""

    def __init__(
        self,
        on_message: Callable[[bytes, Flow], None],
        on_lost: Callable[[Flow], None],
        public_address: str = "",
        tls: TlsSettings | None = None,
    ) -> None:
        self.on_message, self.on_lost = on_message, on_lost
        self.on_stun: Callable[[bytes, tuple[str, int]], None] = lambda data, source: None
        self.on_refused: Callable[[str], None] = lambda counter: None  # a TLS handshake that failed
        self._public, self._tls = public_address, tls or TlsSettings()
        self._listeners: list[Listener] = []
        self._udp: dict[int, asyncio.DatagramTransport] = {}  # by listener
        self._reopening: set[asyncio.Future[socket.socket]] = set()
        self._servers: list[asyncio.Server] = []
        self._connections: dict[int, Connection] = {}
        self._by_peer: dict[tuple[str, str, int, str], int] = {}
        self._local: dict[str, tuple[str, float]] = {}  # by far end: our address, and when we asked for it
        self._seen: dict[str, tuple[str, int]] = {}  # by far end: where it sees our UDP port, behind NAT
        self._public_port: int | None = None  # of our first UDP socket, when STUN has told it
        self._stun: StunQuery | None = None
        self._numbers = 0
        self._client_context: ssl.SSLContext | None = None

    async def listen(self, specifications: tuple[str, ...]) -> None:
        """Bind "udp:127.0.0.1:5060", "tcp:[::1]:5060" …; ConfigError when one cannot be bound."""
        for specification in specifications:
            protocol, host, port = parse_listen(specification)
            try:
                await self._bind(protocol, host, port)
            except OSError as error:
                raise ConfigError("sip.listen", f"{specification} cannot be bound: {error}", "free the port") from error

    def listening(self) -> tuple[str, ...]:
        """The bound addresses with their real ports."""
        return tuple(str(listener) for listener in self._listeners)

    @property
    def families(self) -> tuple[int, ...]:
        """The IP versions that we listen on, IPv4 first."""
        found = {6 if listener.family == socket.AF_INET6 else 4 for listener in self._listeners}
        return tuple(sorted(found)) or (4,)

    def udp_flow(self, host: str, port: int) -> Flow | None:
        """A flow by UDP; None when no listener has the address family."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        candidates = [i for i in self._udp if self._listeners[i].family == family]
        if not candidates:
            return None
        local = self.local_address(host)
        best = next(
            (i for i in candidates if self._listeners[i].address == local),
            next((i for i in candidates if self._listeners[i].wildcard), candidates[0]),
        )
        return Flow("UDP", (host, port), self._advertised(self._listeners[best], host), 0, best)

    @property
    def public(self) -> str:
        """The address that was configured or learnt, "" when there is none."""
        return self._public

    async def discover(self, server: tuple[str, int]) -> tuple[str, int] | None:
        """Ask a STUN server (numeric) how it sees our first UDP socket, and go by that from now on."""
        if not self._udp:
            return None
        wire = next(iter(self._udp.values()))
        self._stun = StunQuery(lambda data: wire.sendto(data, server))
        found = await self._stun.ask()
        self._stun = None
        if found is not None:
            self._public, self._public_port = found
        return found

    def take_stun(self, data: bytes, source: tuple[str, int]) -> None:
        """A STUN datagram that came to a SIP socket."""
        if self._stun is not None:
            self._stun.receive(data)
        self.on_stun(data, source)

    def set_seen(self, host: str, address: tuple[str, int] | None) -> None:
        """A far end sees us elsewhere than our sockets say (None = no longer)."""
        if address is None:
            self._seen.pop(host, None)
        else:
            self._seen[host] = address

    def expected_flow(self, protocol: str, host: str) -> Flow:
        """What a flow to a host will look like from the outside; host "" = any."""
        listener = next((x for x in self._listeners if x.protocol == protocol), None)
        port = listener.port if listener else 5061 if protocol == "TLS" else 5060
        if protocol == "UDP" and self._public_port is not None:
            port = self._public_port
        if listener is not None and not listener.wildcard and not self._public:
            return Flow(protocol, (host, 0), (listener.address, port))
        return Flow(protocol, (host, 0), (self.local_address(host or "192.0.2.1"), port))

    def open_flow(self, protocol: str, host: str, port: int, name: str = "") -> Flow | None:
        """An open connection to that address."""
        number = self._by_peer.get((protocol, host, port, name))
        connection = self._connections.get(number) if number is not None else None
        return connection.flow if connection is not None else None

    async def connect(self, protocol: str, host: str, port: int, name: str = "") -> Flow:
        """A connection, made anew when none is open. `name` is checked against a TLS certificate. Raises OSError."""
        found = self.open_flow(protocol, host, port, name)
        if found is not None:
            return found
        context = None
        if protocol == "TLS":
            if self._client_context is None:
                self._client_context = self._tls.client_context()
            context = self._client_context
        loop = asyncio.get_running_loop()
        bind = self._bind_address(protocol, host)
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, protocol, outgoing=True),
                    host,
                    port,
                    ssl=context,
                    server_hostname=(name or host) if context else None,
                    local_addr=(bind, 0) if bind else None,
                )
        except TimeoutError as error:
            raise OSError(f"no connection to {host}:{port} within {CONNECT_S} s") from error
        if connection.flow is None:
            raise OSError(f"the connection to {host}:{port} broke at once")
        self._by_peer[(protocol, host, port, name)] = connection.flow.connection
        return connection.flow

    def is_open(self, flow: Flow) -> bool:
        """Whether bytes can be put on a flow."""
        return flow.listener in self._udp if flow.protocol == "UDP" else flow.connection in self._connections

    def send(self, flow: Flow, data: bytes) -> bool:
        """Put bytes on a flow; False when it is gone."""
        if flow.protocol == "UDP":
            transport = self._udp.get(flow.listener)
            if transport is None or transport.is_closing() or not _can_be_sent_to(flow.remote):
                return False
            transport.sendto(data, flow.remote)
            return True
        connection = self._connections.get(flow.connection)
        return connection is not None and connection.send(data)

    def local_address(self, host: str) -> str:
        """Our address on the way to a host (numeric).

        The kernel is asked again each second: an interface may get its address after our start, and another one later.
        """
        if self._public:
            return self._public
        if host in self._seen:
            return self._seen[host][0]
        now = time.monotonic()
        address, asked_at = self._local.get(host, ("", 0.0))
        if not address or now - asked_at > LOCAL_FOR_S:
            if len(self._local) > 4096:
                self._local.clear()  # strangers must not fill it
            address = _source_address(host)
            self._local[host] = address, now
        return address

    async def close(self) -> None:
        """Close everything."""
        for task in self._reopening:
            task.cancel()
        for server in self._servers:
            server.close()
        for connection in list(self._connections.values()):
            connection.close()
        for transport in self._udp.values():
            transport.close()
        self._udp.clear()
        await asyncio.sleep(0)  # lets the transports report their end

    async def _bind(self, protocol: str, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        number = len(self._listeners)
        if protocol == "UDP":
            bound = await self._open_udp(number, host, port)
        else:
            server = await loop.create_server(self._acceptor(protocol), host, port, backlog=512)
            bound = server.sockets[0]
            self._servers.append(server)
        address, real_port = bound.getsockname()[:2]
        self._listeners.append(Listener(protocol, address, real_port))

    async def _open_udp(self, number: int, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self, number), local_addr=(host, port))
        bound: socket.socket = transport.get_extra_info("socket")
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._udp[number] = transport
        return bound

    def reopen(self, number: int, error: Exception) -> None:
        """asyncio has given up the socket of a listener: without it nobody could call us any more."""
        listener = self._listeners[number]
        _log.error("listener_lost", listener=str(listener), error=str(error))
        task = asyncio.ensure_future(self._open_udp(number, listener.address, listener.port))
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)

    def _acceptor(self, protocol: str) -> Callable[[], asyncio.Protocol]:
        """Makes what takes a connection that somebody opens to us."""

        def plain() -> Connection:
            return Connection(self, protocol, outgoing=False)

        if protocol != "TLS":
            return plain
        context = self._tls.server_context()
        return lambda: TlsAccept(context, plain, lambda counter: self.on_refused(counter))

    def _advertised(self, listener: Listener, remote_host: str) -> tuple[str, int]:
        if not self._public and listener.protocol == "UDP" and remote_host in self._seen:
            return self._seen[remote_host]
        if self._public_port is not None and listener.protocol == "UDP":
            return self._public, self._public_port
        if self._public or listener.wildcard:
            return self.local_address(remote_host), listener.port
        return listener.address, listener.port

    def _bind_address(self, protocol: str, host: str) -> str:
        """Connect from the address that we listen on, so that the far end knows us by one address."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = [x for x in self._listeners if x.family == family and not x.wildcard]
        same = [x for x in bound if x.protocol == protocol] or bound
        return same[0].address if same and len(bound) == len(self._listeners) else ""

    def opened(self, connection: Connection, remote: tuple[str, int], local: tuple[str, int]) -> Flow | None:
        """A connection is there; gives its flow, None when there are too many."""
        if len(self._connections) >= MAX_CONNECTIONS:
            return None
        self._numbers += 1
        number = self._numbers
        listener = next((x for x in self._listeners if x.protocol == connection.protocol), None)
        if listener is not None:
            local = (local[0] if not self._public else self._public, listener.port)
        flow = Flow(connection.protocol, remote, local, number)
        self._connections[number] = connection
        if not connection.outgoing:
            self._by_peer.setdefault((flow.protocol, *remote, ""), number)
        return flow

    def closed(self, flow: Flow) -> None:
        """A connection is gone."""
        if self._connections.pop(flow.connection, None) is not None:
            for key in [key for key, number in self._by_peer.items() if number == flow.connection]:
                del self._by_peer[key]
            self.on_lost(flow)


@lru_cache(4096)
def _can_be_sent_to(remote: tuple[str, int]) -> bool:
    """asyncio closes a UDP socket for good when it is given an address that is none."""
    try:
        ipaddress.ip_address(remote[0])
    except ValueError:
        return False
    return 0 < remote[1] <= MAX_PORT


class _Datagrams(asyncio.DatagramProtocol):
    """One UDP socket."""

    def __init__(self, owner: Transports, number: int) -> None:
        self._owner, self._number = owner, number

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        """One datagram is one message; CRLFs alone keep a NAT binding open (RFC 5626)."""
        if len(data) <= 4 and not data.strip(b"\r\n\0"):
            return
        if is_stun(data):
            self._owner.take_stun(data, (source[0], source[1]))
            return
        listener = self._owner._listeners[self._number]
        host, port = source[0], source[1]
        local = self._owner._advertised(listener, host)
        self._owner.on_message(data, Flow("UDP", (host, port), local, 0, self._number))

    def connection_lost(self, error: Exception | None) -> None:
        """None = we have closed it."""
        if error is not None:
            self._owner.reopen(self._number, error)

    def error_received(self, error: Exception) -> None:
        """ICMP says that somebody is not there; the transaction's own timers find out who."""


def parse_listen(specification: str) -> tuple[str, str, int]:
    """Protocol, host and port of a listener; ConfigError when it is none."""
    protocol, _, rest = specification.partition(":")
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError as error:
        raise ConfigError("sip.listen", f"{specification!r} is no listener", "write udp:ADDRESS:PORT") from error
    if protocol.upper() not in ("UDP", "TCP", "TLS") or not 0 <= number <= 65535:
        raise ConfigError("sip.listen", f"{specification!r} is no listener", "use udp, tcp or tls")
    return protocol.upper(), host, number


def _source_address(host: str) -> str:
    """The address that the kernel would send from; no packet leaves."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
            address: str = probe.getsockname()[0]
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"
        return address
