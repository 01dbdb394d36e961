"""Every SIP message, its secrets masked, to a capture server by HEP: datagrams that nobody waits for."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily

from sipagent.service.config.tree import Hep
from sipagent.sip.engine import SipEngine
from sipagent.sip.hep import encode
from sipagent.sip.ladder import Message

log = structlog.get_logger(__name__)

RETRY_S: Final = 30.0  # a name that cannot be resolved is tried again
COUNTERS: Final = ("sent", "dropped")


class HepExport:
    """Sends what the engine's flight log sees. Until the server is known, and while nothing listens, it is dropped."""

    def __init__(self, settings: Hep, engine: SipEngine) -> None:
        self._settings = settings
        self._engine = engine
        self._socket: socket.socket | None = None
        self._search: asyncio.Task[None] | None = None
        self._clock_offset_s = time.time() - time.monotonic()
        self.counts: Counter[str] = Counter()

    def start(self) -> None:
        """Begin; a server named by its address is known at once."""
        if not self._settings.server:
            return
        self._engine.observe(self._send)
        try:
            self._socket = _connected(
                *socket.getaddrinfo(*self._server(), type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
            )
        except OSError:  # a name
            self._search = asyncio.ensure_future(self._find())

    def stop(self) -> None:
        """Send nothing more."""
        if self._search is not None:
            self._search.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def metrics(self) -> Iterator[Metric]:
        """What has become of the messages."""
        if self._settings.server:
            family = CounterMetricFamily("sipagent_hep", "SIP messages for the capture server", labels=["what"])
            for name in COUNTERS:
                family.add_metric([name], self.counts[name])
            yield family

    def _server(self) -> tuple[str, int]:
        host, _, port = self._settings.server.removeprefix("udp:").rpartition(":")
        return host.strip("[]"), int(port)

    async def _find(self) -> None:
        loop = asyncio.get_running_loop()
        while self._socket is None:
            try:
                self._socket = _connected(*(await loop.getaddrinfo(*self._server(), type=socket.SOCK_DGRAM))[0])
            except OSError as error:
                log.warning("the HEP server is not found", server=self._settings.server, problem=str(error))
                await asyncio.sleep(RETRY_S)

    def _send(self, handle: str, call_id: str, message: Message) -> None:
        at = message.at + self._clock_offset_s
        data = encode(message, call_id, at, self._settings.capture_id, self._settings.password)
        try:
            if self._socket is None:
                raise BlockingIOError
            self._socket.send(data)
        except OSError:  # its queue is full, or nothing listens there: signalling does not wait for those who watch
            self.counts["dropped"] += 1
        else:
            self.counts["sent"] += 1


def _connected(family: int, kind: int, protocol: int, name: str, address: Any) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    try:
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made
