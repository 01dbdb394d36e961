"""The transaction layer: messages find their transaction, on the client's side or the server's (RFC 3261 §17, §18).

It opens no socket. What is to be done leaves through `drain`, flows that need the network come back by
`clients.flow_ready`.
"""

import random
from collections import Counter
from collections.abc import Callable

from sipmessage import Response

from sipagent.errors import ParseError, RemoteError
from sipagent.sip import message
from sipagent.sip.client_side import ClientSide
from sipagent.sip.flow import Flow
from sipagent.sip.ladder import Message
from sipagent.sip.server_side import ServerSide
from sipagent.sip.timing import TimerSettings, earliest
from sipagent.sip.transaction_user import Network, TransactionUser
from sipagent.sip.wire import Action, Wire


class TransactionLayer:
    """All transactions of an engine."""

    def __init__(
        self,
        user: TransactionUser,
        timers: TimerSettings,
        network: Network,
        rng: random.Random,
        user_agent: str,
        trace: Callable[[str, Message], None],
    ) -> None:
        self.timers, self.rng, self.network = timers, rng, network
        self._wire = Wire(rng, user_agent, trace)
        self.stats: Counter[str] = self._wire.stats
        self.clients = ClientSide(user, self._wire, timers, network)
        self.servers = ServerSide(user, self._wire, timers)

    def receive(self, data: bytes, flow: Flow, now: float, fault: RemoteError | None = None) -> None:
        """Bytes of one message; with a `fault` that was found before, a request is refused with that."""
        try:
            received, problem = message.parse_message(data, datagram=not flow.reliable)
            self.stats["messages_in"] += 1
            seen = Message(now, "in", data, flow.protocol, flow.local, flow.remote)
            self._wire.trace(message.call_id(received), seen)
            if isinstance(received, Response):
                self.clients.receive(received, now)
            else:
                self.servers.receive(received, fault or problem, flow, now)
        except ParseError:
            self.stats["malformed"] += 1

    @property
    def deadline(self) -> float | None:
        """When `on_deadline` wants to be called."""
        return earliest(self.clients.deadline, self.servers.deadline)

    def on_deadline(self, now: float) -> None:
        """Run what is due."""
        self.clients.on_deadline(now)
        self.servers.on_deadline(now)

    def send_bytes(self, flow: Flow, data: bytes) -> None:
        """What is no SIP message: a keepalive."""
        self._wire.send_bytes(flow, data)

    def token(self, size: int = 12) -> str:
        """Random text for tags, branches and Call-IDs (RFC 3261 §19.3)."""
        return self._wire.token(size)

    def drain(self) -> list[Action]:
        """What is to be sent and located, once."""
        return self._wire.drain()

    @property
    def transactions(self) -> int:
        """How many are alive."""
        return len(self.clients) + len(self.servers)

    def unproven(self) -> None:
        """A server has answered as if it knew a password, and does not (RFC 7616 §3.5)."""
        self.stats["rspauth_wrong"] += 1
