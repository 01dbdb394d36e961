"""User agents on a network of virtual time: seeded loss, delay and duplication, no sockets, no sleeping."""

import heapq
import math
import random
from collections.abc import Callable
from typing import TypeVar

from sipagent.errors import ParseError
from sipagent.sip import header
from sipagent.sip.core import UserAgent
from sipagent.sip.engine import EngineEvent, EngineSettings, TrunkAccount
from sipagent.sip.flow import Flow, Send
from sipagent.sip.stun import is_stun
from sipagent.sip.timing import TimerSettings

SDP = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
SDP2 = SDP.replace(b"o=- 1 1", b"o=- 1 2")
E = TypeVar("E")


class Host:
    """One user agent with an address. `react` is called with each event, as a service would be."""

    def __init__(self, net: "VirtualNetwork", address: str, settings: EngineSettings, trunk_of: dict[str, str]) -> None:
        self.net, self.address, self.trunk_of = net, address, trunk_of
        self.events: list[tuple[float, EngineEvent]] = []
        self.react: Callable[[EngineEvent], None] | None = None
        self.sent: list[tuple[float, str]] = []
        self.received: list[tuple[float, str]] = []
        self.protocol = "UDP"
        rng = random.Random(f"{net.seed}{address}")
        self.agent = UserAgent(settings, self, lambda source: trunk_of.get(source, ""), TimerSettings(), rng)

    def flow_for(self, uri: str, size: int) -> Flow | None:
        try:
            host, port = header.host_port(uri)
        except ParseError:
            return None
        return Flow(self.protocol, (host, port or 5060), (self.address, 5060))

    def is_open(self, flow: Flow) -> bool:
        return True

    @property
    def now(self) -> float:
        return self.net.now

    def of(self, kind: type[E]) -> list[E]:
        """The events of a kind."""
        return [event for _, event in self.events if isinstance(event, kind)]

    def requests(self, method: str) -> list[str]:
        """Requests that went out, repetitions too."""
        return [text for _, text in self.sent if text.startswith(f"{method} ")]

    def responses(self, status: int) -> list[str]:
        return [text for _, text in self.sent if text.startswith(f"SIP/2.0 {status} ")]


class VirtualNetwork:
    """Delivers what the hosts send; `drop(source, text)` decides about single messages."""

    def __init__(self, seed: int = 1, loss: float = 0.0, delay_s: float = 0.02, jitter_s: float = 0.0) -> None:
        self.seed, self.loss, self.delay_s, self.jitter_s = seed, loss, delay_s, jitter_s
        self.now = 1000.0
        self.hosts: dict[str, Host] = {}
        self.targets: dict[str, tuple[str, ...]] = {}  # servers of an address, the first is the address itself
        self.drop: Callable[[str, str], bool] = lambda source, text: False
        self.stun: dict[str, Callable[[bytes], bytes | None]] = {}  # what answers STUN at an address
        self._rng = random.Random(seed)
        self._queue: list[tuple[float, int, str, str, bytes]] = []
        self._count = 0

    def host(
        self, address: str, *trunks: TrunkAccount, trunk_of: dict[str, str] | None = None, **settings: object
    ) -> Host:
        made = EngineSettings(listen=(), trunks=trunks, **settings)  # type: ignore[arg-type]
        self.hosts[address] = Host(self, address, made, trunk_of or {})
        return self.hosts[address]

    def inject(self, source: str, destination: str, data: bytes, delay_s: float = 0.0) -> None:
        """A message out of nowhere."""
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._count, source, destination, data))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self.settle()
        while True:
            due = [host.agent.deadline for host in self.hosts.values() if host.agent.deadline is not None]
            at = min([*due, *(self._queue[0][:1] if self._queue else ())], default=math.inf)
            if at > end:
                break
            self.now = max(self.now, at)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, source, destination, data = heapq.heappop(self._queue)
                self._deliver(source, destination, data)
                self.settle()
            for host in self.hosts.values():
                host.agent.on_deadline(self.now)
            self.settle()
        self.now = end

    def settle(self) -> None:
        """Take out what the agents want sent, tell their events."""
        busy = True
        while busy:
            busy = False
            for host in self.hosts.values():
                actions, events = host.agent.drain()
                busy = busy or bool(actions or events)
                for action in actions:
                    if isinstance(action, Send):
                        self._send(host, action)
                        continue
                    servers = self.targets.get(header.host_port(action.uri)[0], ())
                    left = [one for one in servers if (host.protocol, one, 5060) not in action.tried]
                    flow = host.flow_for(f"sip:{left[0]}", 0) if left else None
                    if flow is None:
                        host.agent.layer.clients.flow_failed(action.key, self.now)  # the only target was tried already
                    else:
                        host.agent.layer.clients.flow_ready(action.key, flow, self.now)
                for event in events:
                    host.events.append((self.now, event))
                    if host.react is not None:
                        host.react(event)

    def _deliver(self, source: str, destination: str, data: bytes) -> None:
        host = self.hosts.get(destination)
        if host is not None and is_stun(data):
            host.agent.bindings.receive_stun(data, (source, 5060), self.now)
        elif host is not None:
            host.received.append((self.now, data.decode("utf-8", "replace")))
            host.agent.receive(data, Flow(host.protocol, (source, 5060), (destination, 5060)), self.now)

    def _send(self, host: Host, action: Send) -> None:
        text = action.data.decode("utf-8", "replace")
        host.sent.append((self.now, text))
        remote = action.flow.remote[0]
        if is_stun(action.data) and remote in self.stun:
            answer = self.stun[remote](action.data)
            if answer is not None:
                self.inject(remote, host.address, answer, self.delay_s)
            return
        if self._rng.random() < self.loss or self.drop(host.address, text):
            return
        self.inject(host.address, action.flow.remote[0], action.data, self.delay_s + self._rng.random() * self.jitter_s)
